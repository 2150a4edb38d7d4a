"""Fair shares of memory: the smallest keep everything, and the biggest lose the excess.

Shares are max-min fair, first between tenants and then between the sessions of a tenant: nothing
that one tenant keeps makes another lose anything within its equal share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

K = TypeVar("K")


def fair_level(sizes: Iterable[int], room: int) -> int:
    """The greatest level so that ``sizes``, each cut to it, need no more than ``room``.

    The largest size if all of them fit.
    """
    ascending = sorted(sizes)
    for index, size in enumerate(ascending):
        level = max(0, room) // (len(ascending) - index)
        if size > level:
            return level
        room -= size
    return ascending[-1] if ascending else 0


def cuts(kept: Mapping[str, Mapping[K, int]], limit: int, *, slack: float = 0.125) -> dict[K, int]:
    """The sessions that keep too much, with the bytes that each may keep; empty within ``limit``.

    ``kept`` has the bytes of each session by tenant. Cuts leave a part ``slack`` of the limit free,
    so that they are not needed again for each further byte.
    """
    sums = {tenant: sum(sessions.values()) for tenant, sessions in kept.items()}
    if sum(sums.values()) <= limit:
        return {}
    share = fair_level(sums.values(), int(limit * (1 - slack)))
    found: dict[K, int] = {}
    for tenant, sessions in kept.items():
        if sums[tenant] > share:
            level = fair_level(sessions.values(), share)
            found.update((session, level) for session, size in sessions.items() if size > level)
    return found
