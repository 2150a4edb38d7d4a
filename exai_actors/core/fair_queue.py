"""Who goes next: in order within a session, in turn across sessions.

Plain round robin: each waiting session is served one request per turn. Positions are given in
that same order of service, so what a client is told is what will happen if nobody else comes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from exai_actors.ids import RequestKey, SessionId

T = TypeVar("T")


class FairQueue(Generic[T]):
    """At most ``limit`` waiting entries over all sessions, each named by session and request."""

    __slots__ = ("_turns", "entries", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.entries: dict[tuple[SessionId, RequestKey], T] = {}
        # Sessions in the order of their turns, each with its requests in order of arrival.
        self._turns: OrderedDict[SessionId, OrderedDict[RequestKey, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, session: SessionId, request: RequestKey, entry: T, priority: int = 0) -> bool:
        """Queue an entry behind its session's others of no lower priority.

        False, and no change, when full. Priority says nothing to other sessions.

        Raises ValueError when this request already waits.
        """
        if (session, request) in self.entries:
            raise ValueError(f"request {request!r} of session {session!r} already waits")
        if len(self.entries) >= self.limit:
            return False
        waiting = self._turns.get(session)
        if waiting is None:
            waiting = self._turns[session] = OrderedDict()
        waiting[request] = priority
        later = [each for each, other in waiting.items() if other < priority]
        for each in later:
            waiting.move_to_end(each)
        self.entries[session, request] = entry
        return True

    def take(self) -> T | None:
        """Remove and give the entry whose turn it is; None when nothing waits."""
        if not self._turns:
            return None
        session, waiting = next(iter(self._turns.items()))
        request, _ = waiting.popitem(last=False)
        if waiting:
            self._turns.move_to_end(session)
        else:
            del self._turns[session]
        return self.entries.pop((session, request))

    def remove(self, session: SessionId, request: RequestKey) -> T | None:
        """Take one entry out of the queue; None when it does not wait."""
        if (session, request) not in self.entries:
            return None
        waiting = self._turns[session]
        del waiting[request]
        if not waiting:
            del self._turns[session]
        return self.entries.pop((session, request))

    def remove_session(self, session: SessionId) -> tuple[T, ...]:
        """Take all entries of a session out of the queue, in their order."""
        waiting = self._turns.pop(session, ())
        return tuple(self.entries.pop((session, request)) for request in waiting)

    def in_service_order(self) -> Iterator[T]:
        """All entries in the order in which take() would give them, without changing anything."""
        rounds = [(session, iter(waiting)) for session, waiting in self._turns.items()]
        while rounds:
            still = []
            for session, requests in rounds:
                request = next(requests, None)
                if request is not None:
                    yield self.entries[session, request]
                    still.append((session, requests))
            rounds = still

    def waiting_by_session(self) -> dict[SessionId, int]:
        return {session: len(waiting) for session, waiting in self._turns.items()}
