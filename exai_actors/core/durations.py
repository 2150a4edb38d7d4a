"""Writes durations for people."""

from __future__ import annotations


def format_seconds(seconds: float) -> str:
    """``0.25 s``, ``3.5 s``, ``99,999 s``: three digits or whole seconds, never a power of ten."""
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.3g} s"
