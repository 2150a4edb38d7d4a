"""The calls that are served before a queued one, and why."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import Generic, TypeVar

import msgspec

from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.wait_estimates import WaitEstimates

C = TypeVar("C", bound=ScheduledCall)

MAX_WALK = 1_000
"""Calls whose exact order is found out; what lies behind is estimated."""
MAX_AHEAD = 20
"""Calls ahead that are named."""


class Because(StrEnum):
    """Why a call goes first. The values are in answers to consoles: add some, rename none."""

    RETRY = "retry"
    PRIORITY = "priority"
    EARLIER = "earlier"
    SESSION_SHARE = "session_share"
    TENANT_SHARE = "tenant_share"


BECAUSE = {
    Because.RETRY: "an attempt of it failed, and such requests go first in their session",
    Because.PRIORITY: "it has a higher priority in the same session",
    Because.EARLIER: "it came earlier in the same session",
    Because.SESSION_SHARE: "its session has used less of the tenant's share",
    Because.TENANT_SHARE: "its tenant has used less of its own share",
}


class Line(msgspec.Struct, Generic[C]):
    """A queued call's place, the next calls before it, and its predicted wait.

    ``is_estimate``: the place is estimated, because more than MAX_WALK calls are before it.
    """

    position: int
    wait_s: float | None
    ahead: list[tuple[C, Because]]
    is_estimate: bool = False


def line_before(pool: Pool[C], waits: WaitEstimates[C], call: C, now: float) -> Line[C]:
    """The line before a call that waits in this pool."""
    place = estimated_place(pool, call)
    is_far = place > 2 * MAX_WALK
    ahead: list[tuple[C, Because]] = []
    for position, wait_s, each in islice(
        waits.in_line(pool, now), MAX_AHEAD if is_far else MAX_WALK
    ):
        if each is call:
            return Line(position, wait_s, ahead)
        if position <= MAX_AHEAD:
            ahead.append((each, because(each, call)))
    place = max(MAX_WALK + 1, place)
    return Line(place, waits.wait_s(pool, place, now), ahead, is_estimate=True)


def place_of(pool: Pool[C], call: C) -> int:
    """The place of a call that waits in this pool; estimated if MAX_WALK calls are before it."""
    place = estimated_place(pool, call)
    if place <= 2 * MAX_WALK:
        line = islice(pool.queue.in_service_order(), MAX_WALK)
        exact = next((at for at, each in enumerate(line, 1) if each is call), None)
        if exact is not None:
            return exact
    return min(max(MAX_WALK + 1, place), len(pool.queue))


def estimated_place(pool: Pool[C], call: C) -> int:
    """About the place of a queued call: a walk over the sessions, not over their requests."""
    waiting = call.flow.waiting
    own = waiting.get(call.request)
    if own is None:
        return len(pool.queue)
    before = sum(each.order < own.order for each in waiting.values())
    return round(pool.queue.rank(call.flow) * (before + 1) / (len(waiting) + 1))


def because(each: ScheduledCall, call: ScheduledCall) -> Because:
    """Why ``each`` is served before ``call``."""
    if each.flow.tenant is not call.flow.tenant:
        return Because.TENANT_SHARE
    if each.flow is not call.flow:
        return Because.SESSION_SHARE
    if each.attempts > call.attempts:
        return Because.RETRY
    return Because.PRIORITY if each.priority > call.priority else Because.EARLIER


def first_running(pool: Pool[C]) -> Iterator[C]:
    """Calls that have permits of the pool, the oldest first, no more than are named."""
    return islice(pool.ledger.held.values(), MAX_AHEAD)
