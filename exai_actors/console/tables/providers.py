"""The providers: their permits, queues and totals."""

from __future__ import annotations

from collections.abc import Iterator

from exai_actors.console.tables.cells import (
    COUNT,
    FLAG,
    SECONDS,
    SHARE,
    TEXT,
    TOTAL,
    rounded,
    share,
)
from exai_actors.core.health import unusable_because
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.statistics import BrokerStatistics

PROVIDERS = Table(
    "providers",
    (
        Column("name", "Provider", TEXT, "its name in the configuration"),
        Column("state", "State", TEXT, "serving, or why it serves no call"),
        Column("limit", "Limit", COUNT, "calls that may run at the same time"),
        Column("in_flight", "In flight", COUNT, "calls that run"),
        Column("free", "Free", COUNT, "permits that can be granted now"),
        Column("quarantined", "Resting", COUNT, "permits of calls that were cut off"),
        Column("reserved", "Reserved", COUNT, "permits kept for others"),
        Column("over", "Over", COUNT, "permits out beyond a limit that was lowered"),
        Column("conserved", "Conserved", FLAG, "whether permits and calls add up"),
        Column("queued", "Queued", COUNT, "requests that wait here"),
        Column("full", "Full", SHARE, "the part of the queue that is taken"),
        Column("gate", "Gate", SHARE, "how full the fullest rate gate is"),
        Column("held_s", "Held", SECONDS, "how much longer the account is held"),
        Column("service_s", "Service", SECONDS, "mean duration of its calls"),
        Column("granted", "Granted", TOTAL, "calls that began"),
        Column("completed", "Completed", TOTAL, "calls that were answered"),
        Column("failed", "Failed", TOTAL, "calls that failed"),
        Column("refused", "Refused", TOTAL, "requests that were not admitted"),
        Column("retried", "Retried", TOTAL, "further attempts"),
        Column("anomalies", "Anomalies", TOTAL, "releases of permits that were not held"),
        Column("faults", "Faults", TOTAL, "violated invariants that were found"),
        Column("incarnation", "Inc", COUNT, "the number of this incarnation of its actor"),
    ),
)


def provider_rows(statistics: BrokerStatistics) -> Iterator[Keyed]:
    """One row for each provider, in the order of the configuration."""
    for provider in statistics.providers:
        gate = max((gate.used / gate.limit for gate in provider.gates if gate.limit), default=0.0)
        yield (
            provider.name,
            (
                provider.name,
                unusable_because(provider) or "serving",
                provider.limit,
                provider.in_flight,
                provider.free,
                provider.quarantined,
                provider.reserved,
                provider.over,
                provider.is_conserved,
                provider.queued,
                share(provider.queued, provider.queue_limit),
                round(gate, 3),
                rounded(provider.held_for_s),
                None if provider.mean_service_s is None else rounded(provider.mean_service_s),
                provider.granted,
                provider.completed,
                provider.failed,
                provider.refused,
                provider.tried_again,
                provider.anomalies,
                provider.faults,
                provider.incarnation,
            ),
        )
