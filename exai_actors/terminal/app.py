"""The console: panes of tables over a source of frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from textual import events, work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.suggester import SuggestFromList
from textual.timer import Timer
from textual.widgets import Input

from exai_actors.errors import ExaiError, UsageError
from exai_actors.terminal.acting import Acting, Choice, Order, Taken
from exai_actors.terminal.answers import answer_lines, row_lines
from exai_actors.terminal.figures import Figures
from exai_actors.terminal.grid import Grid
from exai_actors.terminal.header import Footer, Header, Tabs, alarm_text
from exai_actors.terminal.help import help_lines
from exai_actors.terminal.layout import sort_letters
from exai_actors.terminal.lines import BAD, DIM, STRONG, WARN, Line, Piece
from exai_actors.terminal.overview import MOST_WAITS, Overview
from exai_actors.terminal.reader import Reader
from exai_actors.terminal.recorder import Recorder
from exai_actors.terminal.source import Source, Window
from exai_actors.terminal.timeline import Timeline
from exai_actors.terminal.view import TableView, TreeView

OVERVIEW = "overview"
WAITS_EVERY_S = 3.0
ORDER = (
    "tree",
    "actors",
    "providers",
    "tenants",
    "sessions",
    "connections",
    "requests",
    "events",
    "alarms",
)
"""The panes with a number, after the overview; those of other tables follow."""
HIDDEN = ("broker",)
"""Tables that are in the header."""
INTERVALS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
MESSAGE_S = 6.0
MOST_UNDOS = 100
"""Actions that can be undone, the latest first."""
KEYS = "?=help /=filter :=go enter=detail a=act w=why p=freeze q=quit"
REPLAY_KEYS = "?=help ←→=time space=play +-=speed /=filter enter=detail q=quit"


class Prompt(Input):
    """The line at the bottom in which filters and commands are written."""


class ConsoleApp(App[ExaiError | None]):
    """The console. Its result is the error that ended it, or None.

    ``timeline`` is that of a recording, which is shown instead of a running broker; ``recorder``
    makes one meanwhile.
    """

    CSS = """
    Screen { background: #0d1117; color: #d7dce2; overflow: hidden; }
    Header, Tabs, Footer { background: #161b22; }
    Prompt { height: 1; border: none; padding: 0; background: #161b22; display: none; }
    #body { height: 1fr; }
    """
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    BINDINGS = [Binding("ctrl+c", "quit", show=False, priority=True)]  # noqa: RUF012 - Textual's

    def __init__(
        self,
        source: Source,
        where: str,
        *,
        timeline: Timeline | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.timeline = timeline
        self.recorder = recorder
        self.figures = Figures()
        self.pane = OVERVIEW
        self.views: dict[str, TableView] = {}
        self.is_frozen = False
        self.every_s = 1.0
        self._where = where
        self._undos: deque[list[Order]] = deque(maxlen=MOST_UNDOS)
        self._prompt_for = ""
        self._message: Line = ()
        self._forgetting: Timer | None = None
        self._started_at: float | None = None
        self._header = Header(self.figures)
        self._tabs = Tabs()
        self._overview = Overview(self.figures)
        self._grid = Grid()
        self._footer = Footer()
        self._prompt = Prompt(select_on_focus=False)
        self._is_first = True

    def compose(self) -> ComposeResult:
        yield self._header
        yield self._tabs
        with Vertical(id="body"):
            yield self._overview
            yield self._grid
        yield self._footer
        yield self._prompt

    def on_mount(self) -> None:
        self._header.where = self._where
        self._grid.display = False
        self._footer.keys = KEYS if self.timeline is None else REPLAY_KEYS
        self._follow()
        if self.recorder is not None:
            self.run_worker(self.recorder.run(), exit_on_error=False)

    @work(exclusive=True)
    async def _follow(self) -> None:
        try:
            await self.source.run(self)
        except ExaiError as error:
            self.exit(error)

    # The source's calls.

    def connected(self) -> None:
        greeting = self.source.greeting
        self._header.greeting, self._header.trouble = greeting, ""
        tables = [name for name in greeting["tables"] if name not in HIDDEN]
        first = [name for name in ORDER if name in tables]
        self._tabs.names = [OVERVIEW, *first, *(name for name in tables if name not in first)]
        for name in tables:
            self._make_view(name, greeting["tables"][name])
        if self.pane not in self._tabs.names:
            self.pane = OVERVIEW
        self.figures.clear()
        self._started_at = None
        if not self._is_first:
            self._say([("connected again", DIM)])
        self._is_first = False
        self.show_pane(self.pane)
        if "history" in greeting.get("questions", ()):
            self._fill_figures()

    def lost(self, why: str) -> None:
        old = "figures are old; " if self.source.greeting else ""
        self._header.trouble = f"{old}trying again: {why}"
        self._redraw()

    def changed(self, table: str) -> None:
        found = self.source.tables[table]
        if table == "broker":
            self._take_figures()
        elif table == "alarms":
            names = [column["name"] for column in found.columns]
            rows = [dict(zip(names, row, strict=True)) for row in found.rows.values()]
            self._header.alarms = [
                (str(row.get("severity")), alarm_text(row.get("subject"), row.get("text")))
                for row in rows
            ]
            self._header.redraw()
        if self.pane == OVERVIEW:
            self._overview.tables = self.source.tables
            self._overview.redraw()
        elif table == self.pane:
            self.views[table].take(found)
            self._grid.redraw()
            self._watch_visible()
            self._show_state()

    def refused(self, table: str, why: str) -> None:
        self._say([(f"! {table}: {why}", BAD)])

    # Panes.

    def _make_view(self, name: str, columns: list[dict[str, str]]) -> None:
        known = self.views.get(name)
        if known is not None and known.columns == columns:
            return
        is_tree = any(column["name"] == "depth" for column in columns)
        kind = TreeView if is_tree else TableView
        self.views[name] = kind(name, columns)

    @property
    def view(self) -> TableView | None:
        """The table of the present pane; None on the overview."""
        return self.views.get(self.pane)

    def show_pane(self, name: str) -> None:
        """Show another pane, with the rows that it had until new ones come."""
        self.pane = self._tabs.current = name
        view = self.view
        self._overview.display = view is None
        self._grid.display = view is not None
        if view is not None:
            self._grid.show(view)
        self._watch_visible()
        self._redraw()

    def _watch_visible(self) -> None:
        """Watch the tables on the screen, and no others."""
        windows = {"broker": Window(limit=1), "alarms": Window(limit=20)}
        if self.view is not None:
            windows[self.pane] = self.view.window(self.every_s)
        else:
            windows["providers"] = Window(limit=50)
            windows["events"] = Window(limit=50)
            if self._overview.is_roomy:
                windows["tenants"] = Window(limit=50)
                # All requests are read for it, so that it costs more than all the rest together.
                waits = Window("state:queued", "-waited_s", limit=MOST_WAITS, every_s=WAITS_EVERY_S)
                windows["requests"] = waits
        if self.is_frozen:
            windows = {}
        tables = self.source.greeting.get("tables", {})
        for name in tables:
            if name in windows:
                self.source.watch(name, windows[name])
            else:
                self.source.unwatch(name)

    def _redraw(self) -> None:
        for each in (self._header, self._tabs, self._overview, self._grid):
            each.redraw()
        self._show_state()

    def _take_figures(self) -> None:
        table = self.source.tables["broker"]
        names = [column["name"] for column in table.columns]
        for row in table.rows.values():
            figures = dict(zip(names, row, strict=True))
            self.figures.add(table.time, figures)
            if self._started_at is None:
                self._started_at = table.time - (figures.get("uptime_s") or 0.0)
                self._grid.started_at = self._overview.started_at = self._started_at
        self._header.redraw()

    @work(exclusive=True, group="history")
    async def _fill_figures(self) -> None:
        try:
            history = await self.source.ask("history")
            if self.timeline is not None:
                self.figures.clear()
            self.figures.fill(history)
        except UsageError as error:
            self._say([(f"! no history: {error}", WARN)])
        self._redraw()

    # The last line.

    def _say(self, message: Line) -> None:
        self._message = message
        self._show_state()
        if self._forgetting is not None:
            self._forgetting.stop()
        self._forgetting = self.set_timer(MESSAGE_S, self._forget_message)

    def _forget_message(self) -> None:
        self._message = ()
        self._show_state()

    def _show_state(self) -> None:
        modes = []
        if self.is_frozen:
            modes.append("FROZEN")
        if self.timeline is not None:
            modes.append("REPLAY")
        if self.recorder is not None:
            modes.append(self.recorder.state.upper())
        self._header.mode = " ".join(modes)
        self._footer.state = self._message or self._state()
        self._footer.redraw()

    def _state(self) -> Line:
        pieces: list[Piece] = []
        if self.timeline is not None:
            pieces += self.timeline.line(max(10, self.size.width // 4))
        view = self.view
        if view is None:
            return pieces
        if view.matching:
            end = min(view.matching, view.top + view.page)
            pieces.append((f"{view.top + 1}–{end} of {view.matching}", STRONG))
        if view.filter:
            pieces.append((f" /{view.filter}", WARN))
        if view.marks:
            pieces.append((f" {len(view.marks)} marked", WARN))
        if hidden := self._grid.hidden_columns:
            pieces.append((f" · {hidden} more column{'s' * (hidden > 1)}: , .", DIM))
        return pieces

    def on_resize(self) -> None:
        self.call_after_refresh(self._watch_visible)

    # Keys.

    async def on_key(self, event: events.Key) -> None:
        if self._prompt.display:
            await self._early_key(event)
            return
        if self.screen is not self.screen_stack[0]:
            return
        for key in (event.character or "", event.key):
            if action := self._keys().get(key):
                event.stop()
                event.prevent_default()
                action()
                return
        if event.character and event.character.isdigit():
            self._pane_by_number(int(event.character))
        elif event.character and event.character.isupper() and self.view is not None:
            column = sort_letters(self.view.columns).get(event.character)
            if column:
                self.view.sort_by(column)
                self._moved()

    async def _early_key(self, event: events.Key) -> None:
        """A key for the prompt that was pressed before it had the focus."""
        event.stop()
        if event.key == "escape":
            self._close_prompt()
        elif event.key == "enter":
            await self._prompt.action_submit()
        elif event.is_printable and event.character:
            self._prompt.insert_text_at_cursor(event.character)

    def _keys(self) -> dict[str, Callable[[], Any]]:
        page = self.view.page if self.view else 10
        move = self._move
        keys: dict[str, Callable[[], Any]] = {
            "q": self.exit,
            "?": self._help,
            "/": lambda: self._open_prompt("/"),
            ":": lambda: self._open_prompt(":"),
            "escape": self._back,
            "enter": self._open,
            "down": lambda: move(1),
            "j": lambda: move(1),
            "up": lambda: move(-1),
            "k": lambda: move(-1),
            "pagedown": lambda: move(page),
            "pageup": lambda: move(-page),
            "home": lambda: move(-(10**9)),
            "g": lambda: move(-(10**9)),
            "end": lambda: move(10**9),
            "G": lambda: move(10**9),
            "tab": lambda: self._next_pane(1),
            "shift+tab": lambda: self._next_pane(-1),
            ",": lambda: self._scroll_columns(-1),
            ".": lambda: self._scroll_columns(1),
            "left": lambda: self._scroll_columns(-1),
            "right": lambda: self._scroll_columns(1),
            "f": self._fold,
            "r": lambda: self._change(TableView.reverse),
            "v": self._toggle_totals,
            "space": lambda: self._change(TableView.toggle_mark),
            "p": self._freeze,
            "+": lambda: self._change_interval(1),
            "-": lambda: self._change_interval(-1),
            "w": self._why,
            "a": self._act,
            "u": self._undo,
        }
        if self.timeline is not None:
            keys |= self.timeline.keys(self._time_moved)
        return keys

    def _time_moved(self) -> None:
        self._fill_figures()
        self._show_state()

    def _move(self, rows: int) -> None:
        if self.view is not None:
            self.view.move_to(self.view.cursor + rows)
            self._moved()

    def _change(self, change: Callable[[TableView], None]) -> None:
        if self.view is not None:
            change(self.view)
            if change is TableView.toggle_mark:
                self.view.move_to(self.view.cursor + 1)
            self._moved()

    def _moved(self) -> None:
        self._grid.redraw()
        self._watch_visible()
        self._show_state()

    def on_grid_moved(self, message: Grid.Moved) -> None:
        self._moved()
        if message.opens:
            self._open()

    def on_grid_refitted(self) -> None:
        self._show_state()

    def on_tabs_chosen(self, message: Tabs.Chosen) -> None:
        self.show_pane(message.name)

    def _pane_by_number(self, number: int) -> None:
        at = (number or 10) - 1
        if at < len(self._tabs.names):
            self.show_pane(self._tabs.names[at])

    def _next_pane(self, step: int) -> None:
        names = list(self._tabs.names)
        if names:
            self.show_pane(names[(names.index(self.pane) + step) % len(names)])

    def _scroll_columns(self, step: int) -> None:
        view = self.view
        if view is None:
            return
        if step > 0 and not self._grid.can_scroll_right:
            return
        view.first_column = max(1, view.first_column + step)
        self._moved()

    def _fold(self) -> None:
        if isinstance(self.view, TreeView) and self.view.key:
            self.view.fold(self.view.key)
            self._moved()

    def _toggle_totals(self) -> None:
        if self.view is not None:
            self.view.is_per_second = not self.view.is_per_second
            self._grid.notify_resized()
            self._moved()

    def _freeze(self) -> None:
        self.is_frozen = not self.is_frozen
        self._watch_visible()
        self._redraw()

    def _change_interval(self, step: int) -> None:
        at = INTERVALS_S.index(self.every_s) + step
        self.every_s = INTERVALS_S[max(0, min(at, len(INTERVALS_S) - 1))]
        self._watch_visible()
        self._say([(f"every {self.every_s:g} s", DIM)])

    def _back(self) -> None:
        """Undo the last narrowing: marks, then the filter, then the pane."""
        view = self.view
        if view is not None and view.marks:
            view.marks.clear()
        elif view is not None and view.filter:
            view.filter = ""
            view.ask_again()
        elif self.pane != OVERVIEW:
            self.show_pane(OVERVIEW)
            return
        self._moved()

    # The prompt.

    def _open_prompt(self, kind: str) -> None:
        if kind == "/" and self.view is None:
            return
        self._prompt_for = kind
        self._prompt.suggester = SuggestFromList(self._tabs.names) if kind == ":" else None
        self._prompt.placeholder = (
            "filter: kimi, !idle, state:held, queued>=10" if kind == "/" else "pane, or pane filter"
        )
        self._prompt.value = self.view.filter if kind == "/" and self.view else ""
        self._prompt.cursor_position = len(self._prompt.value)
        self._footer.display, self._prompt.display = False, True
        # Immediately: the next key may be there already.
        self.screen.set_focus(self._prompt)

    def _close_prompt(self) -> None:
        self._prompt.display, self._footer.display = False, True
        self.set_focus(None)
        self._show_state()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input is self._prompt and self._prompt_for == "/" and self._prompt.display:
            self._filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input is not self._prompt:
            return
        self._close_prompt()
        if self._prompt_for == ":":
            self._command(event.value)

    def _filter(self, text: str) -> None:
        view = self.view
        if view is not None and view.filter != text.strip():
            view.filter = text.strip()
            view.ask_again()
            self._moved()

    def _command(self, text: str) -> None:
        """Go to a pane, by its name or a beginning of it; further words are a filter."""
        name, _, filter_ = text.strip().partition(" ")
        if not name:
            return
        if name in ("q", "quit"):
            self.exit()
            return
        wanted = name.replace("-", "_").lower()
        found = [each for each in self._tabs.names if each.startswith(wanted)]
        if not found:
            panes = ", ".join(self._tabs.names)
            self._say([(f"! there is no pane '{name}'; choose from {panes}", BAD)])
            return
        self.show_pane(found[0])
        if filter_:
            self._filter(filter_)

    # Pages over the panes.

    def _help(self) -> None:
        view = self.view

        async def load(width: int) -> Iterable[Line]:
            return help_lines(view, width, is_replay=self.timeline is not None)

        self.push_screen(Reader("Keys", load, is_fixed=True))

    def _open(self) -> None:
        view = self.view
        if view is None:
            if "providers" in self.views:
                self.show_pane("providers")
            return
        key, row = view.key, view.row
        if row is None:
            return
        last = list(row)

        async def load(width: int) -> Iterable[Line]:
            now = view.cells(key)
            lines: list[Line] = []
            if now is None:
                lines += [[("This row is gone; its last state:", WARN)], []]
            else:
                last[:] = now
            lines += row_lines(view.columns, last, width)
            if now is not None and self.timeline is None:
                lines += await self._answers(view, last, key, width)
            return lines

        keys = "w=why a=act" if view.name == "requests" else "a=act"
        title = f"{view.name.removesuffix('s')} {row[0]}"
        self.push_screen(Reader(title, load, keys), self._page_closed)

    async def _answers(self, view: TableView, row: list[Any], key: str, width: int) -> list[Line]:
        """The answer of the broker about this row, if there is such a question."""
        question = {"actors": "actor", "tree": "actor", "requests": "request"}.get(view.name, "")
        if question not in self.source.greeting.get("questions", ()):
            return []
        of = str(row[0]) if question == "actor" else key
        try:
            answer = await self.source.ask(question, of)
        except UsageError as error:
            return [[], [(f"! {error}", WARN)]]
        known = {column["name"] for column in view.columns}
        more = {name: value for name, value in answer.items() if name not in known}
        return [[], *answer_lines(more, width)]

    def _page_closed(self, key: str | None) -> None:
        if key == "w":
            self._why()
        elif key == "a":
            self._act()

    def _why(self) -> None:
        view = self.view
        if view is None or view.name != "requests" or not view.key:
            self._say([("choose a request first: ", DIM), (":requests", STRONG)])
            return
        key = view.key
        if self.timeline is not None:
            self._say([("a recording has no answers; see the columns of the request", DIM)])
            return

        async def load(width: int) -> Iterable[Line]:
            return answer_lines(await self.source.ask("why", key), width)

        self.push_screen(Reader(f"Why does {key} wait?", load, "a=act"), self._page_closed)

    # Actions.

    def _act(self) -> None:
        view = self.view
        table = "broker" if view is None else view.name
        actions = [
            each
            for each in self.source.greeting.get("actions", ())
            if each["table"] == table or (table == "tree" and each["table"] == "actors")
        ]
        if self.timeline is not None:
            self._say([("a recording cannot be acted on", DIM)])
            return
        if not actions:
            self._say([(f"no actions on {table.replace('_', ' ')}", DIM)])
            return
        target = self._target(view)
        if target is None and any(each.get("targets", True) for each in actions):
            self._say([("no row to act on", DIM)])
            return
        role = self.source.greeting.get("role", "")

        def chosen(action: dict[str, Any] | None) -> None:
            if action is not None:
                on = target if action.get("targets", True) else {"targets": ["broker"]}
                self.push_screen(Acting(self.source, action, [on or {}]), self._acted)

        self.push_screen(Choice(f"Act on {self._target_text(view)}", actions, role), chosen)

    def _target(self, view: TableView | None) -> dict[str, Any] | None:
        """Marked rows, or all that match the filter, or the row at the cursor."""
        if view is None:
            return None
        if view.marks:
            return {"targets": sorted(view.marks)}
        if view.filter and view.matching > 1 and not isinstance(view, TreeView):
            return {"filter": view.filter}
        return {"targets": [view.key]} if view.key else None

    def _target_text(self, view: TableView | None) -> str:
        if view is None:
            return "the broker"
        if view.marks:
            return f"{len(view.marks)} marked rows of {view.name}"
        if view.filter and view.matching > 1 and not isinstance(view, TreeView):
            return f"all {view.matching} rows of {view.name} that match {view.filter!r}"
        return f"{view.name.removesuffix('s')} {view.row[0] if view.row else ''}"

    def _acted(self, taken: Taken | None) -> None:
        if taken is None:
            return
        self._undos.append(taken.undos)
        if taken.undo_now:
            self._undo()
        else:
            self._say([("u undoes the last action", DIM)])

    def _undo(self) -> None:
        if not self._undos:
            self._say([("nothing to undo", DIM)])
            return
        orders = self._undos[-1]
        known = {each["name"]: each for each in self.source.greeting.get("actions", ())}
        names = {order["action"] for order in orders}
        if unknown := names - set(known):
            self._say([(f"! the broker has no action {min(unknown)}", BAD)])
            return
        action = known[orders[0]["action"]]
        if len(names) > 1:
            action = {**action, "title": "Undo"}

        def done(taken: Taken | None) -> None:
            if taken is None:
                return
            if taken.rest and not taken.undo_now:
                self._undos[-1] = list(taken.rest)
                self._say([("u undoes the rest", DIM)])
            else:
                self._undos.pop()
                self._acted(taken)

        self.push_screen(Acting(self.source, action, orders), done)
