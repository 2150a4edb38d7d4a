"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path


def path_of(written: str) -> Path:
    """The path, with a leading ``~`` replaced where it is known whose home that is."""
    try:
        return Path(written).expanduser()
    except RuntimeError:
        return Path(written)
