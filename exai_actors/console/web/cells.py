"""Writes the cells of a table for people; ``static/cells.js`` does the same in the browser."""

from __future__ import annotations

from exai_actors.core.observe.query import Kind
from exai_actors.core.observe.tables import Cell

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def written(cell: Cell, kind: str) -> str:
    """The text of a cell; empty if there is nothing to say."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    match kind:
        case Kind.SECONDS:
            return duration(cell)
        case Kind.SHARE:
            return share(cell)
        case "bytes":
            return size(cell)
        case _:
            return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.6g}"


def share(part: float) -> str:
    """``50 %``, ``7.5 %``, ``0.04 %``."""
    size_ = abs(part)
    digits = 0 if size_ == 0 or size_ >= 0.1 else 1 if size_ >= 0.01 else 2
    return f"{100 * part:.{digits}f} %"


def duration(seconds: float) -> str:
    """``50 µs``, ``2 ms``, ``3.25 s``, ``4 m 05 s``, ``2 h 03 m``, ``3 d 04 h``."""
    size_ = abs(seconds)
    if size_ == 0:
        return "0 s"
    if size_ < 0.9995:
        milliseconds = 1000 * seconds
        if abs(milliseconds) < 0.0995:
            return f"{1000 * milliseconds:.0f} µs"
        return f"{milliseconds:.0f} ms" if abs(milliseconds) >= 9.95 else f"{milliseconds:.1f} ms"
    if size_ < 99.95:
        return f"{seconds:.1f} s" if size_ >= 9.995 else f"{seconds:.2f} s"
    sign, whole = "-" if seconds < 0 else "", round(size_)
    for unit, smaller, step, part in (("d", "h", 86_400, 3_600), ("h", "m", 3_600, 60)):
        if whole >= step:
            return f"{sign}{whole // step} {unit} {whole % step // part:02} {smaller}"
    return f"{sign}{whole // 60} m {whole % 60:02} s"


def size(count: float) -> str:
    """``512 B``, ``1.5 KiB``, ``20 MiB``."""
    value = float(count)
    for unit in _BYTES[:-1]:
        if abs(value) < 1024:
            return (
                f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 10 else f"{value:.1f} {unit}"
            )
        value /= 1024
    return f"{value:.1f} {_BYTES[-1]}"
