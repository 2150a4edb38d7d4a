"""The rows of a table on the screen, drawn for the visible ones only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.style import Style
from textual import events
from textual.message import Message

from exai_actors.core.observe.written import instant
from exai_actors.terminal.cells import (
    cell_text,
    clock_text,
    count_text,
    cut,
    is_right,
    level,
    one_line,
)
from exai_actors.terminal.layout import GAP, Fitted, fit, order_of, sort_letters
from exai_actors.terminal.lines import (
    CURSOR,
    DIM,
    PLAIN,
    STRONG,
    STYLES,
    TITLE,
    WARN,
    Line,
    Lines,
    Piece,
)
from exai_actors.terminal.view import Cells, TableView, TreeView

GUTTER = 2
_UNDERLINED = TITLE + Style(underline=True)


class Grid(Lines):
    """Shows a view: a line of titles, and its rows."""

    class Moved(Message):
        """The mouse has moved the cursor or the screen; ``opens``: it has chosen the row."""

        def __init__(self, *, opens: bool = False) -> None:
            super().__init__()
            self.opens = opens

    class Refitted(Message):
        """Another number of rows or columns is on the screen."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.view: TableView | None = None
        self.started_at: float | None = None
        """When the broker started, on the wall clock: instants count from there."""
        self._widths: dict[str, dict[int, int]] = {}
        self._used: dict[str, set[int]] = {}
        """The columns that have had a figure since the table is shown."""
        self._fitted = Fitted((), {})
        self._order: list[int] = []
        self._letters: dict[str, str] = {}

    def show(self, view: TableView) -> None:
        """Show another table."""
        self.view = view
        self._used.pop(view.name, None)
        self._fitted = Fitted((), {})
        self._order = order_of(view.name, view.columns)
        self._letters = {column: letter for letter, column in sort_letters(view.columns).items()}
        self.notify_resized()
        self.redraw()

    def notify_resized(self) -> None:
        self._widths.clear()
        if self.view is not None:
            self.view.page = max(1, self.size.height - 1)
            self.view.move_to(self.view.cursor)
            self._post_refitted()

    @property
    def hidden_columns(self) -> int:
        """How many columns are left out for want of room."""
        return self._fitted.before + self._fitted.after

    @property
    def can_scroll_right(self) -> bool:
        """Whether there are columns to the right of the last one shown."""
        return self._fitted.after > 0

    def lines(self) -> Iterable[Line]:
        view = self.view
        if view is None:
            return
        rows = view.visible()
        texts = [self._texts(view, key, row) for key, row in rows if row is not None]
        hidden = self.hidden_columns
        self._fitted = self._fit(view, texts)
        if hidden != self.hidden_columns:
            self._post_refitted()
        yield self._titles(view)
        shown = iter(texts)
        for at, (key, row) in enumerate(rows):
            is_cursor = view.top + at == view.cursor
            if row is None:
                yield [("  …", DIM)]
            else:
                yield self._row(view, key, row, next(shown), is_cursor=is_cursor)
        if not rows:
            yield [(f"  {self._empty(view)}", DIM)]

    def _post_refitted(self) -> None:
        # While the screen draws, it would be the sender, and messages end at their senders.
        self.post_message(self.Refitted().set_sender(self))

    def _empty(self, view: TableView) -> str:
        if not view.is_loaded:
            return "waiting for the broker …"
        return f"none of {view.total} rows matches {view.filter!r}" if view.total else "no rows"

    def _texts(self, view: TableView, key: str, row: Cells) -> list[str]:
        texts = []
        for place, (value, column) in enumerate(zip(row, view.columns, strict=True)):
            kind = column["kind"]
            if kind == "total" and view.is_per_second:
                rate = view.rate(key, place)
                texts.append("-" if rate is None else count_text(round(rate, 1)))
            elif column["name"] == "at_s" and value is not None and self.started_at is not None:
                texts.append(clock_text(self.started_at + value))
            elif column["name"] == "at" and kind == "text":
                texts.append(one_line(instant(str(value))))
            else:
                texts.append(one_line(cell_text(value, kind, column["name"])))
        if isinstance(view, TreeView):
            texts[0] = self._branch(view, key, texts[0])
        return texts

    def _branch(self, view: TreeView, key: str, path: str) -> str:
        depth = view.depth_of(key)
        sign = ("▸ " if key in view.folded else "▾ ") if view.has_children(key) else "· "
        return f"{'  ' * depth}{sign}{path if depth == 0 else path.rpartition('/')[2] or path}"

    def _fit(self, view: TableView, texts: list[list[str]]) -> Fitted:
        widths = self._widths.setdefault(view.name, {})
        for place, title in enumerate(
            self._title(view, place) for place in range(len(view.columns))
        ):
            longest = max((len(row[place]) for row in texts), default=0)
            # Widths only grow: columns that move to and fro cannot be read.
            widths[place] = max(widths.get(place, 0), len(title), longest)
        used = self._used.setdefault(view.name, set())
        rows = [row for key in view.keys if (row := view.cells(key)) is not None]
        used.update(
            place for place in widths if place not in used and any(row[place] for row in rows)
        )
        empty = frozenset(place for place in widths if rows and place not in used)
        return fit(
            view.columns,
            widths,
            self.size.width - GUTTER,
            order=self._order,
            first=view.first_column,
            empty=empty,
            keep=view.sort.removeprefix("-"),
        )

    def _title(self, view: TableView, place: int) -> str:
        column = view.columns[place]
        title = column["title"]
        if column["kind"] == "total" and view.is_per_second:
            title += "/s"
        if view.sort.removeprefix("-") == column["name"]:
            title += "▼" if view.sort.startswith("-") else "▲"
        return title

    def _titles(self, view: TableView) -> Line:
        pieces: list[Piece] = [("  ", TITLE)]
        for place in self._fitted.places:
            column = view.columns[place]
            width = self._fitted.widths[place]
            text = cut(self._title(view, place), width)
            text = f"{text:>{width}}" if is_right(column["kind"]) else f"{text:<{width}}"
            letter = self._letters.get(column["name"], "")
            at = text.upper().find(letter) if letter else -1
            if at < 0:
                pieces.append((text, TITLE))
            else:
                pieces += [(text[:at], TITLE), (text[at], _UNDERLINED), (text[at + 1 :], TITLE)]
            pieces.append((" " * GAP, TITLE))
        return pieces

    def _row(
        self, view: TableView, key: str, row: Cells, texts: list[str], *, is_cursor: bool
    ) -> Line:
        mark = "*" if key in view.marks else " "
        pieces: list[Piece] = [
            (f"{'>' if is_cursor else ' '}{mark}", CURSOR if is_cursor else WARN)
        ]
        for place in self._fitted.places:
            column = view.columns[place]
            width = self._fitted.widths[place]
            text = cut(texts[place], width)
            text = f"{text:>{width}}" if is_right(column["kind"]) else f"{text:<{width}}"
            if is_cursor:
                style = CURSOR
            elif place == 0:
                style = STRONG
            else:
                style = STYLES[level(row[place], column)]
            pieces.append((text, style))
            pieces.append((" " * GAP, CURSOR if is_cursor else PLAIN))
        if is_cursor:
            pieces.append((" " * self.size.width, CURSOR))
        return pieces

    def on_click(self, event: events.Click) -> None:
        view = self.view
        if view is None:
            return
        if event.y == 0:
            self._click_title(view, event.x)
        elif event.y - 1 < len(view.visible()):
            chosen = view.top + event.y - 1
            opens = chosen == view.cursor
            view.move_to(chosen)
            self.post_message(self.Moved(opens=opens))

    def _click_title(self, view: TableView, x: int) -> None:
        end = GUTTER
        for place in self._fitted.places:
            end += self._fitted.widths[place] + GAP
            if x < end:
                view.sort_by(view.columns[place]["name"])
                self.post_message(self.Moved())
                return

    def on_mouse_scroll_down(self) -> None:
        self._scroll(3)

    def on_mouse_scroll_up(self) -> None:
        self._scroll(-3)

    def _scroll(self, rows: int) -> None:
        if self.view is not None:
            self.view.scroll(rows)
            self.post_message(self.Moved())
