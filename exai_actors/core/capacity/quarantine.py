"""Permits of calls that were cut off, until the service has noticed.

Closing a connection frees nothing at the service until it notices, and a call on another connection
can overtake the close. So the permit of such a call rests: neither held nor free, for the abort
rest. The rest outlives the provider actor, like everything in its account.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Literal

from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.ledger import CapacityLedger
from exai_actors.ids import PermitId

MIN_REST_S = 0.05
"""Enough for a service on a busy machine to notice a closed socket (measured, see ADR 17)."""
MAX_REST_S = 1.0


def abort_rest_s(configured: float | Literal["auto"], round_trip_s: float) -> float:
    """How long the permit of a call that was cut off rests: as configured, or as measured.

    ``round_trip_s`` is the time that it takes to open a connection to the service, 0 if unknown.
    """
    if configured == "auto":
        return min(MIN_REST_S + round_trip_s, MAX_REST_S)
    return configured


class Quarantine:
    """The resting permits of an account, the earliest to return first."""

    __slots__ = ("_resting",)

    def __init__(self, account: Account) -> None:
        self._resting = account.quarantined

    def __len__(self) -> int:
        return len(self._resting)

    def __iter__(self) -> Iterator[tuple[PermitId, Any]]:
        return ((permit, call) for _, permit, call in self._resting)

    @property
    def next_at(self) -> float:
        """When the first rest is over. Raises IndexError while none rests."""
        return self._resting[0][0]

    def put(self, permit: PermitId, call: Any, until: float) -> None:
        heapq.heappush(self._resting, (until, permit, call))

    def take(self, now: float) -> PermitId | None:
        """A permit whose rest is over."""
        if self._resting and self._resting[0][0] <= now:
            return heapq.heappop(self._resting)[1]
        return None

    def ends_of(self, ledger: CapacityLedger[Any]) -> Iterator[float]:
        """When the rests of this ledger's permits end, in no order."""
        return (until for until, permit, _ in self._resting if permit in ledger.quarantined)
