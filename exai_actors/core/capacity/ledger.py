"""The ledger of permits: the calls that may be in flight at a service right now.

A permit is a named record that exists or does not. In flight is the number of records, never a
counter, so nothing can drift: releasing a permit twice, or one that was never granted, changes
nothing and is counted as an anomaly.

At every instant: free + in flight + quarantined + reserved = limit + over.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from exai_actors.ids import PermitId

R = TypeVar("R")


class CapacityLedger(Generic[R]):
    """The permits of one pool, each with a record ``R`` of the call it was granted for.

    ``limit`` may change at any time and may be zero. ``reserved`` permits are not granted here. A
    quarantined permit is neither held nor free: its call was cut off, yet the service may still be
    working on it.
    """

    __slots__ = ("_last", "_step", "anomalies", "held", "limit", "quarantined", "reserved")

    def __init__(self, limit: int, last: int = 0, step: int = 1) -> None:
        """Permits are numbered ``last + step``, ``last + 2 * step`` ..., so that no two ledgers
        and no two incarnations grant the same one. Raises ValueError for a limit below zero.
        """
        self.reserved = 0
        self.resize(limit)
        self.anomalies = 0
        self.held: dict[PermitId, R] = {}
        self.quarantined: dict[PermitId, R] = {}
        self._last = last
        self._step = step

    @property
    def in_flight(self) -> int:
        return len(self.held)

    @property
    def free(self) -> int:
        """Permits that could be granted now; zero, never negative, after a shrink."""
        return max(0, self.limit - self._taken())

    @property
    def own(self) -> int:
        """The part of the limit that is not reserved."""
        return max(0, self.limit - self.reserved)

    @property
    def over(self) -> int:
        """The number of permits out beyond a limit that was lowered since."""
        return max(0, self._taken() - self.limit)

    def grant(self, record: R) -> PermitId | None:
        """A new permit for this record, or None when none is free."""
        if len(self.held) + len(self.quarantined) + self.reserved >= self.limit:
            return None
        self._last += self._step
        permit = PermitId(self._last)
        self.held[permit] = record
        return permit

    def release(self, permit: PermitId) -> R | None:
        """Take back a held or quarantined permit; None, and an anomaly, for any other."""
        record = self.held.pop(permit, None)
        if record is None:
            record = self.quarantined.pop(permit, None)
        if record is None:
            self.anomalies += 1
        return record

    def quarantine(self, permit: PermitId) -> R | None:
        """Set a held permit aside until its release; None, and an anomaly, if it is not held."""
        record = self.held.pop(permit, None)
        if record is None:
            self.anomalies += 1
        else:
            self.quarantined[permit] = record
        return record

    def adopt(self, permit: PermitId, record: R) -> None:
        """Hold a permit that an earlier owner granted, even beyond the limit."""
        self.held[permit] = record

    def adopt_quarantined(self, permit: PermitId, record: R) -> None:
        """Keep a permit in the quarantine that an earlier owner put it into."""
        self.quarantined[permit] = record

    def reserve(self, permits: int) -> None:
        """Set the number of reserved permits; revokes none. Raises ValueError below zero."""
        if permits < 0:
            raise ValueError(f"no fewer than 0 permits can be reserved, got {permits}")
        self.reserved = permits

    def resize(self, limit: int) -> None:
        """Set the limit; a shrink revokes no permit. Raises ValueError below zero."""
        if limit < 0:
            raise ValueError(f"a limit cannot be negative, got {limit}")
        self.limit = limit

    def _taken(self) -> int:
        return len(self.held) + len(self.quarantined) + self.reserved
