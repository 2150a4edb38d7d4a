"""How each part of the broker describes itself. The console and ``status`` read only these."""

from __future__ import annotations

import msgspec

from exai_actors.core.capacity.changes import CapacityEvent
from exai_actors.core.capacity.rate_gates import GateStatistics


class ModelStatistics(msgspec.Struct, frozen=True):
    """A model with a limit of its own."""

    model: str
    limit: int
    in_flight: int
    queued: int


class ProviderStatistics(msgspec.Struct, frozen=True):
    """One provider at one instant; ``mean_service_s`` is None before the first call has ended.

    ``trouble`` is why it could not be asked for its models.
    ``over`` is by how many permits a lowered limit is exceeded; ``anomalies`` counts releases of
    permits that were not held, ``faults`` broken promises that the broker found in itself.
    ``limit`` and the like count over all models; ``configured_limit`` is what an adaptive limit
    stays below. ``shared`` requests joined a call that was there already. ``events`` are the latest
    changes of capacity, each with its cause.
    """

    name: str
    kind: str
    models: tuple[str, ...]
    limit: int
    in_flight: int
    queued: int
    queue_limit: int
    over: int
    anomalies: int
    granted: int
    completed: int
    failed: int
    aborted: int
    refused: int
    mean_service_s: float | None
    incarnation: int
    trouble: str | None = None
    configured_limit: int = 0
    reserved: int = 0
    quarantined: int = 0
    mode: str = "open"
    circuit: str = "closed"
    held_for_s: float = 0.0
    held_because: str = ""
    tried_again: int = 0
    shared: int = 0
    faults: int = 0
    gates: tuple[GateStatistics, ...] = ()
    model_limits: tuple[ModelStatistics, ...] = ()
    weights: dict[str, float] = {}
    events: tuple[CapacityEvent, ...] = ()


class ListenerStatistics(msgspec.Struct, frozen=True):
    """Who is connected right now."""

    connections: int
    sessions: int
    draining: bool


class BrokerStatistics(msgspec.Struct, frozen=True):
    """The whole broker at one instant; times are seconds."""

    version: str
    uptime_s: float
    connections: int
    sessions: int
    draining: bool
    dead_letters: int
    providers: tuple[ProviderStatistics, ...]

    @property
    def capacity(self) -> int:
        return sum(provider.limit for provider in self.providers)

    @property
    def in_flight(self) -> int:
        return sum(provider.in_flight for provider in self.providers)
