"""The kinds of columns, and figures as cells."""

from __future__ import annotations

from exai_actors.core.observe.query import Kind

TEXT, COUNT, TOTAL = Kind.TEXT, Kind.COUNT, Kind.TOTAL
SECONDS, SHARE, FLAG, BYTES = Kind.SECONDS, Kind.SHARE, Kind.FLAG, Kind.BYTES


def share(part: float, whole: float) -> float | None:
    return round(part / whole, 3) if whole else None


def instant(seconds: float) -> float:
    """To the millisecond, after days too: instants are compared with a log."""
    return round(seconds, 3)


def rounded(seconds: float) -> float:
    """With three digits that mean something: figures that look different are different."""
    return float(f"{seconds:.3g}")


def rounded_if(seconds: float | None) -> float | None:
    return None if seconds is None else rounded(seconds)
