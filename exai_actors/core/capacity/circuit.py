"""Leaves a provider alone that keeps failing, and tries it with single calls before all return."""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from math import inf

import msgspec

from exai_actors.core.capacity.settings import CircuitSettings


class CircuitState(StrEnum):
    """Calls go through, none do, or only probes do."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


# Looking a member up on its Enum costs as much as a handler's step.
_CLOSED = CircuitState.CLOSED


class CircuitChange(msgspec.Struct, frozen=True):
    """What the circuit did, and why."""

    what: str
    cause: str


class Circuit:
    """``state`` becomes half-open with the first probe that is granted.

    What a call that was granted before it opened comes to has no say any more.
    """

    __slots__ = (
        "_again_at",
        "_calls",
        "_failed",
        "_in_a_row",
        "_openings",
        "_probes",
        "_settings",
        "state",
    )

    def __init__(self, settings: CircuitSettings) -> None:
        self._settings = settings
        self.state = CircuitState.CLOSED
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._in_a_row = 0
        self._openings = 0
        self._again_at = 0.0
        self._probes = 0

    def opens_at(self, now: float) -> float:
        """When a call may go; ``now`` if it may, inf while all probes are out."""
        if self.state is CircuitState.CLOSED:
            return now
        if self._probes >= self._settings.probes:
            return inf
        return max(now, self._again_at)

    def may_grant(self, now: float) -> bool:
        """Whether a call may go now."""
        return self.state is CircuitState.CLOSED or self.opens_at(now) <= now

    def granted(self) -> bool:
        """A call goes; tells whether it is a probe."""
        if self.state is CircuitState.CLOSED:
            return False
        self.state = CircuitState.HALF_OPEN
        self._probes += 1
        return True

    def succeeded(self, now: float, probe: bool) -> CircuitChange | None:
        """A call was answered."""
        if self.state is _CLOSED:
            self._in_a_row = 0
            if self._failed:
                self._note(now, failed=False)
            return None
        if not probe:
            return None
        self.state = CircuitState.CLOSED
        self._probes = self._in_a_row = self._openings = self._failed = 0
        self._calls.clear()
        return CircuitChange("circuit closed", "a probe was answered")

    def failed(self, now: float, probe: bool) -> CircuitChange | None:
        """A call failed by the provider's fault."""
        settings = self._settings
        if self.state is not CircuitState.CLOSED:
            if not probe:
                return None
            self._probes -= 1
            return self._open(now, "a probe failed")
        self._in_a_row += 1
        self._note(now, failed=True)
        if self._in_a_row >= settings.failures_in_a_row:
            return self._open(now, f"{self._in_a_row} calls failed in a row")
        calls = len(self._calls)
        if calls >= settings.calls and self._failed >= settings.failure_rate * calls:
            return self._open(now, f"{self._failed} of {calls} calls failed")
        return None

    def abandoned(self, probe: bool) -> None:
        """A call ended without saying anything of the provider; its place is free for another."""
        if probe and self._probes:
            self._probes -= 1

    def forget_probes(self) -> None:
        """Nobody is left who would hear how they end."""
        self._probes = 0

    def _open(self, now: float, cause: str) -> CircuitChange:
        settings = self._settings
        open_s = min(settings.open_cap_s, settings.open_s * 2 ** min(self._openings, 16))
        self._openings += 1
        self.state = CircuitState.OPEN
        self._again_at = now + open_s
        return CircuitChange(f"circuit open for {open_s:g} s", cause)

    def _note(self, now: float, *, failed: bool) -> None:
        # Successes before the first failure are not kept: a healthy provider costs nothing here.
        self._calls.append((now, failed))
        self._failed += failed
        oldest = now - self._settings.window_s
        while self._calls and (self._calls[0][0] <= oldest or len(self._calls) > 10_000):
            self._failed -= self._calls.popleft()[1]
