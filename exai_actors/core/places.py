"""The places for connections of admitted clients, shared out by tenant and address."""

from __future__ import annotations

from collections import Counter

import msgspec

from exai_actors.ids import DEFAULT_TENANT, ConnectionId, TenantName

# The part of all places that is kept for tenants in equal parts, whether they use it or not.
_KEPT_PART = 0.5


class PlaceLimits(msgspec.Struct, frozen=True):
    """None stands for no limit.

    ``per_tenant`` None: a tenant may have all but the others' unused parts of half the places.
    """

    connections: int = 1000
    per_tenant: int | None = None
    per_address: int | None = None


class Places:
    """The admitted connections. ``tenants`` are those that the access tokens name."""

    __slots__ = ("_by_address", "_by_tenant", "_kept", "_limits", "_taken", "_tenants", "refused")

    def __init__(
        self,
        limits: PlaceLimits,
        tenants: frozenset[TenantName] = frozenset((DEFAULT_TENANT,)),
    ) -> None:
        self._limits = limits
        self._kept = int(limits.connections * _KEPT_PART / max(1, len(tenants)))
        self._taken: dict[ConnectionId, tuple[TenantName, str]] = {}
        self._tenants = tenants
        self._by_tenant: Counter[TenantName] = Counter()
        self._by_address: Counter[str] = Counter()
        self.refused = 0
        """How many connections found no place so far."""

    def __len__(self) -> int:
        return len(self._taken)

    def connections(self) -> tuple[ConnectionId, ...]:
        """All that have a place."""
        return tuple(self._taken)

    def take(self, connection: ConnectionId, tenant: TenantName, address: str) -> str | None:
        """Give the connection a place; return why not, in words for the client, if there is none.

        No effect if it has one. ``address`` may be empty for a client that has none.
        """
        if connection in self._taken:
            return None
        refusal = self._refusal(tenant, address)
        if refusal is not None:
            self.refused += 1
            return refusal
        self._taken[connection] = tenant, address
        self._by_tenant[tenant] += 1
        self._by_address[address] += 1
        return None

    def free(self, connection: ConnectionId) -> None:
        """Free the place of a connection, if it has one."""
        taken = self._taken.pop(connection, None)
        if taken is None:
            return
        tenant, address = taken
        self._by_tenant[tenant] -= 1
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _refusal(self, tenant: TenantName, address: str) -> str | None:
        limits = self._limits
        if len(self._taken) >= limits.connections:
            return f"all {limits.connections} connections are in use; come later"
        own = self._by_tenant[tenant]
        if limits.per_tenant is not None:
            if own >= limits.per_tenant:
                return f"all {limits.per_tenant} connections of this tenant are in use; come later"
        elif own >= self._kept and limits.connections - len(self._taken) <= self._kept_for_others(
            tenant
        ):
            return f"this tenant has {own} connections, and the rest are kept for other tenants"
        if limits.per_address is not None and address:
            here = self._by_address[address]
            if here >= limits.per_address:
                return (
                    f"all {limits.per_address} connections of this address are in use; come later"
                )
        return None

    def _kept_for_others(self, tenant: TenantName) -> int:
        return sum(
            max(0, self._kept - self._by_tenant[other])
            for other in self._tenants
            if other != tenant
        )
