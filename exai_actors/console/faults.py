"""Saves the ring after a fault, with the moments that follow it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import msgspec

from exai_actors.console.ring import Ring
from exai_actors.core.operations.action import counted
from exai_actors.runtime import ActorFailed, Cancellable, Driver, Event
from exai_actors.wire.console.recording import header

AFTERMATH_S = 5.0
EVERY_S = 60.0

Save = Callable[[list[bytes], str], object]
"""Writes the lines of a recording; the text names the fault."""


class Faults:
    """One recording for all faults within AFTERMATH_S, and at most one in EVERY_S."""

    def __init__(
        self,
        ring: Ring,
        driver: Driver,
        wall: Callable[[], float],
        greeting: Callable[[], dict[str, Any]],
        save: Save,
    ) -> None:
        self._ring, self._driver, self._wall = ring, driver, wall
        self._greeting = greeting
        self._save = save
        self._fault: tuple[float, str] | None = None
        self._timer: Cancellable | None = None
        self._reported_at = -inf
        self._alarms = 0.0
        ring.on_sample = self._look_at_alarms

    def note(self, event: Event) -> None:
        """An event of the runtime; the failure of an actor is a fault."""
        if isinstance(event, ActorFailed):
            self.report(f"{event.path} failed: {event.error}")

    def report(self, fault: str) -> None:
        """Something went wrong."""
        now = self._driver.now()
        if self._fault is not None or now - self._reported_at < EVERY_S:
            return
        self._reported_at = now
        self._fault = self._wall(), fault
        self._timer = self._driver.call_later(AFTERMATH_S, self.save_pending)

    def save_pending(self) -> None:
        """Save the recording of a fault whose aftermath is over, or cut short by the end."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fault is not None:
            (time, fault), self._fault = self._fault, None
            self._save(self.lines(time, fault), fault)

    def lines(self, time: float, fault: str) -> list[bytes]:
        """The recording up to now. May be called on any thread."""
        return [header(self._greeting(), time, fault), *self._ring.frames()]

    def _look_at_alarms(self) -> None:
        raised = self._ring.latest("alarms") or 0.0
        if raised > self._alarms:
            self.report(f"{counted(round(raised - self._alarms), 'alarm')} raised")
        self._alarms = raised


def greeting_of(welcome: bytes) -> dict[str, Any]:
    """A greeting without actions and questions, which a recording does not have."""
    greeting: dict[str, Any] = msgspec.json.decode(welcome)
    return {**greeting, "actions": [], "questions": []}
