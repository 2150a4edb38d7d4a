"""Writes the figures of tables for people, in commands and in both consoles.

``console/web/static/cells.js`` does the same in the browser.
"""

from __future__ import annotations

from datetime import datetime

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: float) -> str:
    """``50 µs``, ``2.5 ms``, ``3.25 s``, ``30 s``, ``4 m 05 s``, ``2 h 03 m``, ``3 d 04 h``."""
    size_ = abs(seconds)
    if size_ == 0:
        return "0 s"
    if size_ < 0.9995:
        milliseconds = 1000 * seconds
        if abs(milliseconds) < 0.0995:
            return f"{1000 * milliseconds:.0f} µs"
        return f"{milliseconds:.0f} ms" if abs(milliseconds) >= 9.95 else f"{milliseconds:.1f} ms"
    if size_ < 99.95:
        if seconds == int(seconds):
            return f"{int(seconds)} s"
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


def instant(written: str) -> str:
    """``11-29 00:15:00``, the local time of an instant in ISO's form; other texts as they are."""
    try:
        return datetime.fromisoformat(written).astimezone().strftime("%m-%d %H:%M:%S")
    except ValueError:
        return written
