"""The table of the alarms that are raised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from exai_actors.console.tables.cells import SECONDS, TEXT
from exai_actors.core.observe.alarms import Alarm
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed

ALARMS = Table(
    "alarms",
    (
        Column("name", "Alarm", TEXT, "the rule"),
        Column("subject", "Subject", TEXT, "the provider or actor that it is about"),
        Column("severity", "Severity", TEXT, "critical or warning"),
        Column("since_s", "Since", SECONDS, "for how long it has been raised"),
        Column("value", "Value", TEXT, "the figure at present"),
        Column("threshold", "Threshold", TEXT, "the figure from which on it is raised"),
        Column("text", "Text", TEXT, "the figure in words"),
    ),
)


def alarm_rows(alarms: Iterable[Alarm], now: float) -> Iterator[Keyed]:
    """One row for each alarm, in their order."""
    for alarm in alarms:
        yield (
            f"{alarm.rule}/{alarm.subject}",
            (
                alarm.rule,
                alarm.subject,
                alarm.severity.value,
                round(now - alarm.raised_at),
                f"{alarm.value:.3g}",
                f"{alarm.threshold:.3g}",
                alarm.text,
            ),
        )
