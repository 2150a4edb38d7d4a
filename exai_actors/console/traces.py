"""Traces: the next messages of an actor or about a request, by class and time, never content."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from exai_actors.console.tables.cells import COUNT, SECONDS, TEXT, instant, rounded
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.operations.action import ActionError
from exai_actors.runtime import ActorSystem

MAX_ROWS = 2_000
MAX_MESSAGES = 1_000
MAX_TRACES = 16
LASTS_S = 600.0

TRACES = Table(
    "traces",
    (
        Column("at_s", "At", SECONDS, "seconds since the broker started"),
        Column("trace", "Trace", COUNT, "the number of the trace"),
        Column("of", "Of", TEXT, "the actor or the request that is traced"),
        Column("actor", "Actor", TEXT, "the actor that handled the message"),
        Column("message", "Message", TEXT, "the class of the message"),
        Column("took_s", "Took", SECONDS, "how long the handler took"),
    ),
)

IsWanted = Callable[[Any], bool]


class Traces:
    """The traces of one broker: at most MAX_TRACES at a time, each for LASTS_S at most."""

    def __init__(self, system: ActorSystem, started_at: float) -> None:
        self._system = system
        self._started_at = started_at
        self._rows: deque[Keyed] = deque(maxlen=MAX_ROWS)
        self._numbers = count(1)
        self._keys = count(1)
        self._open: dict[int, list[Callable[[], object]]] = {}

    def rows(self) -> Iterator[Keyed]:
        """The latest traced messages, the newest first."""
        return reversed(self._rows)

    def check(self, messages: int) -> None:
        """Raises ActionError if no trace of so many messages can begin."""
        if not 1 <= messages <= MAX_MESSAGES:
            raise ActionError(f"a trace is of 1 to {MAX_MESSAGES} messages, not {messages}")
        if len(self._open) >= MAX_TRACES:
            raise ActionError(f"{MAX_TRACES} traces run already; each ends after {LASTS_S:g} s")

    def begin(
        self, of: str, paths: tuple[str, ...], messages: int, wanted: IsWanted = lambda _: True
    ) -> None:
        """Note the next wanted messages of the actors at these paths. Raises ActionError."""
        self.check(messages)
        number = next(self._numbers)
        left = messages

        def note_for(path: str) -> Callable[[Any, float, float], bool]:
            def note(message: Any, began: float, took: float) -> bool:
                nonlocal left
                if left and wanted(message):
                    left -= 1
                    at_s = instant(began - self._started_at)
                    kind = type(message).__name__
                    row = (at_s, number, of, path, kind, rounded(took))
                    self._rows.append((str(next(self._keys)), row))
                    if not left:
                        # Not within the turn of the actor whose notes are being gone through.
                        self._system.driver.call_soon(lambda: self._end(number))
                return left > 0

            return note

        ends = [self._system.trace(path, note_for(path)) for path in paths]
        found = [end for end in ends if end is not None]
        if not found:
            raise ActionError(f"no actor is alive at {paths[0]}", "unknown")
        timer = self._system.driver.call_later(LASTS_S, lambda: self._end(number))
        self._open[number] = [*found, timer.cancel]

    def _end(self, number: int) -> None:
        for end in self._open.pop(number, ()):
            end()
