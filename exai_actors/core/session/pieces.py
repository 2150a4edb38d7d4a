"""The pipe of one run: the pieces of its answer on their way to the one waiter that reads them."""

from __future__ import annotations

from exai_actors.core.pieces import PieceSink
from exai_actors.ids import ConnectionId, RequestKey

Waiter = tuple[ConnectionId, RequestKey]
"""A connection that waits for a request, and the name by which it asked."""


class Pieces:
    """Implements ``PieceSink``; its session connects and closes it, its provider writes to it.

    The reader is the first waiter that wants pieces. Once it has left after the first piece there
    is none, because half a stream is no answer. ``count`` is the number of pieces so far, with
    those of reasoning only if the reader wants them, and ``length`` that of all characters.
    ``is_full``: the reader has asked for a pause.
    """

    __slots__ = ("_sink", "_sinks", "count", "is_full", "length", "reader")

    def __init__(self, sinks: dict[Waiter, PieceSink]) -> None:
        self.count = 0
        self.length = 0
        self.is_full = False
        self.reader: Waiter | None = None
        self._sink: PieceSink | None = None
        self._sinks = sinks
        self._choose()

    def write(self, text: str, /) -> None:
        self.count += 1
        self.length += len(text)
        if self._sink is not None:
            self._sink.write(text)

    def write_reasoning(self, text: str, /) -> bool:
        self.length += len(text)
        if self._sink is None or not self._sink.write_reasoning(text):
            return False
        self.count += 1
        return True

    def join(self, waiter: Waiter, sink: PieceSink) -> None:
        """Take in a waiter that wants pieces."""
        self._sinks[waiter] = sink
        self._choose()

    def leave(self, waiter: Waiter) -> None:
        """Let a waiter go, if it is here."""
        if self._sinks.pop(waiter, None) is not None and waiter == self.reader:
            self.reader = self._sink = None
            self._choose()

    def close(self) -> None:
        """Pass nothing on any more."""
        self.reader = self._sink = None
        self._sinks = {}

    def run_again(self) -> Pieces:
        """Close this one; return that of another run for the same waiters."""
        sinks = self._sinks
        self.close()
        return Pieces(sinks)

    def _choose(self) -> None:
        if self.reader is None and not self.count:
            self.reader, self._sink = next(iter(self._sinks.items()), (None, None))
