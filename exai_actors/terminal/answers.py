"""Answers of the broker as lines: texts first, then figures, then lists as tables."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import Any

from exai_actors.core.observe.written import duration
from exai_actors.terminal.cells import cell_text, cut, level, one_line
from exai_actors.terminal.lines import DIM, PLAIN, STRONG, STYLES, TITLE, WARN, Line

_GAP = "  "
_MAX_CELL = 60


def row_lines(columns: list[dict[str, str]], row: list[Any], width: int) -> Iterable[Line]:
    """Each column of a row with its explanation."""
    titles = max(len(column["title"]) for column in columns)
    texts = [
        one_line(cell_text(value, column["kind"], column["name"]))
        for value, column in zip(row, columns, strict=True)
    ]
    values = min(30, max(map(len, texts)))
    for column, value, text in zip(columns, row, texts, strict=True):
        style = STYLES[level(value, column)]
        room = width - titles - len(_GAP)
        if len(text) > values:
            first, *more = wrap(text, room) or [""]
            yield [(f"{column['title']:<{titles}}{_GAP}", DIM), (first, style)]
            yield from ([(" " * (titles + len(_GAP)) + each, style)] for each in more)
        else:
            explained = cut(f"{_GAP}{column['help']}", room - values)
            yield [
                (f"{column['title']:<{titles}}{_GAP}", DIM),
                (f"{text:<{values}}", style),
                (explained, DIM),
            ]


def answer_lines(answer: dict[str, Any], width: int) -> Iterable[Line]:
    """Any answer; its ``text`` comes first."""
    if text := answer.get("text"):
        yield from ([(each, STRONG)] for each in wrap(one_line(str(text)), width))
        yield []
    single = {
        name: value
        for name, value in answer.items()
        if name != "text" and not isinstance(value, dict | list)
    }
    yield from _fields(single, width)
    for name, value in answer.items():
        if isinstance(value, dict):
            yield []
            yield [(_title(name), TITLE)]
            yield from _fields(value, width) if value else [[("none", DIM)]]
        elif isinstance(value, list):
            yield []
            yield [(_title(name), TITLE)]
            yield from _list_lines(value, width)


def _fields(fields: dict[str, Any], width: int) -> Iterable[Line]:
    titles = max((len(_title(name)) for name in fields), default=0)
    for name, value in fields.items():
        first, *more = wrap(_text(name, value), max(10, width - titles - 2)) or ["-"]
        yield [(f"{_title(name):<{titles}}{_GAP}", DIM), (first, PLAIN)]
        yield from ([(" " * (titles + 2) + each, PLAIN)] for each in more)


def _list_lines(values: list[Any], width: int) -> Iterable[Line]:
    if not values:
        yield [("none", DIM)]
    if not all(isinstance(value, dict) for value in values):
        for value in values:
            yield from ([(each, PLAIN)] for each in wrap(_text("", value), width))
        return
    names = list(dict.fromkeys(name for value in values for name in value))
    rows = [[_text(name, value.get(name)) for name in names] for value in values]
    widths = [
        min(_MAX_CELL, max(len(_title(name)), *(len(row[at]) for row in rows)))
        for at, name in enumerate(names)
    ]
    titles = [f"{_title(name):<{room}}" for name, room in zip(names, widths, strict=True)]
    yield [(_GAP.join(titles), DIM)]
    for row in rows:
        *cells, last = [f"{cell:<{room}}" for cell, room in zip(row, widths, strict=True)]
        yield [(_GAP.join([*cells, last.rstrip()]), WARN if "failed" in row else PLAIN)]


def _title(name: str) -> str:
    return name.removesuffix("_s").replace("_", " ")


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | int) and name.endswith("_s"):
        return duration(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_text("", each) for each in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(key, each)}" for key, each in value.items()) or "none"
    return one_line(str(value))
