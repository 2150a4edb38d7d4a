"""Which sessions exist, which connections each has, and when a deserted one ends.

A client may name its session in ``hello``: connections that give the same name share one session.
That is how one client uses several connections, and how it comes back after losing one.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from exai_actors.ids import DEFAULT_TENANT, ConnectionId, SessionId, TenantName


def session_of(tenant: TenantName, name: str) -> SessionId:
    """The session that this tenant's clients call ``name``, which holds no slash.

    Nobody reaches another tenant's session by its name, or by an id that was told to another.
    """
    return SessionId(name if tenant == DEFAULT_TENANT else f"{tenant}/{name}")


def name_of(session: SessionId) -> SessionId:
    """What its own clients call a session."""
    return SessionId(session.rpartition("/")[2])


class AttachResult(Enum):
    """What attach() found for a connection."""

    NEW = "new"
    KNOWN = "known"
    FULL = "full"


class SessionTable:
    """At most ``limit`` sessions; one without connections is kept for ``resume_s`` seconds.

    These begin when its last connection is gone or, if it still finishes work for whoever comes
    back, when that is done. When a new session needs room, the one deserted longest ago makes it,
    and one that finishes work only if there is no other.
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
        """Add a connection to a session, made anew if it is not known.

        The second part names a deserted session that has to end to make room.
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
        """A connection is gone; harmless when it was not attached."""
        members = self._connections.get(session)
        if members is None or connection not in members:
            return
        members.discard(connection)
        if not members:
            self._deserted[session] = now + self.resume_s

    def finishes(self, session: SessionId) -> None:
        """A deserted session works on for whoever comes back; nothing for one that is not."""
        if self._deserted.pop(session, None) is not None:
            self._finishing[session] = None

    def finished(self, session: SessionId, now: float) -> None:
        """It has done what it worked on; nothing if somebody came back before."""
        if session in self._finishing:
            del self._finishing[session]
            self._deserted[session] = now + self.resume_s

    def remove(self, session: SessionId) -> None:
        """The session has ended."""
        self._connections.pop(session, None)
        self._deserted.pop(session, None)
        self._finishing.pop(session, None)

    def next_expiry(self) -> float | None:
        """When expired() will give something; None while no session is deserted."""
        return next(iter(self._deserted.values()), None)

    def expired(self, now: float) -> tuple[SessionId, ...]:
        """Remove and give the sessions that nobody came back to in time."""
        gone = []
        while self._deserted:
            session, expiry = next(iter(self._deserted.items()))
            if expiry > now:
                break
            self.remove(session)
            gone.append(session)
        return tuple(gone)
