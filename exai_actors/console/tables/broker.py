"""The broker in one row: the header of every console."""

from __future__ import annotations

from collections.abc import Iterator

from exai_actors.console.tables.cells import (
    BYTES,
    COUNT,
    SECONDS,
    SHARE,
    TEXT,
    TOTAL,
    rounded,
)
from exai_actors.core.health import unusable_because
from exai_actors.core.observe.parts import ProcessState, RequestCounts
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.statistics import BrokerStatistics

BROKER = Table(
    "broker",
    (
        Column("health", "Health", TEXT, "ok, draining, or degraded and why"),
        Column("in_flight", "In flight", COUNT, "calls that run"),
        Column("limit", "Limit", COUNT, "calls that may run at the same time"),
        Column("queued", "Queued", COUNT, "requests that wait at providers"),
        Column("requests", "Requests", TOTAL, "requests that were accepted"),
        Column("completed", "Completed", TOTAL, "requests that were answered"),
        Column("failed", "Failed", TOTAL, "requests that failed or expired"),
        Column("refused", "Refused", TOTAL, "requests that were refused"),
        Column("restarts", "Restarts", TOTAL, "failed actors that were started again"),
        Column("dead_letters", "Dead letters", TOTAL, "messages to actors that had ended"),
        Column("anomalies", "Anomalies", TOTAL, "permits that did not add up"),
        Column("alarms", "Alarms", COUNT, "alarms that are raised"),
        Column("loop_lag_s", "Loop lag", SECONDS, "how late timers are: the longest of late"),
        Column("connections", "Conns", COUNT, "connections of admitted clients"),
        Column("sessions", "Sessions", COUNT, "sessions"),
        Column("rss_bytes", "Memory", BYTES, "resident memory of the process"),
        Column("cpu_share", "CPU", SHARE, "the part of one core that the process uses"),
        Column("sampling_share", "Sampling", SHARE, "the part of one core that consoles use"),
        Column("uptime_s", "Up", SECONDS, "how long the broker has run"),
    ),
)


def broker_rows(
    statistics: BrokerStatistics, counts: RequestCounts, process: ProcessState
) -> Iterator[Keyed]:
    providers = statistics.providers
    yield (
        "broker",
        (
            _health(statistics),
            statistics.in_flight,
            statistics.capacity,
            sum(provider.queued for provider in providers),
            counts.accepted,
            counts.completed,
            counts.failed + counts.expired,
            counts.refused,
            process.restarts,
            statistics.dead_letters,
            sum(provider.anomalies + provider.violations for provider in providers),
            process.alarms,
            rounded(process.loop_lag_s),
            statistics.connections,
            statistics.sessions,
            statistics.memory.resident,
            round(process.cpu_share, 3),
            round(process.sampling_share, 4),
            round(statistics.uptime_s),
        ),
    )


def _health(statistics: BrokerStatistics) -> str:
    if statistics.draining:
        return "draining"
    reasons = [
        f"{provider.name} is {reason}"
        for provider in statistics.providers
        if (reason := unusable_because(provider)) is not None
    ]
    return f"degraded: {'; '.join(reasons)}" if reasons else "ok"
