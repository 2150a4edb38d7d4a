"""A widget of styled lines, and the styles: the base of everything that the console shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from exai_actors.terminal.cells import Level

Piece = tuple[str, Style]
Line = Sequence[Piece]

PLAIN = Style()
DIM = Style(color="#8b949e")
TITLE = Style(bold=True, color="#5fd3e0")
STRONG = Style(bold=True)
CURSOR = Style(bold=True, reverse=True)
KEY = Style(bold=True, color="#e8c46a")
GOOD = Style(color="#56d364")
PLOT = Style(color="#58a6ff")
WARN = Style(color="#e8c46a")
BAD = Style(bold=True, color="#ff7b72")

STYLES = {
    Level.PLAIN: PLAIN,
    Level.DIM: DIM,
    Level.GOOD: GOOD,
    Level.WARN: WARN,
    Level.BAD: BAD,
}


class Lines(Widget):
    """Shows ``lines()``, which is called once for each refresh."""

    DEFAULT_CSS = "Lines { height: 1fr; }"

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._shown: list[Line] | None = None

    def lines(self) -> Iterable[Line]:
        """The present lines, at most as many as the widget is high; subclasses have some."""
        return ()

    def redraw(self) -> None:
        """Show the present lines."""
        self._shown = None
        self.refresh()

    def notify_resized(self) -> None:
        """The size has changed."""

    def on_resize(self) -> None:
        self.notify_resized()
        self.redraw()

    def render_line(self, y: int) -> Strip:
        if self._shown is None:
            self._shown = list(self.lines())
        line = self._shown[y] if y < len(self._shown) else ()
        strip = Strip([Segment(text, style) for text, style in line])
        width = self.size.width
        if strip.cell_length > width > 0 and not strip.crop(width).text.isspace():
            strip = Strip([*strip.crop(0, width - 1), Segment("…", line[-1][1])])
        return strip.crop(0, width).extend_cell_length(width).apply_style(self.rich_style)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        return 1


def length(line: Line) -> int:
    """The cells that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def spread(left: Line, right: Line, width: int) -> list[Piece]:
    """A line with pieces at both ends; the left one is cut if both do not fit."""
    room = width - length(right)
    kept: list[Piece] = []
    for text, style in left:
        free = room - length(kept)
        if free <= 0:
            break
        kept.append((text if cell_len(text) <= free else f"{text[: free - 1]}…", style))
    return [*kept, (" " * max(0, room - length(kept)), PLAIN), *right]
