"""The sessions with their connections, and when a session without connections expires.

A client may name its session in ``hello``, use it on several connections, and resume it after
losing one. Names can be guessed, so one in use is good only with the secret that the session's
connections are given. No secret is needed for names that cannot be guessed: those that the broker
made, and random UUIDs.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from hmac import compare_digest

from exai_actors.ids import DEFAULT_TENANT, ConnectionId, SessionId, TenantName


def session_of(tenant: TenantName, name: str) -> SessionId:
    """The id of the session that this tenant's clients call ``name``, which has no slash.

    Tenants cannot reach each other's sessions, even with the same name.
    """
    return SessionId(name if tenant == DEFAULT_TENANT else f"{tenant}/{name}")


def name_of(session: SessionId) -> SessionId:
    """The name by which a session's own clients know it."""
    return SessionId(session.rpartition("/")[2])


_RANDOM_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


def can_be_guessed(name: str) -> bool:
    """Whether a name that a client chose may be known to others: it is no random UUID."""
    return _RANDOM_UUID.fullmatch(name) is None


class AttachResult(Enum):
    """The result of attaching a connection."""

    NEW = "new"
    KNOWN = "known"
    FULL = "full"


class _Share:
    """The sessions of one tenant: their number, and those that may be evicted, the first first."""

    __slots__ = ("deserted", "finishing", "sessions", "unused", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.sessions = 0
        self.unused: OrderedDict[SessionId, float] = OrderedDict()
        self.deserted: OrderedDict[SessionId, float] = OrderedDict()
        self.finishing: OrderedDict[SessionId, None] = OrderedDict()

    def evictable(self) -> SessionId | None:
        return next(iter(self.unused or self.deserted or self.finishing), None)

    def take_back(self, session: SessionId) -> None:
        """Keep a session: it has a connection again, or has ended."""
        self.unused.pop(session, None)
        self.deserted.pop(session, None)
        self.finishing.pop(session, None)


class SessionTable:
    """At most ``limit`` sessions; one without connections expires after ``resume_s`` seconds.

    They count from the end of its last connection or, if it finishes requests, from the end of the
    last of those. If there is no room for a new session, one without connections is evicted: of
    the tenant with the most sessions for its weight, so that no tenant loses one to another that
    has more. Of its sessions it is one that never had a call, or else the one that has been without
    connections for longest, or else one that finishes requests.
    """

    __slots__ = (
        "_connections",
        "_secrets",
        "_shares",
        "_tenants",
        "_weights",
        "limit",
        "resume_s",
    )

    def __init__(
        self, limit: int, resume_s: float, weights: Mapping[TenantName, float] | None = None
    ) -> None:
        self.limit = limit
        self.resume_s = resume_s
        self._weights = dict(weights or {})
        self._connections: dict[SessionId, set[ConnectionId]] = {}
        self._secrets: dict[SessionId, str] = {}
        self._tenants: dict[SessionId, TenantName] = {}
        self._shares: dict[TenantName, _Share] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def __contains__(self, session: SessionId) -> bool:
        return session in self._connections

    def attach(
        self, session: SessionId, connection: ConnectionId, tenant: TenantName = DEFAULT_TENANT
    ) -> tuple[AttachResult, SessionId | None]:
        """Add a connection to a session of this tenant, which is new if it is not known.

        Also returns the session that is evicted to make room, if any; the caller ends it.
        """
        members = self._connections.get(session)
        if members is not None:
            members.add(connection)
            self._share_of(session).take_back(session)
            return AttachResult.KNOWN, None
        evicted = None
        if len(self._connections) >= self.limit:
            evicted = self._to_evict(tenant)
            if evicted is None:
                return AttachResult.FULL, None
            self.remove(evicted)
        self._connections[session] = {connection}
        self._tenants[session] = tenant
        own = self._shares.get(tenant)
        if own is None:
            own = self._shares[tenant] = _Share(self._weights.get(tenant, 1.0))
        own.sessions += 1
        return AttachResult.NEW, evicted

    def protect(self, session: SessionId, secret: str) -> None:
        """From now on a connection needs this secret to join the session."""
        self._secrets[session] = secret

    def secret_of(self, session: SessionId) -> str | None:
        """The secret that a connection needs to join the session; None if its name is enough."""
        return self._secrets.get(session)

    def may_join(self, session: SessionId, secret: str | None) -> bool:
        """Whether a client with this secret, if any, may join the session or begin it."""
        needed = self._secrets.get(session)
        if needed is None:
            return True
        return secret is not None and compare_digest(secret.encode(), needed.encode())

    def sessions(self) -> tuple[SessionId, ...]:
        """All sessions, in the order of their beginning."""
        return tuple(self._connections)

    def connections(self, session: SessionId) -> tuple[ConnectionId, ...]:
        """The connections of a session; none of one that is not known."""
        return tuple(self._connections.get(session, ()))

    def detach(
        self,
        session: SessionId,
        connection: ConnectionId,
        now: float,
        *,
        has_begun: bool = True,
    ) -> None:
        """Remove a connection, if it is attached; ``has_begun``: its session had a call."""
        members = self._connections.get(session)
        if members is None or connection not in members:
            return
        members.discard(connection)
        if not members:
            share = self._share_of(session)
            waiting = share.deserted if has_begun else share.unused
            waiting[session] = now + self.resume_s

    def finishes(self, session: SessionId) -> None:
        """A session without connections finishes requests: it does not expire until they end."""
        if session in self._connections:
            share = self._share_of(session)
            if share.deserted.pop(session, None) is not None:
                share.finishing[session] = None

    def finished(self, session: SessionId, now: float) -> None:
        """It has finished them; no effect if a connection was attached in the meantime."""
        if session in self._connections:
            share = self._share_of(session)
            if session in share.finishing:
                del share.finishing[session]
                share.deserted[session] = now + self.resume_s

    def remove(self, session: SessionId) -> None:
        """Forget a session that has ended."""
        if self._connections.pop(session, None) is None:
            return
        self._secrets.pop(session, None)
        tenant = self._tenants.pop(session)
        share = self._shares[tenant]
        share.take_back(session)
        share.sessions -= 1
        if not share.sessions:
            del self._shares[tenant]

    def next_expiry(self) -> float | None:
        """The instant when the next session expires; None if none will."""
        first = self._first_deserted()
        return None if first is None else first[0]

    def expired(self, now: float, at_most: int = 1_000_000) -> tuple[SessionId, ...]:
        """Remove and return the first sessions that have expired; the caller ends them."""
        gone: list[SessionId] = []
        while (first := self._first_deserted()) is not None and first[0] <= now:
            if len(gone) == at_most:
                break
            self.remove(first[1])
            gone.append(first[1])
        return tuple(gone)

    def _share_of(self, session: SessionId) -> _Share:
        return self._shares[self._tenants[session]]

    def _first_deserted(self) -> tuple[float, SessionId] | None:
        firsts = (
            next(iter(waiting.items()), None)
            for share in self._shares.values()
            for waiting in (share.unused, share.deserted)
        )
        return min(((expiry, session) for session, expiry in filter(None, firsts)), default=None)

    def _to_evict(self, tenant: TenantName) -> SessionId | None:
        """The session that makes room for a new one of this tenant; None if none has to."""
        own = self._shares.get(tenant)
        evicted = None if own is None else own.evictable()
        most = 0.0 if own is None else own.sessions / own.weight
        for share in self._shares.values():
            # The first session of each tenant is not counted: whatever the weights, a tenant
            # without one finds room as long as another has two.
            if share is not own and (share.sessions - 1) / share.weight > most:
                candidate = share.evictable()
                if candidate is not None:
                    most = (share.sessions - 1) / share.weight
                    evicted = candidate
        return evicted
