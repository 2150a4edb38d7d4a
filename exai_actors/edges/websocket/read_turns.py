"""Bounds how long one turn of the loop reads from sockets, however many of them have data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Protocol

# After so many reads the actors run before more sockets are read. With 1,000 busy connections the
# requests of all would otherwise be half done at the same time, and their state would leave the
# processor's cache between any two steps.
READS_PER_ACTOR_TURN = 32
# Timers, the answers of services and pings wait for the end of a turn.
TURN_S = 0.005
# The same with the actors that run between the reads of a turn.
LONGEST_TURN_S = 0.02
# About what a client sends that waits for each answer before its next request.
SHORT_BYTES = 4 * 1024


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
    connection keeps what it has read, reads no more, and joins a line by ``put``. Each later turn
    serves for as long those that have read little, and then those that have read much: a client
    with one request does not wait for the thousands of others. While the actors are behind, it
    serves one of the latter, so that requests wait in the sockets and not in mailboxes, in front of
    the ends of calls.

    Only reading counts, and up to ``LONGEST_TURN_S`` not the actors between the reads. With 2,000
    streams a turn takes 100 ms, most of it for pieces; if those used up its time for reading, new
    requests would wait for a second.
    """

    __slots__ = (
        "_actors",
        "_actors_s",
        "_call_soon",
        "_is_armed",
        "_latest",
        "_long",
        "_now",
        "_reads",
        "_short",
        "_spent_s",
        "_until",
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
        self._short: deque[Callable[[], None]] = deque()
        self._long: deque[Callable[[], None]] = deque()
        self._reads = 0
        self._is_armed = False
        self._spent_s = 0.0
        """How long this turn has read; of several turns if they read little."""
        self._actors_s = 0.0
        """How long actors ran between these reads."""
        self._until = self._latest = 0.0
        """When the turn stops serving the lines: sooner if the actors take no time."""

    def read(self, receive: Callable[[bytes], None], data: bytes) -> None:
        """Have a connection ``receive`` what it has read; after some reads the actors run."""
        began = self._now()
        receive(data)
        self._spent_s += self._now() - began
        self._reads += 1
        is_actor_turn = self._reads == READS_PER_ACTOR_TURN
        if is_actor_turn:
            self._reads = 0
            self._run_actors()
        if is_actor_turn or self._spent_s >= TURN_S:
            # An ordinary turn has few reads, and needs no end.
            if not self._is_armed:
                self._arm()
            elif self._spent_s >= TURN_S or self._actors_s >= LONGEST_TURN_S:
                self.is_over = True

    def put(self, read_on: Callable[[], None], size: int) -> None:
        """Have ``read_on`` called once in a later turn, for so many bytes."""
        (self._short if size <= SHORT_BYTES else self._long).append(read_on)
        if not self._is_armed:
            self._arm()

    def _arm(self) -> None:
        self._is_armed = True
        self._spent_s = self._actors_s = 0.0
        self._call_soon(self._next_turn)

    def _run_actors(self) -> None:
        began = self._now()
        self._actors.run_early()
        took = self._now() - began
        self._actors_s += took
        self._until = min(self._until + took, self._latest)

    def _next_turn(self) -> None:
        self._is_armed = False
        are_behind = False
        if self.is_over:
            self._actors.run_early()
            are_behind = self._actors.is_busy()
        now = self._now()
        self._until, self._latest = now + TURN_S, now + LONGEST_TURN_S
        try:
            short_ones_served = self._serve(self._short)
            if are_behind:
                self._until = -inf
            long_ones_served = self._serve(self._long)
            self.is_over = not (short_ones_served and long_ones_served)
        finally:
            # Also after a fault in one of them, which the loop reports: the others read on.
            if (self._short or self._long) and not self._is_armed:
                self._arm()

    def _serve(self, line: deque[Callable[[], None]]) -> bool:
        """Serve the line, one connection at least; return whether all of it had a share."""
        # A connection that joins again meanwhile has had its share of this turn.
        for waiting in range(len(line), 0, -1):
            line.popleft()()
            if waiting > 1 and self._now() >= self._until:
                return False
        return True
