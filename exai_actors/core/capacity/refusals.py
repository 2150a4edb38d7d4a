"""Why a call is not accepted, and when to come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from math import inf
from typing import Generic, TypeVar

import msgspec

from exai_actors.core.calls import IfBusy
from exai_actors.core.capacity.explain_wait import WaitExplainer
from exai_actors.core.capacity.grant_guards import GrantGuards
from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.wait_estimates import WaitEstimates
from exai_actors.core.routing import leaves_for
from exai_actors.core.wait_reasons import WaitReason

C = TypeVar("C", bound=ScheduledCall)

MIN_RETRY_AFTER_S = 1.0
MAX_RETRY_AFTER_S = 1e6


class RefusalCause(StrEnum):
    """Why a call is refused."""

    FULL = "full"
    """The queue is full, and no other session or tenant has more requests in it."""
    DISPLACED = "displaced"
    """It gave its place in a full queue to a session or tenant with fewer requests in it."""
    TOO_LATE = "too_late"
    """It would wait beyond its deadline."""
    NO_WAITING = "no_waiting"
    """Its client does not want to wait, and no permit is free."""
    CLOSED = "closed"
    """A hold, an open circuit or a pause stops all grants, or those of this model."""
    DRAINING = "draining"
    """The provider drains."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A call that is not accepted.

    ``reason`` is one of those that a route can list, such as ``busy``. ``retry_after`` is in
    seconds. ``position`` is the place in the queue that it would have had, from 1, and ``wait_s``
    the wait there, None if unknown. ``wait`` is the reason of that wait.
    """

    cause: RefusalCause
    reason: str
    retry_after: float
    queued: int
    position: int
    wait_s: float | None = None
    wait: WaitReason | None = None

    @property
    def would_wait(self) -> bool:
        """Whether the call was not admitted because it would have waited."""
        return self.cause is not RefusalCause.DRAINING


class Refusals(Generic[C]):
    """Makes refusals from the estimated waits."""

    __slots__ = ("_guards", "_waits")

    def __init__(self, guards: GrantGuards, waits: WaitEstimates[C]) -> None:
        self._guards = guards
        self._waits = waits

    def refusal(
        self, cause: RefusalCause, reason: str, call: C, now: float, position: int | None = None
    ) -> Refusal:
        """Refuse a call at its place in the queue or, without one, at that it would have had."""
        queue = call.pool.queue
        if position is None:
            position = queue.rank(call.flow) + 1
        wait_s = self._waits.wait_s(call.pool, position, now)
        # A large call waits longer before a gate than the usual one of the estimate, and a call of
        # a held model longer than others.
        opens_s = self._guards.expected_at(call, now) - now
        if wait_s is not None or 0 < opens_s < inf:
            wait_s = max(wait_s or 0.0, opens_s)
        retry_after = max(MIN_RETRY_AFTER_S, min(wait_s or 0.0, MAX_RETRY_AFTER_S))
        probe_s = self._guards.opens_at(call, now) - now
        if 0 < probe_s < opens_s:
            # Were all clients to wait for the end of a long hold, none would probe it.
            retry_after = max(MIN_RETRY_AFTER_S, min(retry_after, probe_s))
        wait = WaitExplainer(self._guards, now).reason(call)
        return Refusal(cause, reason, retry_after, len(queue), position, wait_s, wait)

    def too_late(self, reason: str, call: C, now: float) -> Refusal | None:
        """The refusal of a call whose predicted wait outlasts its deadline; None if it does not."""
        patience_s = call.deadline - now
        # The end of the queue is the longest wait, and takes no walk to estimate.
        longest_s = self._waits.wait_s(call.pool, len(call.pool.queue) + 1, now)
        opens_s = self._guards.expected_at(call, now) - now
        if opens_s > patience_s or (longest_s is not None and longest_s > patience_s):
            refusal = self.refusal(RefusalCause.TOO_LATE, reason, call, now)
            if refusal.wait_s is not None and refusal.wait_s > patience_s:
                return refusal
        return None

    def unservable(
        self, pool: Pool[C], now: float, retries: Iterable[C]
    ) -> Iterator[tuple[C, Refusal]]:
        """Refuse waiting calls that the block outlasts, or whose route prefers another provider.

        All may be refused at the same time: their places are those in the order of arrival.
        """
        guards = self._guards
        if guards.all_open:
            return
        pool_reason = guards.block_reason(pool, now)
        pool_opens_at = guards.expected_open_at(pool, now)
        retrying = (call for call in retries if call.pool is pool)
        for position, call in enumerate((*pool.queue, *retrying), start=1):
            reason = pool_reason or guards.model_block_reason(call, now)
            if not reason:
                continue
            opens_at = max(pool_opens_at, guards.model_held_until(call))
            # The end of an operator's pause is unknown: it makes no call late.
            late = call.if_busy is IfBusy.WAIT_IN_TIME and call.deadline <= opens_at < inf
            if late or leaves_for(reason, call.fallback_reasons, would_wait=True):
                yield call, self.refusal(RefusalCause.CLOSED, reason, call, now, position)
