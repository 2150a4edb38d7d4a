"""Events and dead letters, the newest first."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import assert_never

from exai_actors.console.tables.cells import SECONDS, TEXT, instant, rounded
from exai_actors.core.durations import format_seconds
from exai_actors.core.observe.alarms import AlarmChange
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed, Row
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.runtime import (
    ActorFailed,
    ActorStarted,
    ActorStopped,
    DeadLetter,
    Event,
    ExitReason,
    MailboxRefused,
    SlowHandler,
)

MAX_EVENTS = 1_000

DEAD_LETTERS = Table(
    "dead_letters",
    (
        Column("at_s", "At", SECONDS, "seconds since the broker started"),
        Column("to", "To", TEXT, "the path of the actor"),
        Column("message", "Message", TEXT, "the class of the message"),
        Column("why", "Why", TEXT, "dead, full or stopped_behind"),
    ),
)

EVENTS = Table(
    "events",
    (
        Column("at_s", "At", SECONDS, "seconds since the broker started"),
        Column("event", "Event", TEXT, "the kind of event"),
        Column("where", "Where", TEXT, "the path of the actor, or the provider"),
        Column("what", "What", TEXT, "the details"),
    ),
)


def describe(event: Event) -> tuple[str, str, str] | None:
    """The kind of an event, where it happened, and its details; None for daily business."""
    match event:
        case ActorStarted(incarnation=number) if number > 1:
            return "actor.restarted", event.path, f"incarnation {number}"
        case ActorStarted():
            return None
        case ActorStopped(reason=reason):
            return None if reason is ExitReason.NORMAL else ("actor.abandoned", event.path, "")
        case ActorFailed():
            at = f" at {event.message_type}" if event.message_type else ""
            return "actor.failed", event.path, f"{event.error}{at}"
        case DeadLetter():
            return "actor.dead_letter", event.path, f"{event.message_type}: {event.reason.value}"
        case SlowHandler():
            kinds = ", ".join(event.candidates)
            return "actor.slow_handler", event.path, f"{rounded(event.seconds)} s in {kinds}"
        case MailboxRefused():
            return (
                "mailbox.full",
                event.path,
                f"{event.refused} refused at a limit of {event.limit}",
            )
        case _:
            assert_never(event)


def dead_letter_rows(letters: Iterable[DeadLetter], started_at: float) -> Iterator[Keyed]:
    """The latest dead letters, the newest first."""
    for number, letter in enumerate(reversed(tuple(letters))):
        at_s = instant(letter.time - started_at)
        yield str(number), (at_s, letter.path, letter.message_type, letter.reason.value)


def provider_event_rows(statistics: BrokerStatistics, started_at: float) -> Iterator[Keyed]:
    """The latest changes of the providers' capacity, in no order."""
    for provider in statistics.providers:
        same: Counter[float] = Counter()
        for event in provider.events:
            same[event.at] += 1
            yield (
                f"{provider.name}@{event.at}/{same[event.at]}",
                (
                    instant(event.at - started_at),
                    f"provider.{'capacity_changed' if event.kind == 'changed' else event.kind}",
                    provider.name,
                    f"{event.what}: {event.cause}",
                ),
            )


def newest_first(*sources: Iterable[Keyed]) -> list[Keyed]:
    """The rows of several sources of events as one table."""
    return sorted(chain(*sources), key=_at, reverse=True)


def _at(row: Keyed) -> float:
    at_s = row[1][0]
    assert isinstance(at_s, int | float)
    return at_s


class EventLog:
    """The latest events of the runtime, the newest first."""

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._events: deque[Keyed] = deque(maxlen=MAX_EVENTS)
        self._count = 0

    def add(self, event: Event) -> None:
        """Note an event of the runtime; the start and the normal end of an actor are not news."""
        described = describe(event)
        if described is not None:
            self.note(event.time, *described)

    def add_alarm(self, change: AlarmChange) -> None:
        """Note that an alarm was raised or cleared."""
        alarm, cleared_at = change.alarm, change.cleared_at
        if cleared_at is None:
            text = f"{alarm.rule}: {alarm.text}"
            self.note(alarm.raised_at, "alarm.raised", alarm.subject, text)
        else:
            text = f"{alarm.rule}: after {format_seconds(cleared_at - alarm.raised_at)}"
            self.note(cleared_at, "alarm.cleared", alarm.subject, text)

    def note(self, time: float, event: str, where: str, what: str) -> None:
        self._count += 1
        row: Row = (instant(time - self._started_at), event, where, what)
        self._events.appendleft((str(self._count), row))

    def rows(self) -> Iterator[Keyed]:
        return iter(self._events)
