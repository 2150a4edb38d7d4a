"""A page over the panes: details, help, "why", read and scrolled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widget import Widget

from exai_actors.errors import UsageError
from exai_actors.terminal.header import Footer
from exai_actors.terminal.lines import BAD, DIM, TITLE, Line, Lines

REFRESH_S = 1.0

T = TypeVar("T")

Load = Callable[[int], Awaitable[Iterable[Line]]]
"""The lines for a width. Raises UsageError."""


class Page(Lines):
    """Lines with a first one that can be moved."""

    def __init__(self) -> None:
        super().__init__()
        self.content: list[Line] = [[("…", DIM)]]
        self.top = 0

    def lines(self) -> Iterable[Line]:
        self.top = max(0, min(self.top, len(self.content) - self.size.height))
        return self.content[self.top : self.top + self.size.height]

    def scroll_by(self, rows: int) -> None:
        """Move the first line."""
        self.top = max(0, self.top + rows)
        self.redraw()

    def on_mouse_scroll_down(self) -> None:
        self.scroll_by(3)

    def on_mouse_scroll_up(self) -> None:
        self.scroll_by(-3)


class Heading(Lines):
    """The title of a page."""

    DEFAULT_CSS = "Heading { height: 1; padding: 0 1; }"

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def lines(self) -> Iterable[Line]:
        yield [(self._text, TITLE)]


class Sheet(ModalScreen[T]):
    """A title, a page, and a message with the keys below it, over the panes."""

    DEFAULT_CSS = """
    Sheet { background: #0d1117; }
    Sheet > Page { padding: 0 1; }
    """

    def __init__(self, title: str, keys: str, *below_page: Widget) -> None:
        super().__init__()
        self._heading = Heading(title)
        self._page = Page()
        self._below_page = below_page
        self._footer = Footer()
        self._footer.keys = keys

    def compose(self) -> ComposeResult:
        yield self._heading
        yield self._page
        yield from self._below_page
        yield self._footer

    @property
    def page_width(self) -> int:
        return self._page.size.width

    def show_lines(self, lines: Iterable[Line]) -> None:
        """Show these lines instead of the present ones."""
        self._page.content = list(lines)
        self._page.redraw()

    def add_lines(self, lines: Iterable[Line]) -> None:
        """Add lines at the end, and scroll to them."""
        self._page.content = [*self._page.content, *lines]
        self._page.scroll_by(1_000_000)

    def say(self, message: Line) -> None:
        """Show a message beside the keys."""
        self._footer.state = message
        self._footer.redraw()

    def offer(self, keys: str) -> None:
        """Show the keys that work now."""
        self._footer.keys = keys
        self._footer.redraw()


class Reader(Sheet[str]):
    """Shows the lines that ``load`` returns, again every second; ends with the last key."""

    def __init__(self, title: str, load: Load, keys: str = "", *, is_fixed: bool = False) -> None:
        super().__init__(title, f"esc=back {keys}")
        self._load = load
        self._keys = keys
        self._is_fixed = is_fixed
        self._is_loading = False
        self._known: list[Line] = []

    def on_mount(self) -> None:
        self.call_after_refresh(self._show)
        if not self._is_fixed:
            self.set_interval(REFRESH_S, self._show)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    async def _show(self) -> None:
        if self._is_loading:
            return
        self._is_loading = True
        try:
            self._known = list(await self._load(max(20, self.page_width)))
            self.show_lines(self._known)
        except UsageError as error:
            before: list[Line] = [[], [("The last answer:", DIM)], *self._known]
            self.show_lines([[(f"! {error}", BAD)], *(before if self._known else [])])
        finally:
            self._is_loading = False

    def on_key(self, event: events.Key) -> None:
        event.stop()
        rows = max(1, self._page.size.height - 1)
        moves = {
            "down": 1, "j": 1, "up": -1, "k": -1, "pagedown": rows, "pageup": -rows,
            "home": -1_000_000, "g": -1_000_000, "end": 1_000_000, "G": 1_000_000,
        }  # fmt: skip
        if event.key in ("escape", "q", "enter"):
            self.dismiss("")
        elif event.character in self._keys_that_end():
            self.dismiss(event.character)
        elif (event.key in moves) or (event.character in moves):
            self._page.scroll_by(moves.get(event.key, moves.get(event.character or "", 0)))

    def _keys_that_end(self) -> list[str]:
        return [each.partition("=")[0] for each in self._keys.split()]
