"""The providers: their permits, queues, times and totals; their gates and holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from exai_actors.console.tables.cells import (
    COUNT,
    FLAG,
    SECONDS,
    SHARE,
    TEXT,
    TOTAL,
    rounded,
    rounded_if,
    share,
)
from exai_actors.core.health import unusable_because
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.observe.histogram import Recent
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.ids import ProviderName

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
        Column("wait_p50_s", "Wait p50", SECONDS, "half of the calls of late waited less"),
        Column("wait_p99_s", "Wait p99", SECONDS, "99 of 100 calls of late waited less"),
        Column("service_p50_s", "Serv p50", SECONDS, "half of the calls of late took less"),
        Column("service_p99_s", "Serv p99", SECONDS, "99 of 100 calls of late took less"),
        Column("mode", "Mode", TEXT, "open, or paused or draining by its operator"),
        Column("circuit", "Circuit", TEXT, "closed; open: it failed too often; half_open: probing"),
        Column("granted", "Granted", TOTAL, "calls that began"),
        Column("completed", "Completed", TOTAL, "calls that were answered"),
        Column("failed", "Failed", TOTAL, "calls that failed"),
        Column("refused", "Refused", TOTAL, "requests that were not admitted"),
        Column("retried", "Retried", TOTAL, "further attempts"),
        Column("anomalies", "Anomalies", TOTAL, "releases of permits that were not held"),
        Column("violations", "Violations", TOTAL, "violated invariants that were found"),
        Column("incarnation", "Inc", COUNT, "the number of this incarnation of its actor"),
    ),
)


GATES = Table(
    "gates",
    (
        Column("provider", "Provider", TEXT, "whose account it limits"),
        Column("gate", "Gate", TEXT, "requests or tokens, per minute or day"),
        Column("used", "Used", COUNT, "requests or tokens within the window"),
        Column("limit", "Limit", COUNT, "the most that may be within it"),
        Column("remains", "Remains", COUNT, "the rest of the limit"),
        Column("full", "Full", SHARE, "the part that is used"),
        Column("opens_in_s", "Opens in", SECONDS, "the time until a usual call passes"),
        Column("window_s", "Window", SECONDS, "the length of the window, with its margin"),
    ),
)

HOLDS = Table(
    "holds",
    (
        Column("provider", "Provider", TEXT, "whose account is held"),
        Column("model", "Model", TEXT, "the model that is held; empty for the whole account"),
        Column("until_s", "Ends in", SECONDS, "how much longer it lasts"),
        Column("probe_in_s", "Probe in", SECONDS, "the time until a single call is tried"),
        Column("kind", "Kind", TEXT, "the kind of refusal"),
        Column("cause", "Cause", TEXT, "the words of the service"),
    ),
)


class RecentTimes:
    """The waits and services of each provider's calls in the last minutes."""

    def __init__(self, figures: Callable[[], Mapping[ProviderName, CallFigures]]) -> None:
        self._figures = figures
        self._recent: dict[str, tuple[Recent, Recent]] = {}

    def of(self, provider: str, now: float) -> list[float | None]:
        """The median and the 99th percentile of the waits, and of the services."""
        figures = self._figures().get(ProviderName(provider))
        if figures is None:
            return [None, None, None, None]
        recent = self._recent.get(provider)
        if recent is None or not recent[0].is_of(figures.waits):
            recent = Recent(figures.waits, now), Recent(figures.services, now)
            self._recent[provider] = recent
        return [
            rounded_if(quantile) for each in recent for quantile in each.quantiles(now, 0.5, 0.99)
        ]


def provider_rows(statistics: BrokerStatistics, times: RecentTimes, now: float) -> Iterator[Keyed]:
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
                rounded_if(provider.mean_service_s),
                *times.of(provider.name, now),
                provider.mode,
                provider.circuit,
                provider.granted,
                provider.completed,
                provider.failed,
                provider.refused,
                provider.retried,
                provider.anomalies,
                provider.violations,
                provider.incarnation,
            ),
        )


def gate_rows(statistics: BrokerStatistics) -> Iterator[Keyed]:
    """One row for each rate gate of each provider."""
    for provider in statistics.providers:
        for gate in provider.gates:
            yield (
                f"{provider.name}/{gate.name}",
                (
                    provider.name,
                    gate.name,
                    round(gate.used),
                    gate.limit,
                    max(0, gate.limit - round(gate.used)),
                    share(gate.used, gate.limit),
                    rounded(gate.opens_in_s),
                    gate.length_s,
                ),
            )


def hold_rows(statistics: BrokerStatistics) -> Iterator[Keyed]:
    """One row for each hold in force."""
    for provider in statistics.providers:
        for hold in provider.holds:
            yield (
                f"{provider.name}/{hold.model}",
                (
                    provider.name,
                    hold.model,
                    rounded(hold.held_for_s),
                    rounded_if(hold.probe_in_s),
                    hold.because,
                    hold.words,
                ),
            )
