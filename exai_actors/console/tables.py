"""The tables that consoles can watch: their columns, and how their rows are read."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import assert_never

from exai_actors.core.health import unusable_because
from exai_actors.core.observe.query import Column, Kind, Table
from exai_actors.core.observe.tables import Keyed, Row
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.runtime import (
    ActorFailed,
    ActorStarted,
    ActorStatistics,
    ActorStopped,
    DeadLetter,
    Event,
    ExitReason,
    MailboxRefused,
    SlowHandler,
)

MAX_EVENTS = 1_000

_TEXT, _COUNT, _TOTAL = Kind.TEXT, Kind.COUNT, Kind.TOTAL
_SECONDS, _SHARE, _FLAG = Kind.SECONDS, Kind.SHARE, Kind.FLAG

PROVIDERS = Table(
    "providers",
    (
        Column("name", "Provider", _TEXT, "its name in the configuration"),
        Column("state", "State", _TEXT, "serving, or why it serves no call"),
        Column("limit", "Limit", _COUNT, "calls that may run at the same time"),
        Column("in_flight", "In flight", _COUNT, "calls that run"),
        Column("free", "Free", _COUNT, "permits that can be granted now"),
        Column("quarantined", "Resting", _COUNT, "permits of calls that were cut off"),
        Column("reserved", "Reserved", _COUNT, "permits kept for others"),
        Column("over", "Over", _COUNT, "permits out beyond a limit that was lowered"),
        Column("conserved", "Conserved", _FLAG, "whether permits and calls add up"),
        Column("queued", "Queued", _COUNT, "requests that wait here"),
        Column("full", "Full", _SHARE, "the part of the queue that is taken"),
        Column("gate", "Gate", _SHARE, "how full the fullest rate gate is"),
        Column("held_s", "Held", _SECONDS, "how much longer the account is held"),
        Column("service_s", "Service", _SECONDS, "mean duration of its calls"),
        Column("granted", "Granted", _TOTAL, "calls that began"),
        Column("completed", "Completed", _TOTAL, "calls that were answered"),
        Column("failed", "Failed", _TOTAL, "calls that failed"),
        Column("refused", "Refused", _TOTAL, "requests that were not admitted"),
        Column("retried", "Retried", _TOTAL, "further attempts"),
        Column("anomalies", "Anomalies", _TOTAL, "releases of permits that were not held"),
        Column("faults", "Faults", _TOTAL, "violated invariants that were found"),
        Column("incarnation", "Inc", _COUNT, "the number of this incarnation of its actor"),
    ),
)

ACTORS = Table(
    "actors",
    (
        Column("path", "Path", _TEXT, "where the actor lives"),
        Column("class", "Class", _TEXT, "its class"),
        Column("state", "State", _TEXT, "starting, idle, ready, busy or stopping"),
        Column("user", "User", _COUNT, "messages that wait in the user lane"),
        Column("system", "System", _COUNT, "messages that wait in the system lane"),
        Column("full", "Full", _SHARE, "the part of the user lane that is taken"),
        Column("oldest_s", "Oldest", _SECONDS, "at most how long the oldest message has waited"),
        Column("message", "Message", _TEXT, "the message that it handles at this moment"),
        Column("for_s", "For", _SECONDS, "how long it has handled that"),
        Column("processed", "Processed", _TOTAL, "messages handled by this incarnation"),
        Column("refused", "Refused", _TOTAL, "messages that found the user lane full"),
        Column("mean_s", "Mean", _SECONDS, "mean time of its handlers"),
        Column("max_s", "Max", _SECONDS, "the longest handler took at least this"),
        Column("failed", "Failed", _TOTAL, "incarnations that ended with an error"),
        Column("incarnation", "Inc", _COUNT, "the number of this incarnation"),
    ),
)

DEAD_LETTERS = Table(
    "dead_letters",
    (
        Column("at_s", "At", _SECONDS, "seconds since the broker started"),
        Column("to", "To", _TEXT, "the path of the actor"),
        Column("message", "Message", _TEXT, "the class of the message"),
        Column("why", "Why", _TEXT, "dead, full or stopped_behind"),
    ),
)

EVENTS = Table(
    "events",
    (
        Column("at_s", "At", _SECONDS, "seconds since the broker started"),
        Column("event", "Event", _TEXT, "the kind of event"),
        Column("where", "Where", _TEXT, "the path of the actor, or the provider"),
        Column("what", "What", _TEXT, "the details"),
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
                _share(provider.queued, provider.queue_limit),
                round(gate, 3),
                _rounded(provider.held_for_s),
                None if provider.mean_service_s is None else _rounded(provider.mean_service_s),
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


def actor_rows(actors: Iterable[ActorStatistics]) -> Iterator[Keyed]:
    """One row for each incarnation."""
    for actor in actors:
        mean_s = actor.handler_s_total / actor.processed if actor.processed else None
        yield (
            f"{actor.path}#{actor.incarnation}",
            (
                actor.path,
                actor.actor_class,
                actor.state,
                actor.user_depth,
                actor.system_depth,
                _share(actor.user_depth, actor.mailbox_limit),
                _rounded(actor.oldest_age_s),
                actor.current_message,
                None if actor.current_for_s is None else _rounded(actor.current_for_s),
                actor.processed,
                actor.refused,
                None if mean_s is None else _rounded(mean_s),
                _rounded(actor.handler_s_max),
                actor.failed,
                actor.incarnation,
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
            return "actor.slow_handler", event.path, f"{_rounded(event.seconds)} s in {kinds}"
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
        at_s = _instant(letter.time - started_at)
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
                    _instant(event.at - started_at),
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

    def note(self, time: float, event: str, where: str, what: str) -> None:
        self._count += 1
        row: Row = (_instant(time - self._started_at), event, where, what)
        self._events.appendleft((str(self._count), row))

    def rows(self) -> Iterator[Keyed]:
        return iter(self._events)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def _instant(seconds: float) -> float:
    """To the millisecond, after days too: instants are compared with a log."""
    return round(seconds, 3)


def _rounded(seconds: float) -> float:
    """With three digits that mean something: figures that look different are different."""
    return float(f"{seconds:.3g}")
