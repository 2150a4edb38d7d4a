"""The ledger of permits: who may have an upstream call in flight right now.

A permit is a named record that exists or does not. In-flight is the number of records, never a
counter, so nothing can drift: releasing a permit twice, or one that was never granted, changes
nothing and is counted as an anomaly.

At every instant: free + in flight + quarantined + reserved = limit + over.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from exai_actors.ids import PermitId

R = TypeVar("R")


class CapacityLedger(Generic[R]):
    """Permits of one provider, each with a record ``R`` of what it was granted for.

    ``limit`` is changed by resize() at any time and may be zero. ``reserved`` permits are for
    others to grant. A quarantined permit is neither held nor free: its call was aborted, yet the
    provider may still be busy with it.
    """

    __slots__ = ("_last", "_step", "anomalies", "held", "limit", "quarantined", "reserved")

    def __init__(self, limit: int, last: int = 0, step: int = 1) -> None:
        """Permits are numbered ``last + step``, ``last + 2 * step`` ..., so that several ledgers
        and several incarnations never give two alike.
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
        """The part of the limit that is not left to others."""
        return max(0, self.limit - self.reserved)

    @property
    def over(self) -> int:
        """By how many the permits out exceed a limit that was lowered meanwhile."""
        return max(0, self._taken() - self.limit)

    def grant(self, record: R) -> PermitId | None:
        """A new permit for what the record says, or None when none is free."""
        held = self.held
        if len(held) + len(self.quarantined) + self.reserved >= self.limit:
            return None
        self._last = last = self._last + self._step
        permit = PermitId(last)
        held[permit] = record
        return permit

    def release(self, permit: PermitId) -> R | None:
        """Give a permit back, from quarantine too; None, and an anomaly, if it is not out."""
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
        """Keep a permit aside that an earlier owner had set aside."""
        self.quarantined[permit] = record

    def reserve(self, permits: int) -> None:
        """Leave so many permits to others. Raises ValueError below zero; revokes nothing."""
        if permits < 0:
            raise ValueError(f"no fewer than 0 permits can be reserved, got {permits}")
        self.reserved = permits

    def resize(self, limit: int) -> None:
        """Set the limit. Raises ValueError below zero; a shrink revokes nothing."""
        if limit < 0:
            raise ValueError(f"a limit cannot be negative, got {limit}")
        self.limit = limit

    def _taken(self) -> int:
        return len(self.held) + len(self.quarantined) + self.reserved
