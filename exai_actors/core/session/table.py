"""The sessions with their connections, and when a session without connections expires.

A client may name its session in ``hello``: connections that send the same name share one session.
So a client can use several connections, and resume its session after losing one.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from exai_actors.ids import DEFAULT_TENANT, ConnectionId, SessionId, TenantName


def session_of(tenant: TenantName, name: str) -> SessionId:
    """The id of the session that this tenant's clients call ``name``, which has no slash.

    Tenants cannot reach each other's sessions, even with the same name.
    """
    return SessionId(name if tenant == DEFAULT_TENANT else f"{tenant}/{name}")


def name_of(session: SessionId) -> SessionId:
    """The name by which a session's own clients know it."""
    return SessionId(session.rpartition("/")[2])


class AttachResult(Enum):
    """The result of attaching a connection."""

    NEW = "new"
    KNOWN = "known"
    FULL = "full"


class SessionTable:
    """At most ``limit`` sessions; one without connections expires after ``resume_s`` seconds.

    They count from the end of its last connection or, if it finishes requests, from the end of the
    last of those. If there is no room for a new session, the one that has been without connections
    for longest is evicted, or else one that finishes requests.
    """

    __slots__ = ("_connections", "_deserted", "_finishing", "limit", "resume_s")

    def __init__(self, limit: int, resume_s: float) -> None:
        self.limit = limit
        self.resume_s = resume_s
        self._connections: dict[SessionId, set[ConnectionId]] = {}
        self._deserted: OrderedDict[SessionId, float] = OrderedDict()
        self._finishing: OrderedDict[SessionId, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._connections)

    def __contains__(self, session: SessionId) -> bool:
        return session in self._connections

    def attach(
        self, session: SessionId, connection: ConnectionId
    ) -> tuple[AttachResult, SessionId | None]:
        """Add a connection to a session, which is new if it is not known.

        Also returns the session that is evicted to make room, if any; the caller ends it.
        """
        members = self._connections.get(session)
        if members is not None:
            members.add(connection)
            self._deserted.pop(session, None)
            self._finishing.pop(session, None)
            return AttachResult.KNOWN, None
        evicted = None
        if len(self._connections) >= self.limit:
            evicted = next(iter(self._deserted or self._finishing), None)
            if evicted is None:
                return AttachResult.FULL, None
            self.remove(evicted)
        self._connections[session] = {connection}
        return AttachResult.NEW, evicted

    def detach(self, session: SessionId, connection: ConnectionId, now: float) -> None:
        """Remove a connection, if it is attached."""
        members = self._connections.get(session)
        if members is None or connection not in members:
            return
        members.discard(connection)
        if not members:
            self._deserted[session] = now + self.resume_s

    def finishes(self, session: SessionId) -> None:
        """A session without connections finishes requests: it does not expire until they end."""
        if self._deserted.pop(session, None) is not None:
            self._finishing[session] = None

    def finished(self, session: SessionId, now: float) -> None:
        """It has finished them; no effect if a connection was attached in the meantime."""
        if session in self._finishing:
            del self._finishing[session]
            self._deserted[session] = now + self.resume_s

    def remove(self, session: SessionId) -> None:
        """Forget a session that has ended."""
        self._connections.pop(session, None)
        self._deserted.pop(session, None)
        self._finishing.pop(session, None)

    def next_expiry(self) -> float | None:
        """The instant when the next session expires; None if none will."""
        return next(iter(self._deserted.values()), None)

    def expired(self, now: float) -> tuple[SessionId, ...]:
        """Remove and return the sessions that have expired; the caller ends them."""
        gone = []
        while self._deserted:
            session, expiry = next(iter(self._deserted.items()))
            if expiry > now:
                break
            self.remove(session)
            gone.append(session)
        return tuple(gone)
