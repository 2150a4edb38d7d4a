"""A table of the broker as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exai_actors.client.console import WatchedTable

_LEFT = {"text", "flag"}
_ALWAYS = 4


def table_text(table: WatchedTable) -> str:
    """Titles, rows, and how many more there are.

    Apart from the first four, columns without anything but zeros are left out: a line is long.
    """
    shown = [
        (place, column)
        for place, column in enumerate(table.columns)
        if place < _ALWAYS or any(row[place] for row in table.rows.values())
    ]
    titles = tuple(column["title"] for _, column in shown)
    rows = [
        tuple(_cell(row[place], column["kind"]) for place, column in shown)
        for row in table.rows.values()
    ]
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    lines = [
        "  ".join(
            f"{cell:<{width}}" if column["kind"] in _LEFT else f"{cell:>{width}}"
            for cell, width, (_, column) in zip(line, widths, shown, strict=True)
        ).rstrip()
        for line in (titles, *rows)
    ]
    more = table.matching - len(table.rows)
    if more > 0:
        lines.append(f"and {more} more; see --limit")
    elif not table.rows:
        lines.append("no rows match" if table.total else "no rows")
    return "\n".join(lines)


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return "-"
    match kind:
        case "share":
            return f"{value:.0%}"
        case "seconds":
            return _seconds(value)
        case "flag":
            return "yes" if value else "NO"
    return str(value)


def _seconds(value: float) -> str:
    if value == 0:
        return "0"
    if value < 0.001:
        return f"{value * 1e6:.0f} us"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"
