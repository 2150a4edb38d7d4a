"""The alarms that every broker has: their rules, and their figures at present."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from exai_actors.core.calls import FailureKind
from exai_actors.core.health import reasons_not_ready, unusable_because
from exai_actors.core.observe.alarms import AlarmRule, Reading, Severity
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.observe.histogram import Recent
from exai_actors.core.operations.action import counted
from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics
from exai_actors.ids import ProviderName

MINUTE_S = 60.0
LONG_S = 600.0
WAIT_SHARE = 0.95
"""The alarm about waits is about the longest waits, beyond this part of all."""

AlarmName = Literal[
    "no_usable_provider",
    "provider_closed",
    "circuit_open",
    "provider_held",
    "rate_limited",
    "queue_full",
    "long_waits",
    "restarts",
    "dead_letters",
    "not_conserved",
    "loop_lag",
    "memory",
    "mailbox_full",
]


class Thresholds(msgspec.Struct, frozen=True):
    """The figures from which on alarms are raised."""

    rate_limited_per_minute: int = 10
    queue_share: float = 0.85
    wait_s: float = 60.0
    restarts: int = 3
    dead_letters_per_minute: int = 100
    loop_lag_s: float = 0.25
    memory_share: float = 0.85
    mailbox_share: float = 0.85


class ProcessFigures(msgspec.Struct, frozen=True):
    """Figures of the process: restarts of actors so far, the longest recent lag of the loop, the
    part of the available memory that is in use, and the fullest mailbox with its actor.
    """

    restarts: int
    loop_lag_s: float
    memory_share: float
    fullest: tuple[float, str]


def rules(thresholds: Thresholds) -> tuple[AlarmRule, ...]:
    """The rule of each alarm, the most urgent first."""
    warning, critical = Severity.WARNING, Severity.CRITICAL
    each = thresholds

    def rule(
        name: AlarmName,
        severity: Severity,
        raise_at: float = 1.0,
        clear: float = 1.0,
        **times: float,
    ) -> AlarmRule:
        return AlarmRule(name, severity, raise_at, raise_at * clear, **times)

    return (
        rule("no_usable_provider", critical, raise_after_s=3.0, clear_after_s=5.0),
        rule("provider_closed", critical, clear_after_s=5.0),
        rule("not_conserved", critical),
        rule("circuit_open", warning, clear_after_s=10.0),
        rule("provider_held", warning, clear_after_s=5.0),
        rule("rate_limited", warning, each.rate_limited_per_minute, 0.5),
        rule("queue_full", warning, each.queue_share, 0.9),
        rule("long_waits", warning, each.wait_s, 0.8),
        rule("restarts", warning, each.restarts),
        rule("dead_letters", warning, each.dead_letters_per_minute, 0.5),
        rule("loop_lag", warning, each.loop_lag_s, 0.5),
        rule("memory", critical, each.memory_share, 0.95),
        rule("mailbox_full", warning, each.mailbox_share, 0.9),
    )


class AlarmReadings:
    """Makes readings of the broker's figures, and remembers those of the last minutes for rates."""

    def __init__(self) -> None:
        self._limited: dict[str, _Window] = {}
        self._waits: dict[str, Recent] = {}
        self._faults: dict[str, _Window] = {}
        self._restarts = _Window(LONG_S)
        self._dead_letters = _Window(MINUTE_S)

    def take(
        self,
        statistics: BrokerStatistics,
        calls: Mapping[ProviderName, CallFigures],
        process: ProcessFigures,
        now: float,
    ) -> Iterator[Reading]:
        """The readings at ``now``; to be called about every second."""
        reasons = () if statistics.draining else reasons_not_ready(statistics)
        if reasons:
            yield Reading("no_usable_provider", "", 1.0, "; ".join(reasons))
        for provider in statistics.providers:
            figures = calls.get(ProviderName(provider.name))
            yield from self._of_provider(provider, figures, now)
        restarts = self._restarts.change(process.restarts, now)
        failed = counted(restarts, "failed actor was", "failed actors were")
        text = f"{failed} started again in ten minutes"
        yield Reading("restarts", "", restarts, text)
        letters = self._dead_letters.change(statistics.dead_letters, now)
        text = f"{counted(letters, 'dead letter')} in a minute"
        yield Reading("dead_letters", "", letters, text)
        lag = process.loop_lag_s
        yield Reading("loop_lag", "", lag, f"the event loop was {lag:.2f} s late")
        yield from _of_memory(statistics, process)
        share, path = process.fullest
        yield Reading("mailbox_full", path, share, f"the mailbox of {path} is {share:.0%} full")

    def _of_provider(
        self, provider: ProviderStatistics, figures: CallFigures | None, now: float
    ) -> Iterator[Reading]:
        name = provider.name
        if provider.mode == "closed":
            yield Reading("provider_closed", name, 1.0, provider.trouble or "it is closed")
        if provider.circuit == "open":
            yield Reading("circuit_open", name, 1.0, unusable_because(provider) or "")
        if provider.held_for_s > 0:
            yield Reading("provider_held", name, 1.0, unusable_because(provider) or "")
        if provider.queue_limit:
            share = provider.queued / provider.queue_limit
            text = f"{provider.queued} of {provider.queue_limit} places in the queue are taken"
            yield Reading("queue_full", name, share, text)
        faults = provider.anomalies + provider.violations
        more = self._faults.setdefault(name, _Window(LONG_S)).change(faults, now)
        if not provider.is_conserved or more:
            text = f"permits and calls do not add up: {counted(more, 'finding')} in ten minutes"
            yield Reading("not_conserved", name, 1.0, text)
        if figures is None:
            return
        limited = self._limited.setdefault(name, _Window(MINUTE_S)).change(
            figures.failures[FailureKind.RATE_LIMITED], now
        )
        text = f"{counted(limited, 'refusal')} for its rate in a minute"
        yield Reading("rate_limited", name, limited, text)
        waits = self._waits.get(name)
        if waits is None or not waits.is_of(figures.waits):
            waits = self._waits[name] = Recent(figures.waits, now, MINUTE_S)
        (wait_s,) = waits.quantiles(now, WAIT_SHARE)
        if wait_s is not None:
            text = f"one in twenty requests waited {wait_s:.0f} s or longer in the last minute"
            yield Reading("long_waits", name, wait_s, text)


def _of_memory(statistics: BrokerStatistics, process: ProcessFigures) -> Iterator[Reading]:
    share = process.memory_share
    yield Reading("memory", "process", share, f"the process has {share:.0%} of its memory")
    if statistics.memory.alarm:
        text = f"buffers take {statistics.memory.buffered} bytes; new input is held back"
        yield Reading("memory", "buffers", 1.0, text)


class _Window:
    """The change of a total within a time, to a twelfth of that."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._marks: deque[tuple[float, int]] = deque()
        self._sum = self._last = 0

    def change(self, total: int, now: float) -> int:
        """The change until now. A total that fell belongs to a new part and began at 0."""
        if not self._marks:
            self._last = total
        self._sum += total - self._last if total >= self._last else total
        self._last = total
        marks = self._marks
        if not marks or now - marks[-1][0] >= self._length_s / 12:
            marks.append((now, self._sum))
        while len(marks) > 1 and now - marks[1][0] >= self._length_s:
            marks.popleft()
        return self._sum - marks[0][1]
