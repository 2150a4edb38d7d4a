"""The state of an account at a service: usage, holds, circuit, quarantine, limits, mode.

It outlives the incarnations of the provider actor: a restart must forget neither this minute's
usage nor the calls that the service still works on, and must not undo an operator's changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from exai_actors.core.capacity.changes import CapacityEvent
from exai_actors.core.capacity.circuit import Circuit
from exai_actors.core.capacity.holds import Hold
from exai_actors.core.capacity.rate_gates import RateGates
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.core.observe.usage import UsageBook
from exai_actors.core.suspects import Suspects
from exai_actors.ids import PermitId, SessionId, TenantName

EVENTS_KEPT = 50
MAX_MODEL_HOLDS = 1000


class Mode(StrEnum):
    """The operator's setting for a provider."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


class Account:
    """``events`` are the latest changes, ``unlogged`` those that are not in the log yet.

    ``quarantined`` is a heap: when the rest ends, the permit, and the record of its call.
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
        "session_weights",
        "settings",
        "suspects",
        "unlogged",
        "usage",
        "weights",
    )

    def __init__(self, settings: CapacitySettings) -> None:
        self.settings = settings
        self.gates = RateGates(settings.gates)
        self.limit = settings.limit
        self.model_limits = dict(settings.model_limits)
        self.weights = {TenantName(name): weight for name, weight in settings.weights}
        self.session_weights: dict[SessionId, float] = {}
        self.reserved = 0
        self.mode = Mode.OPEN
        self.hold = Hold()
        self.model_holds = {model: Hold(model) for model in self.model_limits}
        self.circuit = Circuit(settings.circuit)
        self.quarantined: list[tuple[float, PermitId, Any]] = []
        self.suspects = Suspects()
        self.usage = UsageBook()
        self.events: deque[CapacityEvent] = deque(maxlen=EVENTS_KEPT)
        self.unlogged: deque[CapacityEvent] = deque(maxlen=EVENTS_KEPT)

    def hold_of(self, model: str, now: float) -> Hold:
        """The hold of one model, created at its first use."""
        hold = self.model_holds.get(model)
        if hold is None:
            if len(self.model_holds) >= MAX_MODEL_HOLDS:
                self.model_holds = {
                    name: each
                    for name, each in self.model_holds.items()
                    if name in self.model_limits or each.is_active(now)
                }
            hold = self.model_holds[model] = Hold(model)
        return hold

    def holds(self) -> Iterator[Hold]:
        """The hold of the account and those of models, whether active or not."""
        yield self.hold
        yield from self.model_holds.values()

    def record(self, event: CapacityEvent) -> None:
        self.events.append(event)
        self.unlogged.append(event)
