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

    __slots__ = ("_sessions", "_size", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sessions: OrderedDict[SessionId, OrderedDict[RequestKey, T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, session: SessionId, request: RequestKey, entry: T) -> bool:
        """Queue an entry behind its session's others; False, and no change, when full.

        Raises ValueError when this request already waits.
        """
        if self._size >= self.limit:
            return False
        waiting = self._sessions.get(session)
        if waiting is None:
            waiting = self._sessions[session] = OrderedDict()
        elif request in waiting:
            raise ValueError(f"request {request!r} of session {session!r} already waits")
        waiting[request] = entry
        self._size += 1
        return True

    def take(self) -> T | None:
        """Remove and give the entry whose turn it is; None when nothing waits."""
        if not self._sessions:
            return None
        session, waiting = next(iter(self._sessions.items()))
        _, entry = waiting.popitem(last=False)
        self._size -= 1
        if waiting:
            self._sessions.move_to_end(session)
        else:
            del self._sessions[session]
        return entry

    def remove(self, session: SessionId, request: RequestKey) -> T | None:
        """Take one entry out of the queue; None when it does not wait."""
        waiting = self._sessions.get(session)
        if waiting is None or request not in waiting:
            return None
        entry = waiting.pop(request)
        self._size -= 1
        if not waiting:
            del self._sessions[session]
        return entry

    def remove_session(self, session: SessionId) -> tuple[T, ...]:
        """Take all entries of a session out of the queue, in their order."""
        waiting = self._sessions.pop(session, None)
        if waiting is None:
            return ()
        self._size -= len(waiting)
        return tuple(waiting.values())

    def in_service_order(self) -> Iterator[T]:
        """All entries in the order in which take() would give them, without changing anything."""
        rounds = [iter(waiting.values()) for waiting in self._sessions.values()]
        while rounds:
            still = []
            for entries in rounds:
                entry = next(entries, None)
                if entry is not None:
                    yield entry
                    still.append(entries)
            rounds = still

    def waiting_by_session(self) -> dict[SessionId, int]:
        return {session: len(waiting) for session, waiting in self._sessions.items()}
