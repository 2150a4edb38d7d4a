"""Writes the cells of a table for people; ``static/cells.js`` does the same in the browser."""

from __future__ import annotations

from exai_actors.core.observe.query import Kind
from exai_actors.core.observe.tables import Cell
from exai_actors.core.observe.written import duration, size


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
