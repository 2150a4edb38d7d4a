"""Bounds how long one turn of the loop reads from sockets, however many of them have data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

# After so many reads the actors run before more sockets are read. With 1,000 busy connections the
# requests of all would otherwise be half done at the same time, and their state would leave the
# processor's cache between any two steps.
READS_PER_ACTOR_TURN = 32
# Timers, the answers of services and pings wait for the end of a turn.
TURN_S = 0.005


class ActorTurns(Protocol):
    """The runtime as the sockets see it."""

    def is_busy(self) -> bool:
        """Whether an actor has a message to handle."""

    def run_early(self) -> None:
        """Let actors handle their messages here and now, for about one turn."""


class ReadTurns:
    """Counts the reads of all connections; those for which a turn has no time wait in a line.

    A loop calls back for each readable socket before timers are due again: with 50,000 requests in
    1,000 sockets that takes seconds. Once a turn has read for ``TURN_S`` it ``is_over``: a
    connection keeps what it has read, reads no more, and joins the line by ``put``. Each later turn
    serves the line for as long; if the actors are behind, it serves one connection, so that
    requests wait in the sockets and not in mailboxes, in front of the ends of calls.
    """

    __slots__ = (
        "_actors",
        "_began",
        "_call_soon",
        "_is_armed",
        "_line",
        "_now",
        "_reads",
        "is_over",
    )

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        now: Callable[[], float],
        actors: ActorTurns,
    ) -> None:
        self.is_over = False
        self._call_soon = call_soon
        self._now = now
        self._actors = actors
        self._line: deque[Callable[[], None]] = deque()
        self._reads = 0
        self._is_armed = False
        self._began = 0.0

    def count(self) -> None:
        """Count a read that has been handled; after some of them the actors run."""
        self._reads += 1
        if self._reads == READS_PER_ACTOR_TURN:
            self._reads = 0
            self._actors.run_early()
            # An ordinary turn has few reads, and pays nothing for being measured.
            if not self._is_armed:
                self._arm()
            elif self._now() - self._began >= TURN_S:
                self.is_over = True

    def put(self, read_on: Callable[[], None]) -> None:
        """Have ``read_on`` called once in a later turn, behind those that wait already."""
        self._line.append(read_on)
        if not self._is_armed:
            self._arm()

    def _arm(self) -> None:
        self._is_armed = True
        self._began = self._now()
        self._call_soon(self._next_turn)

    def _next_turn(self) -> None:
        line, now = self._line, self._now
        self._is_armed = False
        turn_s = TURN_S
        if self.is_over:
            self._actors.run_early()
            if self._actors.is_busy():
                turn_s = 0.0
        until = now() + turn_s
        self.is_over = False
        # Whoever comes back has had its share of this turn.
        for waiting in range(len(line), 0, -1):
            line.popleft()()
            if waiting > 1 and now() >= until:
                self.is_over = True
                break
        if line and not self._is_armed:
            self._arm()
