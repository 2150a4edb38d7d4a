"""What can be seen of an actor from outside, without asking it: a stuck actor cannot answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exai_actors.runtime.events import message_type_of
from exai_actors.runtime.mailbox import STARTING, STOPPING, Mailbox
from exai_actors.runtime.scheduler import NO_MESSAGE, Scheduler

ActorState = Literal["starting", "idle", "ready", "busy", "draining", "stopping"]


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
    """How long the oldest waiting message has waited, at most: sampled, never too low."""
    current_message: str | None
    """Class name of the message being handled."""
    current_for_s: float | None
    """For how long, at most: quick messages of the same turn before it may be counted in."""
    processed: int
    failed: int
    """Incarnations at this path that ended with an error, as far as remembered."""
    refused: int
    handler_s_total: float
    handler_s_max: float
    """The longest handler took at least this; exact if messages came one at a time."""


def statistics_of(mailbox: Mailbox, scheduler: Scheduler, now: float) -> ActorStatistics:
    """Read one actor's statistics; takes a microsecond or two, from any thread."""
    running = scheduler.running is mailbox
    trail = tuple(scheduler.trail) if running else ()
    message = trail[-1] if trail else scheduler.message if running else NO_MESSAGE
    busy = message is not NO_MESSAGE
    depth = len(mailbox.user_lane)
    system_depth = len(mailbox.system_lane)
    return ActorStatistics(
        path=mailbox.path,
        incarnation=mailbox.incarnation,
        actor_class=mailbox.ref.actor_class.__name__,
        state=_state(mailbox, running=busy),
        user_depth=depth,
        system_depth=system_depth,
        mailbox_limit=mailbox.own_limit,
        oldest_age_s=max(0.0, now - mailbox.waiting_since) if depth or system_depth else 0.0,
        current_message=message_type_of(message) if busy else None,
        current_for_s=max(0.0, now - scheduler.clock) if busy else None,
        processed=mailbox.processed + len(trail),
        failed=mailbox.failed,
        refused=mailbox.refused,
        handler_s_total=mailbox.busy_s,
        handler_s_max=mailbox.max_busy_s,
    )


def _state(mailbox: Mailbox, *, running: bool) -> ActorState:
    if mailbox.state == STARTING:
        return "starting"
    if mailbox.state >= STOPPING:
        return "stopping"
    if mailbox.draining:
        return "draining"
    if running:
        return "busy"
    return "ready" if mailbox.scheduled else "idle"
