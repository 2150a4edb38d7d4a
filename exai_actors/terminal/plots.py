"""Series of figures as lines of block characters."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"


def plot(
    values: Sequence[float | None], width: int, height: int, top: float | None = None
) -> list[str]:
    """The latest values, the newest at the right; each column shows the largest of its part.

    ``top`` is the value of a full column; without it, that of the largest value.
    """
    if width <= 0:
        return [""] * height
    # As few values a cell as fill the width; the oldest that are too many are left out.
    per_cell = max(1, len(values) // width)
    # Cells are cut from the end, so that only the leftmost one may have fewer values.
    cells = [values[max(0, end - per_cell) : end] for end in range(len(values), 0, -per_cell)][
        :width
    ]
    largest = [max((v for v in cell if v is not None), default=None) for cell in reversed(cells)]
    full = top or max((v for v in largest if v is not None), default=0) or 1
    eighths = [None if value is None else _eighths(value, full, height) for value in largest]
    return [
        "".join(_block(each, row) for each in eighths).rjust(width)
        for row in range(height - 1, -1, -1)
    ]


def _eighths(value: float, full: float, height: int) -> int:
    """How high a column is, at least one eighth: a line on the ground says that there are data.

    A plot of several lines leaves a gap to the one above.
    """
    most = 8 * height - (2 if height > 1 else 0)
    return max(1, min(most, round(value / full * most)))


def _block(eighths: int | None, row: int) -> str:
    """The part of a column in a row, counted from the ground."""
    return " " if eighths is None else _BLOCKS[max(0, min(8, eighths - 8 * row))]


def bar(part: float, whole: float, width: int) -> str:
    """A bar with the part of a whole that is taken."""
    if whole <= 0 or width <= 0:
        return "·" * max(0, width)
    taken = min(width, max(1 if part > 0 else 0, round(part / whole * width)))
    return "█" * taken + "·" * (width - taken)


def rates(times: Sequence[float], totals: Sequence[float | None]) -> list[float | None]:
    """The growth per second between neighbours; None where it is unknown, as after a restart."""
    found: list[float | None] = []
    for at in range(1, len(times)):
        before, now, passed = totals[at - 1], totals[at], times[at] - times[at - 1]
        known = before is not None and now is not None and now >= before and passed > 0
        found.append((now - before) / passed if known else None)  # type: ignore[operator]
    return found
