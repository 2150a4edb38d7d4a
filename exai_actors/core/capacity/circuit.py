"""A circuit breaker: a failing service is left alone, then probed with single calls."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Literal

import msgspec

from exai_actors.core.capacity.settings import CircuitSettings

MAX_CALLS_KEPT = 10_000


CircuitState = Literal["closed", "open", "half_open"]
"""Whether calls pass, none does, or only probes do."""


class CircuitChange(msgspec.Struct, frozen=True):
    """A change of state and its cause, in words; ``seconds`` is how long the circuit is open."""

    what: str
    cause: str
    seconds: float | None = None


class Circuit:
    """``state`` becomes half-open when the first probe is granted.

    ``cause`` is why it opened the last time. While ``has_failures`` is False, an answered call
    changes nothing, and need not be noted.

    While it is not closed, only probes count: calls granted before it opened change nothing.
    """

    __slots__ = (
        "_calls",
        "_failed",
        "_failures_in_a_row",
        "_openings",
        "_probe_at",
        "_probes",
        "_settings",
        "cause",
        "has_failures",
        "state",
    )

    def __init__(self, settings: CircuitSettings) -> None:
        self._settings = settings
        self.state: CircuitState = "closed"
        self.cause = ""
        self.has_failures = False
        # When each call of the window ended, and whether it failed.
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._failures_in_a_row = 0
        self._openings = 0
        self._probe_at = 0.0
        self._probes = 0

    def opens_at(self, now: float) -> float:
        """When a call may pass; ``now`` if it may, inf while all probes are in flight."""
        if self.state == "closed":
            return now
        if self._probes >= self._settings.probes:
            return inf
        return max(now, self._probe_at)

    def on_grant(self) -> bool:
        """Note a granted call; returns whether it is a probe."""
        if self.state == "closed":
            return False
        self.state = "half_open"
        self._probes += 1
        return True

    def succeeded(self, now: float, is_probe: bool) -> CircuitChange | None:
        """Note an answered call; an answered probe closes the circuit."""
        if self.state == "closed":
            self._failures_in_a_row = 0
            # Successes before the first failure are not kept.
            if self._failed:
                self._note(now, failed=False)
            else:
                self.has_failures = False
            return None
        if not is_probe:
            return None
        self.reset()
        return CircuitChange("circuit closed", "a probe was answered")

    def failed(self, now: float, is_probe: bool, words: str = "") -> CircuitChange | None:
        """Note a call that failed because the service does not work, with its ``words``."""
        settings = self._settings
        if self.state != "closed":
            if not is_probe:
                return None
            # A probe may be older than an operator's reset.
            self._probes = max(0, self._probes - 1)
            return self._open(now, "a probe failed", words)
        self.has_failures = True
        self._failures_in_a_row += 1
        self._note(now, failed=True)
        if self._failures_in_a_row >= settings.failures_in_a_row:
            return self._open(now, f"{self._failures_in_a_row} calls failed in a row", words)
        calls = len(self._calls)
        if calls >= settings.calls and self._failed >= settings.failure_rate * calls:
            return self._open(now, f"{self._failed} of {calls} calls failed", words)
        return None

    def reset(self) -> None:
        """Close it, and forget the calls so far."""
        self.state = "closed"
        self.has_failures = False
        self._probes = self._failures_in_a_row = self._openings = self._failed = 0
        self._calls.clear()

    def abandoned(self, is_probe: bool) -> None:
        """Note a call that ended without a sign of the service's state; another may probe."""
        if is_probe and self._probes:
            self._probes -= 1

    def forget_probes(self) -> None:
        """Forget the probes in flight, after a restart of the actor that would see their ends."""
        self._probes = 0

    def _open(self, now: float, cause: str, words: str) -> CircuitChange:
        settings = self._settings
        open_s = min(settings.open_cap_s, settings.open_s * 2 ** min(self._openings, 16))
        self._openings += 1
        self.state = "open"
        self._probe_at = now + open_s
        self.cause = f"{cause}: {words}" if words else cause
        return CircuitChange(f"circuit open for {open_s:g} s", self.cause, open_s)

    def _note(self, now: float, *, failed: bool) -> None:
        calls = self._calls
        calls.append((now, failed))
        self._failed += failed
        oldest = now - self._settings.window_s
        while calls and (calls[0][0] <= oldest or len(calls) > MAX_CALLS_KEPT):
            self._failed -= calls.popleft()[1]
