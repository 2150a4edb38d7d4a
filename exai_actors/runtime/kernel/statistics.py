"""An actor seen from outside, without sending it a message: a stuck actor cannot answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from exai_actors.runtime.kernel import handler_times
from exai_actors.runtime.kernel.cell import (
    STARTING,
    STOPPING,
    SUSPENDED,
    ActorCell,
    message_type_of,
)
from exai_actors.runtime.kernel.scheduler import NO_MESSAGE, Scheduler

ActorState = Literal["starting", "idle", "ready", "busy", "suspended", "stopping"]


@dataclass(frozen=True, slots=True)
class ActorStatistics:
    """One actor at one moment. Times in seconds."""

    path: str
    incarnation: int
    actor_class: str
    state: ActorState
    user_depth: int
    system_depth: int
    mailbox_limit: int
    oldest_age_s: float
    """An upper bound of how long the oldest waiting message has waited."""
    current_message: str | None
    """Class name of the message being handled."""
    current_for_s: float | None
    """An upper bound of its time so far: may include quick messages of the same batch."""
    processed: int
    """Messages handled by this incarnation, without those of the present batch."""
    failed: int
    """Incarnations at this path that ended with an error, as far as remembered."""
    refused: int
    handler_s_total: float
    handler_s_max: float
    """The longest handler took at least this; exact if messages came one at a time."""
    handler_times: bytes = b""
    """See the module of that name."""

    def handler_quantile_s(self, share: float) -> float | None:
        """The time below which ``share`` of its handlers of late were; None if too few ran."""
        return handler_times.quantile(self.handler_times, share)


MailboxFigures = tuple[str, int, float, float]
"""The path of an actor, the messages in its mailbox, the taken part of its user lane, and an upper
bound of how long the oldest message has waited, in seconds."""


def mailboxes_of(cells: Iterable[ActorCell], now: float) -> Iterator[MailboxFigures]:
    """The mailboxes of many actors, at a fraction of the cost of their statistics."""
    for cell in cells:
        mailbox = cell.mailbox
        depth = len(mailbox)
        age_s = max(0.0, now - cell.work.waiting_since) if depth else 0.0
        yield cell.path, depth, len(mailbox.user) / cell.mailbox_limit, age_s


def fullest_of(cells: Iterable[ActorCell]) -> tuple[float, str]:
    """The taken part of the fullest user lane, and the path of its actor."""
    fullest, path = 0.0, ""
    for cell in cells:
        if depth := len(cell.mailbox.user):
            share = depth / cell.mailbox_limit
            if share > fullest:
                fullest, path = share, cell.path
    return fullest, path


def statistics_of(cell: ActorCell, scheduler: Scheduler, now: float) -> ActorStatistics:
    """Read one actor's statistics; takes a microsecond or two, on any thread."""
    message = scheduler.message if scheduler.running is cell else NO_MESSAGE
    busy = message is not NO_MESSAGE
    work, mailbox = cell.work, cell.mailbox
    return ActorStatistics(
        path=cell.path,
        incarnation=cell.incarnation,
        actor_class=cell.behaviour_class.__name__,
        state=_state(cell, busy=busy),
        user_depth=len(mailbox.user),
        system_depth=len(mailbox.system),
        mailbox_limit=cell.mailbox_limit,
        oldest_age_s=max(0.0, now - work.waiting_since) if len(mailbox) else 0.0,
        current_message=message_type_of(message) if busy else None,
        current_for_s=max(0.0, now - scheduler.clock) if busy else None,
        processed=work.processed,
        failed=cell.failed,
        refused=cell.refused,
        handler_s_total=work.busy_s,
        handler_s_max=work.max_busy_s,
        handler_times=b"" if work.times is None else bytes(work.times),
    )


def _state(cell: ActorCell, *, busy: bool) -> ActorState:
    if cell.state == STARTING:
        return "starting"
    if cell.state >= STOPPING:
        return "stopping"
    if busy:
        return "busy"
    if cell.state == SUSPENDED:
        return "suspended"
    return "ready" if cell.scheduled else "idle"
