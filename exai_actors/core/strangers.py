"""Sockets of strangers: clients that have not been admitted yet, and perhaps never will be.

They have a pool of their own, so that they take no place of a client. A full pool gives way to the
newcomer: a client that says hello needs its place for a moment only.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar

K = TypeVar("K")

_HOST_BITS = 64


@lru_cache(maxsize=1024)
def network_of(address: str) -> str:
    """The address, or the network of an IPv6 one, of which a host may have any number."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _HOST_BITS << _HOST_BITS))


class StrangerPool(Generic[K]):
    """At most ``limit`` strangers, oldest first. Times are in seconds.

    A network that holds more than its equal part of the pool displaces its own oldest stranger,
    every other one the oldest of all.
    """

    __slots__ = ("_by_network", "_networks", "_since", "displaced", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.displaced = 0
        """How many strangers had to give way so far."""
        self._since: dict[K, float] = {}
        self._networks: dict[K, str] = {}
        self._by_network: dict[str, dict[K, None]] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, stranger: K, network: str, now: float) -> K | None:
        """Add a stranger; return the one that gives way to it, if any: the caller ends it."""
        gives_way = self._displaced_by(network) if len(self._since) >= self.limit else None
        if gives_way is not None:
            self.remove(gives_way)
            self.displaced += 1
        self._since[stranger] = now
        self._networks[stranger] = network
        self._by_network.setdefault(network, {})[stranger] = None
        return gives_way

    def remove(self, stranger: K) -> bool:
        """Remove a stranger that was admitted or is gone; False if it was none."""
        network = self._networks.pop(stranger, None)
        if network is None:
            return False
        del self._since[stranger]
        neighbours = self._by_network[network]
        del neighbours[stranger]
        if not neighbours:
            del self._by_network[network]
        return True

    def take_older_than(self, instant: float) -> K | None:
        """Remove and return the oldest stranger if it came before ``instant``."""
        oldest = next(iter(self._since.items()), None)
        if oldest is None or oldest[1] >= instant:
            return None
        self.remove(oldest[0])
        self.displaced += 1
        return oldest[0]

    def _displaced_by(self, network: str) -> K | None:
        own = self._by_network.get(network)
        if own is not None and len(own) * len(self._by_network) >= self.limit:
            return next(iter(own))
        return next(iter(self._since), None)
