"""Writes the pages of the web console: a snapshot that needs no script, which scripts take over."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec
import orjson

from exai_actors.console.web.cells import written
from exai_actors.console.web.files import Files
from exai_actors.console.web.html import Attribute, Html, element, joined
from exai_actors.console.web.panes import BASE, Pane
from exai_actors.core.observe.query import (
    BAD_SHARE,
    WARN_SHARE,
    Column,
    Kind,
    Query,
    Selection,
    Table,
)
from exai_actors.core.observe.tables import Cell
from exai_actors.core.operators import Operator

ROWS = 100
"""How many rows of a table a page has without scripts."""
NUMBERS = frozenset({"count", "total", "seconds", "share", "bytes"})


class Section(msgspec.Struct, frozen=True):
    """A table on a page: its rows, or why there are none."""

    table: Table
    query: Query
    selection: Selection | None
    problem: str = ""


class View(msgspec.Struct, frozen=True):
    """All that a page shows; ``feed_pass`` is empty for a console that needs none."""

    version: str
    wall: float
    operator: Operator
    feed_pass: str
    pane: Pane
    panes: tuple[Pane, ...]
    figures: tuple[tuple[Column, Cell], ...]
    sections: tuple[Section, ...]


def console_page(view: View, files: Files) -> bytes:
    """The page of one pane."""
    header = element(
        "header",
        {"class": "top"},
        _brand(),
        element("div", {"id": "figures"}, _figures(view.figures)),
        element("div", {"id": "tools"}, _who(view.operator, has_pass=bool(view.feed_pass))),
    )
    navigation = element(
        "nav",
        {"id": "panes", "aria-label": "Panes"},
        *(
            element(
                "a",
                {
                    "href": pane.path,
                    "data-pane": pane.name,
                    "aria-current": "page" if pane == view.pane else None,
                },
                pane.title,
            )
            for pane in view.panes
        ),
    )
    first = view.sections[0]
    main = element(
        "main",
        {"id": "main", "tabindex": "-1"},
        element("h1", None, view.pane.title),
        _filter(view.pane, first.query),
        *(_section(view.pane, section, section is first) for section in view.sections),
        element(
            "p",
            {"class": "note"},
            f"A snapshot of exai {view.version} at {_instant(view.wall)}. ",
            element("a", {"href": _address(view.pane, first.query)}, "Reload"),
            " for a newer one; with scripts this page follows the broker by itself.",
        ),
    )
    data = orjson.dumps(
        [{"name": pane.name, "title": pane.title, "tables": pane.tables} for pane in view.panes]
    )
    body = joined(
        element("a", {"class": "skip", "href": "#main"}, "Skip to the content"),
        header,
        element("div", {"class": "body"}, navigation, main),
        element("div", {"id": "dialogs"}),
    )
    head = joined(
        element("meta", {"name": "exai-panes", "content": data.decode()}),
        element("meta", {"name": "exai-pass", "content": view.feed_pass}),
        element("link", {"rel": "stylesheet", "href": files.path("vendor/uplot.css")}),
        element("script", {"src": files.path("vendor/uplot.js"), "defer": True}),
        element("script", {"src": files.path("app.js"), "type": "module"}),
    )
    return _document(view.pane.title, head, body, files)


def login_page(files: Files, *, to: str, problem: str = "") -> bytes:
    """The page that asks for an operator's token, and leads to ``to`` afterwards."""
    form = element(
        "form",
        {"method": "post", "action": f"{BASE}/login", "class": "card"},
        _brand(),
        element("h1", None, "Operator's token"),
        element(
            "p",
            {"class": "muted"},
            "The token of an ",
            element("code", None, "[[operator]]"),
            " entry in the broker's configuration. This browser keeps a pass for 12 hours, "
            "not the token.",
        ),
        *([element("p", {"class": "problem", "role": "alert"}, problem)] if problem else []),
        element("input", {"type": "hidden", "name": "to", "value": to}),
        element("label", {"for": "token"}, "Token"),
        element(
            "input",
            {
                "id": "token",
                "name": "token",
                "type": "password",
                "autocomplete": "current-password",
                "required": True,
                "autofocus": True,
            },
        ),
        element("button", {"type": "submit", "class": "primary"}, "Open the console"),
    )
    return _document("Log in", Html(), element("main", {"class": "alone"}, form), files)


def message_page(files: Files, title: str, *text: str, refreshes: bool = False) -> bytes:
    """A page with a few sentences; with ``refreshes`` the browser asks for it again."""
    head = element("meta", {"http-equiv": "refresh", "content": "0"}) if refreshes else Html()
    card = element(
        "div",
        {"class": "card"},
        _brand(),
        element("h1", None, title),
        *(element("p", None, sentence) for sentence in text),
    )
    return _document(title, head, element("main", {"class": "alone"}, card), files)


def _document(title: str, head: Html, body: Html, files: Files) -> bytes:
    page = element(
        "html",
        {"lang": "en"},
        element(
            "head",
            None,
            element("meta", {"charset": "utf-8"}),
            element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            element("meta", {"name": "color-scheme", "content": "light dark"}),
            element("title", None, f"{title} · exai"),
            element("link", {"rel": "icon", "href": files.path("icon.svg")}),
            element("link", {"rel": "stylesheet", "href": files.path("console.css")}),
            element("script", {"src": files.path("theme.js")}),
            head,
        ),
        element("body", None, body),
    )
    return f"<!doctype html>\n{page}\n".encode("utf-8", "replace")


