"""Alarms with hysteresis: raised when a condition has lasted, cleared when it has stayed away."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


class AlarmRule(msgspec.Struct, frozen=True):
    """An alarm on a figure: raised once it has been at or above ``raise_at`` for ``raise_after_s``,
    cleared once it has been below ``clear_below`` for ``clear_after_s``.

    Raises ValueError if ``clear_below`` exceeds ``raise_at``: the alarm would flap.
    """

    name: str
    severity: Severity
    raise_at: float
    clear_below: float
    raise_after_s: float = 0.0
    clear_after_s: float = 30.0

    def __post_init__(self) -> None:
        if self.clear_below > self.raise_at:
            raise ValueError(f"the alarm '{self.name}' would clear above the value that raises it")


class Reading(msgspec.Struct, frozen=True):
    """The figure of one subject (such as a provider) at present, with the text that explains it."""

    rule: str
    subject: str
    value: float
    text: str


class Alarm(msgspec.Struct, frozen=True):
    """An alarm that is raised; ``text`` and ``value`` are those of the last reading.

    ``threshold`` is the value from which on it is raised.
    """

    rule: str
    severity: Severity
    subject: str
    value: float
    text: str
    raised_at: float
    threshold: float


class AlarmChange(msgspec.Struct, frozen=True):
    """An alarm was raised, or cleared at ``cleared_at``."""

    alarm: Alarm
    cleared_at: float | None = None


class _State:
    __slots__ = ("alarm", "since")

    def __init__(self) -> None:
        self.alarm: Alarm | None = None
        self.since: float | None = None
        """Since when the reading contradicts the state."""


class Alarms:
    """The alarms of one broker. A subject without a reading counts as well."""

    def __init__(self, rules: Iterable[AlarmRule]) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._states: dict[tuple[str, str], _State] = {}

    def raised(self) -> tuple[Alarm, ...]:
        """The raised alarms, the most severe and then the oldest first."""
        alarms = [state.alarm for state in self._states.values() if state.alarm is not None]
        critical_first = sorted(
            alarms, key=lambda alarm: (alarm.severity is not Severity.CRITICAL, alarm.raised_at)
        )
        return tuple(critical_first)

    def update(self, readings: Iterable[Reading], now: float) -> list[AlarmChange]:
        """Take the readings of ``now``; return the alarms that they raise or clear."""
        changes: list[AlarmChange] = []
        missing = set(self._states)
        for reading in readings:
            key = reading.rule, reading.subject
            missing.discard(key)
            changes += self._update(key, reading, now)
        for key in missing:
            changes += self._update(key, None, now)
        return changes

    def _update(
        self, key: tuple[str, str], reading: Reading | None, now: float
    ) -> Iterable[AlarmChange]:
        rule = self._rules[key[0]]
        state = self._states.setdefault(key, _State())
        alarm = state.alarm
        if alarm is None:
            if reading is None or reading.value < rule.raise_at:
                del self._states[key]
                return
            state.since = now if state.since is None else state.since
            if now - state.since >= rule.raise_after_s:
                state.alarm = Alarm(
                    rule.name,
                    rule.severity,
                    reading.subject,
                    reading.value,
                    reading.text,
                    now,
                    rule.raise_at,
                )
                state.since = None
                yield AlarmChange(state.alarm)
            return
        if reading is not None:
            state.alarm = alarm = msgspec.structs.replace(
                alarm, value=reading.value, text=reading.text
            )
        if reading is not None and reading.value >= rule.clear_below:
            state.since = None
            return
        state.since = now if state.since is None else state.since
        if now - state.since >= rule.clear_after_s:
            del self._states[key]
            yield AlarmChange(alarm, now)
