"""The actors: their lanes, the message in hand, and the times of their handlers."""

from __future__ import annotations

from collections.abc import Iterator

from exai_actors.console.tables.cells import (
    COUNT,
    SECONDS,
    SHARE,
    TEXT,
    TOTAL,
    rounded,
    rounded_if,
    share,
)
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed, ManyRows, Row
from exai_actors.runtime import ActorStatistics, ActorSystem

ACTORS = Table(
    "actors",
    (
        Column("path", "Path", TEXT, "where the actor lives"),
        Column("class", "Class", TEXT, "its class"),
        Column("state", "State", TEXT, "starting, idle, ready, busy, suspended or stopping"),
        Column("user", "User", COUNT, "messages that wait in the user lane"),
        Column("system", "System", COUNT, "messages that wait in the system lane"),
        Column("full", "Full", SHARE, "the part of the user lane that is taken"),
        Column("oldest_s", "Oldest", SECONDS, "at most how long the oldest message has waited"),
        Column("message", "Message", TEXT, "the message that it handles at this moment"),
        Column("for_s", "For", SECONDS, "how long it has handled that"),
        Column("processed", "Processed", TOTAL, "messages handled by this incarnation"),
        Column("refused", "Refused", TOTAL, "messages that found the user lane full"),
        Column("mean_s", "Mean", SECONDS, "mean time of its handlers"),
        Column("p50_s", "p50", SECONDS, "half of its handlers of late took less; some are timed"),
        Column("p99_s", "p99", SECONDS, "99 of 100 of its handlers of late took less"),
        Column("max_s", "Max", SECONDS, "the longest handler took at least this"),
        Column("failed", "Failed", TOTAL, "incarnations that ended with an error"),
        Column("incarnation", "Inc", COUNT, "the number of this incarnation"),
    ),
)


class ActorRows(ManyRows):
    """One row for each incarnation, read when its turn comes."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._paths = system.paths()

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Keyed]:
        for path in self._paths:
            actor = self._system.statistics_of(path)
            if actor is not None:
                yield f"{actor.path}#{actor.incarnation}", row_of(actor)


def row_of(actor: ActorStatistics) -> Row:
    mean_s = actor.handler_s_total / actor.processed if actor.processed else None
    return (
        actor.path,
        actor.actor_class,
        actor.state,
        actor.user_depth,
        actor.system_depth,
        share(actor.user_depth, actor.mailbox_limit),
        rounded(actor.oldest_age_s),
        actor.current_message,
        rounded_if(actor.current_for_s),
        actor.processed,
        actor.refused,
        rounded_if(mean_s),
        _quantile_s(actor, 0.5),
        _quantile_s(actor, 0.99),
        rounded(actor.handler_s_max),
        actor.failed,
        actor.incarnation,
    )


def _quantile_s(actor: ActorStatistics, share_: float) -> float | None:
    """At most the maximum: it is an estimate, and the maximum is measured."""
    estimate = actor.handler_quantile_s(share_)
    return None if estimate is None else rounded(min(estimate, actor.handler_s_max))