def _instant(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _brand() -> Html:
    return element("a", {"class": "brand", "href": BASE}, "exai")


def _who(operator: Operator, *, has_pass: bool) -> Html:
    shown = element("span", {"class": "muted"}, f"{operator.name} · {operator.role}")
    if not has_pass:
        return shown
    button = element("button", {"type": "submit"}, "Log out")
    form = element("form", {"method": "post", "action": f"{BASE}/logout", "id": "logout"}, button)
    return joined(shown, form)


def _figures(figures: tuple[tuple[Column, Cell], ...]) -> Html:
    return element(
        "dl",
        None,
        *(
            element(
                "div",
                None,
                element("dt", None, column.title),
                element("dd", None, written(cell, column.kind) or "–"),
            )
            for column, cell in figures
        ),
    )


def _filter(pane: Pane, query: Query) -> Html:
    return element(
        "form",
        {"class": "bar", "method": "get", "action": pane.path, "role": "search"},
        element("label", {"for": "filter", "class": "sr"}, "Filter"),
        element(
            "input",
            {
                "id": "filter",
                "name": "filter",
                "type": "search",
                "value": query.filter,
                "placeholder": "Filter: text, !text, column:text, column>=10",
                "autocomplete": "off",
                "spellcheck": "false",
            },
        ),
        *(
            [element("input", {"type": "hidden", "name": "sort", "value": query.sort})]
            if query.sort
            else []
        ),
        element("button", {"type": "submit"}, "Apply"),
    )


def _section(pane: Pane, section: Section, is_first: bool) -> Html:
    selection, query = section.selection, section.query
    title = section.table.name.replace("_", " ").capitalize()
    if selection is None:
        return element("p", {"class": "problem", "role": "alert"}, section.problem)
    end = query.skip + len(selection.rows)
    window = f"{query.skip + 1:,}–{end:,}" if selection.rows else "0"
    count = f"{window} of {selection.matching:,}"
    if selection.matching != selection.total:
        count += f", {selection.total:,} without the filter"
    columns = section.table.columns
    rows = [
        element(
            "tr",
            None,
            *(_cell(column, cell) for column, cell in zip(columns, row, strict=True)),
        )
        for row in selection.rows.values()
    ]
    if not rows:
        nothing = "No row matches the filter." if query.filter else "Nothing here at present."
        rows = [
            element("tr", None, element("td", {"colspan": len(columns), "class": "empty"}, nothing))
        ]
    return element(
        "section",
        {"aria-label": title},
        element("h2", None, title, " ", element("small", None, count)),
        element(
            "div",
            {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": f"{title}, table"},
            element(
                "table",
                None,
                element(
                    "thead",
                    None,
                    element(
                        "tr", None, *(_heading(pane, query, each, is_first) for each in columns)
                    ),
                ),
                element("tbody", None, *rows),
            ),
        ),
        _windows(pane, query, selection) if is_first else Html(),
    )


def _heading(pane: Pane, query: Query, column: Column, is_sortable: bool) -> Html:
    numeric = column.kind in NUMBERS
    attributes: dict[str, Attribute] = {
        "scope": "col",
        "title": column.help,
        "class": "num" if numeric else None,
    }
    if not is_sortable:
        return element("th", attributes, column.title)
    ascending, descending = column.name, f"-{column.name}"
    first, other = (descending, ascending) if numeric else (ascending, descending)
    order = other if query.sort == first else first
    if query.sort in {ascending, descending}:
        attributes["aria-sort"] = "ascending" if query.sort == ascending else "descending"
    link = _address(pane, Query(query.filter, order))
    return element("th", attributes, element("a", {"href": link}, column.title))


def _cell(column: Column, cell: Cell) -> Html:
    text = written(cell, column.kind)
    classes = " ".join(
        name for name in ("num" if column.kind in NUMBERS else "", _tone(column, cell)) if name
    )
    if column.name == "conserved" and isinstance(cell, bool):
        text = f"{'✓' if cell else '✗'} {text}"
    return element("td", {"class": classes or None}, text)


def _tone(column: Column, cell: Cell) -> str:
    is_part_of_limit = column.kind is Kind.SHARE and not column.name.startswith("share_")
    if is_part_of_limit and isinstance(cell, int | float):
        return "bad" if cell >= BAD_SHARE else "warn" if cell >= WARN_SHARE else ""
    if column.name == "conserved" and isinstance(cell, bool):
        return "good" if cell else "bad"
    return ""


def _windows(pane: Pane, query: Query, selection: Selection) -> Html:
    links = []
    if query.skip:
        before = max(0, query.skip - ROWS)
        links.append(("← Before", Query(query.filter, query.sort, skip=before)))
    if query.skip + ROWS < selection.matching:
        links.append(("Next →", Query(query.filter, query.sort, skip=query.skip + ROWS)))
    if not links:
        return Html()
    return element(
        "p",
        {"class": "windows"},
        *(element("a", {"href": _address(pane, to)}, title) for title, to in links),
    )


def _address(pane: Pane, query: Query) -> str:
    parts = {"filter": query.filter, "sort": query.sort, "skip": query.skip or ""}
    written_parts = urlencode({key: value for key, value in parts.items() if value})
    return f"{pane.path}?{written_parts}" if written_parts else pane.path
