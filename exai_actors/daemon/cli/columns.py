"""Rows of text as lines with aligned columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Row = tuple[str, ...]

GAP = "  "


def aligned(
    rows: Iterable[Row], right: Sequence[bool] = (), max_width: int | None = None
) -> list[str]:
    """The rows as lines. A column is aligned to the right where ``right`` is true.

    A cell longer than ``max_width`` shifts only its own line.
    """
    cells = list(rows)
    if not cells:
        return []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if max_width is not None:
        widths = [min(width, max_width) for width in widths]
    marks = [">" if each else "<" for each in right] or ["<"] * len(widths)
    return [
        GAP.join(
            f"{cell:{mark}{width}}" for cell, mark, width in zip(row, marks, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def indented(rows: Iterable[Row]) -> list[str]:
    """The rows as indented lines, for a block below its title."""
    return [f"{GAP}{line}" for line in aligned(rows, max_width=60)]
