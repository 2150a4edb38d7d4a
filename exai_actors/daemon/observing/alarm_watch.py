"""Looks at the broker's figures once a second, and raises and clears alarms."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog

from exai_actors.core.alarm_readings import AlarmReadings, ProcessFigures, Thresholds, rules
from exai_actors.core.observe.alarms import Alarm, AlarmChange, Alarms
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.errors import safe_str
from exai_actors.ids import ProviderName

log = structlog.get_logger()

EVERY_S = 1.0


class AlarmWatch:
    """The alarms except those in ``ignored``."""

    def __init__(
        self,
        thresholds: Thresholds,
        ignored: frozenset[str],
        *,
        statistics: Callable[[], BrokerStatistics],
        calls: Callable[[], Mapping[ProviderName, CallFigures]],
        process: Callable[[], ProcessFigures],
        now: Callable[[], float],
    ) -> None:
        self._rules = {rule.name: rule for rule in rules(thresholds) if rule.name not in ignored}
        self._alarms = Alarms(self._rules.values())
        self._readings = AlarmReadings()
        self._statistics = statistics
        self._calls = calls
        self._process = process
        self._now = now
        self.observers: tuple[Callable[[AlarmChange], object], ...] = ()
        """Called with each change of an alarm."""

    @property
    def raised(self) -> tuple[Alarm, ...]:
        """The alarms that are raised, the most severe first."""
        return self._alarms.raised()

    def look(self) -> None:
        """Take the figures of now, log changes of alarms and pass them on."""
        now = self._now()
        readings = self._readings.take(self._statistics(), self._calls(), self._process(), now)
        known = [reading for reading in readings if reading.rule in self._rules]
        for change in self._alarms.update(known, now):
            _log(change)
            for notify in self.observers:
                notify(change)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look repeatedly during the block."""
        task = asyncio.ensure_future(self._look_repeatedly())
        try:
            yield
        finally:
            task.cancel()

    async def _look_repeatedly(self) -> None:
        has_failed = False
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                self.look()
            except Exception as error:
                # Such as the figures of an actor that has just failed. Once is enough for the log.
                if not has_failed:
                    log.exception("alarm.look_failed", error=safe_str(error))
                has_failed = True
            else:
                has_failed = False


def alarm_message(change: AlarmChange, wall: float) -> dict[str, Any]:
    """A change as webhooks get it. Chats show ``text``."""
    alarm, is_raised = change.alarm, change.cleared_at is None
    subject = f" ({alarm.subject})" if alarm.subject else ""
    state = "raised" if is_raised else "cleared"
    return {
        "alarm": alarm.rule,
        "subject": alarm.subject,
        "state": state,
        "severity": alarm.severity.value,
        "value": round(alarm.value, 3),
        "threshold": alarm.threshold,
        "at": round(wall, 3),
        "text": f"exai: {alarm.rule}{subject} {state}: {alarm.text}",
    }


def _log(change: AlarmChange) -> None:
    alarm = change.alarm
    if change.cleared_at is None:
        log.warning(
            "alarm.raised",
            alarm=alarm.rule,
            subject=alarm.subject,
            severity=alarm.severity.value,
            value=round(alarm.value, 3),
            threshold=alarm.threshold,
            text=alarm.text,
        )
    else:
        log.info(
            "alarm.cleared",
            alarm=alarm.rule,
            subject=alarm.subject,
            seconds=round(change.cleared_at - alarm.raised_at, 3),
        )
