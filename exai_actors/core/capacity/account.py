"""What a provider's account has used up and what is in force for it now.

It outlives the incarnations of the actor that goes by it: a restart must neither forget that this
minute's requests are spent, or what the provider is still busy with, nor undo what an operator
changed.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Any

from exai_actors.core.capacity.changes import CapacityEvent
from exai_actors.core.capacity.circuit import Circuit
from exai_actors.core.capacity.rate_gates import RateGates
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import PermitId, TenantName

EVENTS_KEPT = 50


class Mode(StrEnum):
    """What its operator wants of a provider."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


class Hold:
    """Until when the provider itself wants no call, and why."""

    __slots__ = ("because", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.because = ""

    def extend(self, until: float, because: str) -> bool:
        """Never shortens an earlier word. Tells whether this one is news."""
        if until <= self.until:
            return False
        self.until = until
        self.because = because
        return True


class Account:
    """``events`` are the latest changes, ``unlogged`` those that nobody has written down yet.

    ``quarantined`` is a heap: until when, which permit, and what it was granted for.
    """

    __slots__ = (
        "circuit",
        "events",
        "gates",
        "hold",
        "limit",
        "mode",
        "model_holds",
        "model_limits",
        "quarantined",
        "reserved",
        "settings",
        "unlogged",
        "weights",
    )

    def __init__(self, settings: CapacitySettings) -> None:
        self.settings = settings
        self.gates = RateGates(settings.gates)
        self.limit = settings.limit
        self.model_limits = dict(settings.model_limits)
        self.weights = {TenantName(name): weight for name, weight in settings.weights}
        self.reserved = 0
        self.mode = Mode.OPEN
        self.hold = Hold()
        self.model_holds = {model: Hold() for model in self.model_limits}
        self.circuit = Circuit(settings.circuit)
        self.quarantined: list[tuple[float, PermitId, Any]] = []
        self.events: deque[CapacityEvent] = deque(maxlen=EVENTS_KEPT)
        self.unlogged: deque[CapacityEvent] = deque(maxlen=EVENTS_KEPT)

    def note(self, event: CapacityEvent) -> None:
        """Keep an event."""
        self.events.append(event)
        self.unlogged.append(event)
