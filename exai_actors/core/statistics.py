"""The figures of each part of the broker, as ``status`` and the health pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from exai_actors.core.capacity.changes import CapacityEvent
from exai_actors.core.capacity.rate_gates import GateStatistics

SESSIONS_SHOWN = 100


class ModelStatistics(msgspec.Struct, frozen=True):
    """A model with a limit of its own."""

    model: str
    limit: int
    in_flight: int
    queued: int


class HoldStatistics(msgspec.Struct, frozen=True):
    """A model that is held, for how much longer and why; the whole account if ``model`` is empty.

    ``words`` are those of the service. ``probe_in_s`` is when a single call is tried before the
    end.
    """

    model: str
    held_for_s: float
    because: str
    words: str = ""
    probe_in_s: float | None = None


class ProviderStatistics(msgspec.Struct, frozen=True):
    """One provider at one instant.

    ``limit``, ``in_flight`` and ``queued`` cover all models. ``configured_limit`` is the ceiling of
    an adaptive limit; ``over`` counts the permits held above a lowered limit. ``anomalies`` counts
    releases of permits that were not held, ``violations`` those of invariants.
    ``mean_service_s`` is None before the first call has ended. ``displaced`` counts the refused
    calls that gave their places in the queue to others. ``shared`` counts requests that joined a
    running call.
    ``trouble`` says why the models could not be listed. ``events`` are the latest changes of
    capacity, each with its cause. ``held_for_s`` is the account's hold, ``model_holds`` are those
    of single models, ``holds`` all of them. ``next_free_s`` is the expected time until the next
    permit is granted, None if unknown; ``waits_for`` says which limit keeps calls waiting now, None
    if only permits do. ``free`` permits can be granted now. ``unaccounted`` is the number of calls
    that began and are neither in flight nor ended, by counters on one side and the records of
    permits on the other: anything but 0 is a fault of the broker.
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
    model_holds: tuple[HoldStatistics, ...] = ()
    holds: tuple[HoldStatistics, ...] = ()
    retried: int = 0
    displaced: int = 0
    shared: int = 0
    violations: int = 0
    free: int = 0
    unaccounted: int = 0
    gates: tuple[GateStatistics, ...] = ()
    model_limits: tuple[ModelStatistics, ...] = ()
    weights: dict[str, float] = {}
    events: tuple[CapacityEvent, ...] = ()
    next_free_s: float | None = None
    waits_for: dict[str, Any] | None = None

    @property
    def is_conserved(self) -> bool:
        """Whether permits and calls add up."""
        out = self.in_flight + self.quarantined + self.reserved
        return self.unaccounted == 0 and self.free + out == self.limit + self.over


class FlowStatistics(msgspec.Struct, frozen=True):
    """The requests of one session: with permits, and waiting."""

    tenant: str
    session: str
    in_flight: int
    queued: int


class SessionStatistics(msgspec.Struct, frozen=True):
    """A session with requests; ``session`` is the beginning of its name."""

    session: str
    in_flight: int
    queued: int


class TenantStatistics(msgspec.Struct, frozen=True):
    """The requests of one tenant at all providers, with those that wait in its sessions.

    ``share`` is its part of the capacity while the tenants that have requests now compete; None if
    it has none. ``sessions`` are those with the most requests, at most SESSIONS_SHOWN.
    """

    name: str
    weight: float
    share: float | None
    in_flight: int
    queued: int
    sessions: tuple[SessionStatistics, ...] = ()


class ListenerStatistics(msgspec.Struct, frozen=True):
    """The connections of admitted clients, and the sessions.

    ``refused`` and ``wrong_tokens`` count the hellos without a place or a valid token so far.
    """

    connections: int
    sessions: int
    draining: bool
    refused: int = 0
    wrong_tokens: int = 0


class StrangerStatistics(msgspec.Struct, frozen=True):
    """The sockets that are not admitted, and how many had to give way to others so far."""

    open: int
    displaced: int


class MemoryStatistics(msgspec.Struct, frozen=True):
    """The memory of the process, in bytes.

    ``buffered`` is the size of unread answers, unfinished messages and requests in flight,
    ``kept`` that of stored outcomes and conversations. While ``alarm`` is true, ``restrained``
    connections and sessions take in nothing more. ``alarms`` counts the alarms so far, ``ended``
    the connections that were ended for their memory.
    """

    buffered: int = 0
    kept: int = 0
    buffer_limit: int = 0
    kept_limit: int = 0
    resident: int = 0
    alarm: bool = False
    restrained: int = 0
    alarms: int = 0
    ended: int = 0


class BrokerStatistics(msgspec.Struct, frozen=True):
    """The whole broker at one instant; times are seconds."""

    version: str
    uptime_s: float
    connections: int
    sessions: int
    draining: bool
    dead_letters: int
    providers: tuple[ProviderStatistics, ...]
    refused: int = 0
    strangers: int = 0
    strangers_displaced: int = 0
    wrong_tokens: int = 0
    tenants: tuple[TenantStatistics, ...] = ()
    memory: MemoryStatistics = MemoryStatistics()

    @property
    def capacity(self) -> int:
        return sum(provider.limit for provider in self.providers)

    @property
    def in_flight(self) -> int:
        return sum(provider.in_flight for provider in self.providers)


def tenants_of(
    flows: Iterable[FlowStatistics], weights: Mapping[str, float]
) -> tuple[TenantStatistics, ...]:
    """Each tenant with requests or a configured weight; flows of one session are added up."""
    sums: dict[str, dict[str, list[int]]] = {name: {} for name in weights}
    for flow in flows:
        session = sums.setdefault(flow.tenant, {}).setdefault(flow.session, [0, 0])
        session[0] += flow.in_flight
        session[1] += flow.queued
    competing = sum(
        weights.get(name, 1.0)
        for name, sessions in sums.items()
        if any(map(any, sessions.values()))
    )
    return tuple(
        _tenant(name, weights.get(name, 1.0), competing, sessions)
        for name, sessions in sums.items()
    )


def _tenant(
    name: str, weight: float, competing: float, sessions: dict[str, list[int]]
) -> TenantStatistics:
    in_flight = sum(figures[0] for figures in sessions.values())
    queued = sum(figures[1] for figures in sessions.values())
    largest = sorted(sessions.items(), key=lambda each: (-sum(each[1]), each[0]))
    return TenantStatistics(
        name=name,
        weight=weight,
        share=round(weight / competing, 4) if in_flight or queued else None,
        in_flight=in_flight,
        queued=queued,
        sessions=tuple(
            SessionStatistics(session, *figures)
            for session, figures in largest[:SESSIONS_SHOWN]
            if any(figures)
        ),
    )
