"""The ledger of permits: who may have an upstream call in flight right now.

A permit is a named record that exists or does not. In-flight is the number of records, never a
counter, so nothing can drift: releasing a permit twice, or one that was never granted, changes
nothing and is counted as an anomaly.
"""

from __future__ import annotations

import msgspec

from exai_actors.ids import PermitId, RequestKey, SessionId


class Permit(msgspec.Struct, frozen=True, gc=False):
    """One granted permit; ``since`` is the instant of the grant in seconds."""

    id: PermitId
    session: SessionId
    request: RequestKey
    since: float


class CapacityLedger:
    """Permits of one provider. ``limit`` is changed by resize() at any time and may be zero."""

    __slots__ = ("_held", "_last", "anomalies", "limit")

    def __init__(self, limit: int, last: int = 0) -> None:
        """``last`` is the number after which permits are counted, so that no two are alike."""
        self.resize(limit)
        self.anomalies = 0
        self._held: dict[PermitId, Permit] = {}
        self._last = last

    @property
    def in_flight(self) -> int:
        return len(self._held)

    @property
    def free(self) -> int:
        """Permits that could be granted now; zero, never negative, after a shrink."""
        return max(0, self.limit - len(self._held))

    @property
    def over(self) -> int:
        """By how many the permits out exceed a limit that was lowered meanwhile."""
        return max(0, len(self._held) - self.limit)

    def grant(self, session: SessionId, request: RequestKey, now: float) -> Permit | None:
        """A new permit, or None when none is free."""
        held = self._held
        if len(held) >= self.limit:
            return None
        self._last = last = self._last + 1
        permit = Permit(PermitId(last), session, request, now)
        held[permit.id] = permit
        return permit

    def release(self, permit: PermitId) -> Permit | None:
        """Give a permit back; None, and an anomaly, if it is not held."""
        record = self._held.pop(permit, None)
        if record is None:
            self.anomalies += 1
        return record

    def adopt(self, permit: Permit) -> None:
        """Hold a permit that an earlier owner granted, even beyond the limit."""
        self._held[permit.id] = permit

    def find(self, permit: PermitId) -> Permit | None:
        """The record of a permit, or None when it is not held."""
        return self._held.get(permit)

    def held(self) -> tuple[Permit, ...]:
        """All permits that are out, in the order of their grants."""
        return tuple(self._held.values())

    def resize(self, limit: int) -> None:
        """Set the limit. Raises ValueError below zero; a shrink revokes nothing."""
        if limit < 0:
            raise ValueError(f"a limit cannot be negative, got {limit}")
        self.limit = limit
