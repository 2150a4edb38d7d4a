"""A table of the broker as text."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from exai_actors.core.observe.written import duration, instant, size
from exai_actors.daemon.cli.columns import GAP, aligned
from exai_actors.daemon.cli.output import one_line

if TYPE_CHECKING:
    from exai_actors.client.console import WatchedTable

_LEFT = {"text", "flag"}
_ALWAYS = 4
_NARROWEST = 8
_READABLE = 20
"""Texts are cut to this width before columns are left out."""
_BESIDE_ROWS = 4
"""Lines of a screen for the titles, the two lines below the rows, and the cursor."""


def table_text(
    table: WatchedTable, *, width: int | None = None, height: int | None = None, keep: str = ""
) -> str:
    """Titles, rows, and how many more there are.

    Columns after the fourth that are empty or zero in all rows are left out. If a line has more
    than ``width`` characters, instants are short, then texts are cut and further columns left out,
    from the right, except the column ``keep``. Rows beyond a screen of ``height`` lines are left
    out.
    """
    all_rows = list(table.rows.values())
    shown_rows = all_rows if height is None else all_rows[: max(1, height - _BESIDE_ROWS)]
    shown = [
        (place, column)
        for place, column in enumerate(table.columns)
        if place < _ALWAYS or column["name"] == keep or any(row[place] for row in all_rows)
    ]
    cells = {
        place: [column["title"], *(_cell(row[place], column, width) for row in shown_rows)]
        for place, column in shown
    }
    widths = {place: max(map(len, texts)) for place, texts in cells.items()}
    left_out = _fit(shown, widths, width, keep)
    columns = ([_cut(cell, widths[place]) for cell in cells[place]] for place, _ in shown)
    right = [column["kind"] not in _LEFT for _, column in shown]
    lines = aligned(zip(*columns, strict=True), right)
    more = table.matching - len(shown_rows)
    if more > 0:
        because = "see --limit" if len(shown_rows) == len(all_rows) else "the screen is full"
        lines.append(f"and {more} more; {because}")
    elif not table.rows:
        lines.append("no rows match" if table.total else "no rows")
    if left_out:
        lines.append(_cut(f"too narrow for: {', '.join(left_out)}", width or 0))
    return "\n".join(lines)


def _fit(
    shown: list[tuple[int, dict[str, str]]], widths: dict[int, int], width: int | None, keep: str
) -> list[str]:
    """Drop columns and narrow others until a line fits; return the titles of those dropped."""

    def excess(readable: float = inf) -> float:
        line = sum(
            min(widths[place], readable) if column["kind"] == "text" else widths[place]
            for place, column in shown
        )
        return 0 if width is None else line + len(GAP) * (len(shown) - 1) - width

    left_out: list[str] = []
    for place, column in reversed(shown[:]):
        if excess(_READABLE) > 0 and place >= _ALWAYS and column["name"] != keep:
            shown.remove((place, column))
            left_out.insert(0, column["title"])
    texts = [place for place, column in shown if column["kind"] == "text"]
    for place in sorted(texts, key=lambda each: -widths[each]):
        if (too_much := round(excess())) > 0:
            widths[place] = min(widths[place], max(_NARROWEST, widths[place] - too_much))
    return left_out


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."


def _cell(value: Any, column: dict[str, str], width: int | None) -> str:
    if value is None:
        return "-"
    match column["kind"]:
        case "share":
            return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"
        case "bytes":
            return size(value)
        case "seconds":
            return duration(value)
        case "flag":
            return "yes" if value else "NO"
        case "text" if width is not None and column["name"] == "at":
            return one_line(instant(value))
    return one_line(str(value))
