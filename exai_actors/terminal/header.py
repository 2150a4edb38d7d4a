"""The lines that are always on the screen: the broker's state, the panes, and the keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from textual import events
from textual.message import Message

from exai_actors.core.observe.written import duration
from exai_actors.terminal.cells import Level, cut, level
from exai_actors.terminal.figures import Figures
from exai_actors.terminal.lines import (
    BAD,
    CURSOR,
    DIM,
    GOOD,
    KEY,
    PLAIN,
    STRONG,
    STYLES,
    WARN,
    Line,
    Lines,
    Piece,
    length,
    spread,
)
from exai_actors.terminal.plots import bar

_HEALTH = {"name": "health", "kind": "text"}
_SLOW_LAG_S = 0.05
_SHORT = {
    "overview": "over",
    "providers": "prov",
    "tenants": "tenant",
    "sessions": "sess",
    "connections": "conn",
    "requests": "req",
}
"""The names of panes where not all names fit a line."""


class Header(Lines):
    """Three lines: who and where; the figures; alarms, or the state of the connection."""

    DEFAULT_CSS = "Header { height: 3; }"

    def __init__(self, figures: Figures) -> None:
        super().__init__()
        self._figures = figures
        self.greeting: dict[str, Any] = {}
        self.where = ""
        self.mode = ""
        """A word such as FROZEN, in front of everything."""
        self.trouble = ""
        """Why the figures are not those of this moment."""
        self.alarms: list[tuple[str, str]] = []
        """Severity and text of the alarms that are raised."""

    def lines(self) -> Iterable[Line]:
        yield spread(self._left(), self._right(), self.size.width)
        yield self._counts()
        yield self._alarms()

    def _left(self) -> Line:
        now = self._figures.now
        version = self.greeting.get("broker", {}).get("version", "")
        pieces: list[Piece] = [(f"exai {version}".rstrip() + "  ", STRONG)]
        if self.trouble:
            pieces.append(("✗ not connected", BAD))
        elif health := now.get("health"):
            found = level(health, _HEALTH)
            sign = "✓" if found is Level.GOOD else "!"
            pieces.append((f"{sign} {health}", STYLES[found]))
        else:
            pieces.append(("…", DIM))
        if (uptime := now.get("uptime_s")) is not None:
            pieces.append((f"  up {duration(round(uptime))}", PLAIN))
        return pieces

    def _right(self) -> Line:
        pieces: list[Piece] = [(f"{self.mode} ", CURSOR), (" ", PLAIN)] if self.mode else []
        role = self.greeting.get("role", "")
        return [*pieces, (f"{role}  ", DIM), (self.where, DIM)]

    def _counts(self) -> Line:
        now, rate = self._figures.now, self._figures.rate("refused")
        in_flight, limit = now.get("in_flight") or 0, now.get("limit") or 0
        lag = now.get("loop_lag_s") or 0.0
        refused = rate or 0.0
        width = max(4, min(20, self.size.width - 76))
        pieces: list[Piece] = [
            ("in flight ", DIM),
            (f"{in_flight}/{limit} ", STRONG),
            (bar(in_flight, limit, width), GOOD),
        ]
        figures = (
            ("queued", f"{now.get('queued') or 0}", PLAIN),
            ("refused", f"{refused:.1f}/s", WARN if refused else PLAIN),
            ("restarts", f"{now.get('restarts') or 0}", WARN if now.get("restarts") else PLAIN),
            ("lag", duration(lag), BAD if lag > _SLOW_LAG_S else PLAIN),
        )
        for name, text, style in figures:
            pieces += [(f"  {name} ", DIM), (text, style)]
        more = [
            (name.replace("_", " "), f"{now.get(name) or 0}")
            for name in ("connections", "sessions", "dead_letters")
        ]
        if (share := now.get("sampling_share")) is not None:
            more.append(("watching costs", f"{share:.1%}"))
        room = self.size.width - sum(len(text) for text, _ in pieces)
        for name, text in more:
            room -= len(f"  {name} {text}")
            if room < 0:
                break
            pieces += [(f"  {name} ", DIM), (text, PLAIN)]
        return pieces

    def _alarms(self) -> Line:
        if self.trouble:
            return [(f"! {self.trouble}", BAD)]
        if not self.alarms:
            return [("no alarms", DIM)]
        severity, text = self.alarms[0]
        more = f" (and {len(self.alarms) - 1} more)" if len(self.alarms) > 1 else ""
        shown = cut(f"! {severity}: {text}", self.size.width - len(more))
        return [(f"{shown}{more}", BAD if severity == "critical" else WARN)]


def alarm_text(subject: object, text: object) -> str:
    """The text of an alarm, with the provider or the part that it is about."""
    return f"{subject}: {text}" if subject else str(text)


class Tabs(Lines):
    """The names of the panes, with their keys; a click chooses one."""

    DEFAULT_CSS = "Tabs { height: 1; }"

    class Chosen(Message):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self) -> None:
        super().__init__()
        self.names: Sequence[str] = ()
        self.current = ""
        self._ends: list[tuple[int, str]] = []

    def lines(self) -> Iterable[Line]:
        line, self._ends = self._line(is_short=False)
        if length(line) > self.size.width:
            line, self._ends = self._line(is_short=True)
        yield line

    def _line(self, *, is_short: bool) -> tuple[list[Piece], list[tuple[int, str]]]:
        pieces: list[Piece] = []
        ends = []
        for number, name in enumerate(self.names, 1):
            key = f"{number % 10}" if number <= 10 else ""
            if not key and name != self.current:
                continue
            title = name.replace("_", " ")
            is_current = name == self.current
            text = _SHORT.get(name, title[:6]) if is_short else title
            pieces += [(key, KEY), (text, CURSOR if is_current else PLAIN), (" ", PLAIN)]
            ends.append((length(pieces), name))
        if len(self.names) > 10:
            pieces.append((":more", DIM))
        return pieces, ends

    def on_click(self, event: events.Click) -> None:
        for end, name in self._ends:
            if event.x < end:
                self.post_message(self.Chosen(name))
                return


class Footer(Lines):
    """One line: a message or the state of the pane at the left, keys at the right."""

    DEFAULT_CSS = "Footer { height: 1; }"

    def __init__(self) -> None:
        super().__init__()
        self.state: Line = ()
        self.keys = ""

    def lines(self) -> Iterable[Line]:
        keys: list[Piece] = []
        for each in self.keys.split():
            key, _, meaning = each.partition("=")
            keys += [(f" {key}", KEY), (f" {meaning}", DIM)]
        room = self.size.width
        while keys and length(self.state) + length(keys) > room:
            keys = keys[:-2]
        yield spread(self.state, keys, room)
