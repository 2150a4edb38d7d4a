"""Whether, and when, a request gets a permit of its provider.

All the parts of a provider's capacity as one: the ledgers, the fair queues, the doors before them
and the tries again. Whoever owns it calls ``pump`` after every change and again at ``wake_at``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import Enum
from math import inf
from typing import Generic, TypeVar

from exai_actors.core.calls import IfBusy, UpstreamFailure
from exai_actors.core.capacity.account import Account, Mode
from exai_actors.core.capacity.flows import Flow
from exai_actors.core.capacity.grant_guards import GrantGuards
from exai_actors.core.capacity.pools import MAX_POOLS, Pool
from exai_actors.core.capacity.retry_policy import RetryBudget, backoff_s, judge
from exai_actors.core.capacity.retry_queue import RetryQueue
from exai_actors.core.capacity.scheduled_call import Refusal, RefusalCause, ScheduledCall
from exai_actors.core.capacity.settlement import Settlement
from exai_actors.core.capacity.wait_estimates import WaitEstimates
from exai_actors.core.routing import fallback_reason
from exai_actors.ids import PermitId, RequestKey, SessionId

J = TypeVar("J", bound=ScheduledCall)


class Admission(Enum):
    """What became of a request that was not refused."""

    GRANTED = "granted"
    QUEUED = "queued"


_GRANTED = Admission.GRANTED


class Dispatcher(Generic[J]):
    """Work-conserving: after pump() nobody waits who could be granted a permit.

    ``expired`` are those that pump() took out because their deadline had passed when their turn
    came: their sessions end them, and their owner has nothing to do but to forget them.
    """

    __slots__ = (
        "_by_model",
        "_quarantined",
        "_settings",
        "_settlement",
        "_turn",
        "_waited_in",
        "account",
        "budget",
        "expired",
        "guards",
        "pools",
        "retries",
        "waits",
    )

    def __init__(self, account: Account, last_permit: int = 0) -> None:
        """``last_permit`` is a multiple of 256 that no earlier permit exceeds."""
        settings = account.settings
        self.account = account
        self._settings = settings
        limits: list[tuple[str | None, int]] = [(None, account.limit)]
        limits += account.model_limits.items()
        if len(limits) > MAX_POOLS:
            raise ValueError(f"at most {MAX_POOLS - 1} models can have limits of their own")
        self.pools: tuple[Pool[J], ...] = tuple(
            Pool(model, limit, account, last_permit + index)
            for index, (model, limit) in enumerate(limits)
        )
        self.pools[0].ledger.reserve(account.reserved)
        self._by_model = {pool.model: pool for pool in self.pools}
        self.budget = RetryBudget(settings.retry)
        self.guards = GrantGuards(account)
        self._settlement = Settlement(account, self.guards)
        self.waits: WaitEstimates[J] = WaitEstimates(account, self.guards, self.pools)
        self.retries: RetryQueue[J] = RetryQueue()
        self.expired: list[J] = []
        self._turn = 0
        self._quarantined = account.quarantined
        self._waited_in = (
            self.retries.due,
            self._quarantined,
            *(pool.queue.entries for pool in self.pools),
        )
        for _, permit, job in self._quarantined:
            self._pool_at(permit).ledger.adopt_quarantined(permit, job)
        account.circuit.forget_probes()

    def is_waited_for(self) -> bool:
        """Whether pump() may have anything to do, now or later."""
        return any(self._waited_in)

    @property
    def queued(self) -> int:
        """How many wait, those for another try among them."""
        return sum(len(pool.queue) for pool in self.pools) + len(self.retries)

    def pool_of(self, model: str) -> Pool[J]:
        """Where requests for this model queue and get their permits."""
        return self._by_model.get(model) or self.pools[0]

    def admit(self, job: J, now: float) -> Admission | Refusal:
        """A new request: grant it, let it wait or refuse it.

        Raises ValueError if its session already has a request of this key waiting here.
        """
        if self.guards.all_open:
            pool = job.pool
            if not pool.queue.entries:
                permit = pool.ledger.grant(job)
                if permit is not None:
                    pool.queue.charge(job.flow, job.cost)
                    job.permit = permit
                    job.granted_at = now
                    job.inverse_weight = job.flow.owner.inverse_weight
                    job.attempts += 1
                    self.budget.note_request(now)
                    return _GRANTED
        return self._consider(job, now)

    def pump(self, now: float) -> Iterator[J]:
        """Grant what can be granted, in fair order. Exhaust it: each step grants one."""
        guards = self.guards
        self._let_in(now)
        guards.refresh(now)
        for pool in self._in_turn():
            while pool.queue.entries and pool.ledger.free:
                job = pool.queue.peek(now)
                if job is None:
                    break
                if job.deadline <= now:
                    # Begun now it would be aborted at once, and may cost money all the same.
                    pool.queue.remove(job.flow.session, job.request)
                    self.expired.append(job)
                    continue
                if not guards.all_open:
                    if guards.blocked_until(pool, now) > now:
                        break
                    if guards.gates_open_at(job, now) > now:
                        # Whoever needs less waits behind: the gates would never have room for it.
                        return
                pool.queue.take(now)
                if not self._grant(job, now):
                    raise RuntimeError("the ledger named a free permit and granted none")
                self._turn += 1
                yield job

    def release(self, permit: PermitId) -> J | None:
        """The upstream call has ended; None, and an anomaly, for a permit that is not out.

        What it was granted to is to be settled by ``completed``, ``failed`` or ``abandoned``.
        """
        pools = self.pools
        pool = pools[0] if len(pools) == 1 else self._pool_at(permit)
        return pool.ledger.release(permit)

    def adopt(self, permit: PermitId, job: J) -> None:
        """Count a call that an earlier owner began, until it ends."""
        self._pool_at(permit).ledger.adopt(permit, job)

    def find(self, permit: PermitId) -> J | None:
        """What holds this permit."""
        return self._pool_at(permit).ledger.held.get(permit)

    def waiting(self, session: SessionId, request: RequestKey) -> J | None:
        """The request of this name that waits for its first grant, or for its next in a queue."""
        for pool in self.pools:
            job = pool.queue.entries.get((session, request))
            if job is not None:
                return job
        return None

    def granted(self) -> Iterator[J]:
        """All that hold a permit, and all that have held one and wait for their next try."""
        for pool in self.pools:
            yield from pool.ledger.held.values()
        yield from self.retries

    def all_jobs(self) -> Iterator[J]:
        """Everything that is here and has not ended."""
        for pool in self.pools:
            yield from pool.queue.entries.values()
        yield from self.granted()

    def completed(self, job: J, tokens: float, cost: float, now: float) -> None:
        """Settle a released call that was answered: what it really took."""
        self._settlement.completed(job, tokens, cost, now)

    def abandoned(self, job: J, cost: float, now: float) -> None:
        """Settle a released call that was aborted."""
        self._settlement.abandoned(job, cost, now)

    def failed(
        self, job: J, failure: UpstreamFailure, now: float, draw: float, *, wanted: bool = True
    ) -> bool:
        """Settle a released call that failed. True if its request will be tried again by itself.

        ``draw`` is uniform in [0, 1): the jitter. What is not ``wanted`` is not tried again.
        """
        verdict = judge(failure)
        self._settlement.failed(job, failure, now, draw)
        retry = self._settings.retry
        if (
            not (wanted and verdict.again)
            or job.attempts >= retry.attempts
            or fallback_reason(failure) in job.fallback_reasons
            or job.if_busy is IfBusy.REFUSE
            or self.account.mode is Mode.DRAINING
        ):
            return False
        due = now + backoff_s(job.attempts, draw, retry)
        told = now + (failure.retry_after or 0.0)
        due = max(due, told, self.account.hold.until, job.pool.hold.until)
        if due >= job.deadline or not self.budget.take(now):
            return False
        # Its client has heard that it runs; where it stands for another try is nothing to tell.
        job.reported = inf
        self.retries.put(job, due)
        return True

    def quarantine(self, permit: PermitId, now: float) -> J | None:
        """The aborted call's connection is closed, but its provider goes on for a while.

        In place of ``release``; the permit is released by itself when that while is over.
        """
        job = self._pool_at(permit).ledger.quarantine(permit)
        if job is not None:
            heapq.heappush(self._quarantined, (now + self._settings.quarantine_s, permit, job))
        return job

    def withdraw(self, session: SessionId, request: RequestKey) -> J | None:
        """Take out a request that waits for its first or its next try; None if none does."""
        for pool in self.pools:
            job = pool.queue.remove(session, request)
            if job is not None:
                return job
        return self.retries.remove(session, request)

    def transfer(self, job: J, flow: Flow, request: RequestKey, priority: int, now: float) -> None:
        """It is another session's from now on: what it is charged with, or its place to wait."""
        queue = job.pool.queue
        waits = queue.remove(job.flow.session, job.request) is not None
        if job.permit in job.pool.ledger.held:
            queue.transfer(job.flow, flow, job.cost, job.inverse_weight)
            job.inverse_weight = flow.owner.inverse_weight
        job.flow, job.request, job.priority = flow, request, priority
        if waits:
            # It was let in once, and there is room for it.
            queue.put(flow, request, job, job.cost, now, priority, again=True)

    def forget(self, session: SessionId) -> list[J]:
        """The session is gone: take out all that it has waiting."""
        gone = self.retries.remove_session(session)
        for pool in self.pools:
            gone += pool.queue.remove_session(session)
            pool.queue.forget(session)
        return gone

    def refuse_unservable(self, now: float) -> list[tuple[J, Refusal]]:
        """Take out, with their refusals, those whom the doors keep closed beyond their deadline
        and those who would rather go elsewhere.
        """
        refused: list[tuple[J, Refusal]] = []
        for pool in self.pools:
            reason = self.guards.block_reason(pool, now)
            opens_at = self.guards.blocked_until(pool, now)
            if reason:
                for job in tuple(pool.queue.entries.values()):
                    in_time = job.if_busy is not IfBusy.WAIT_IN_TIME or opens_at < job.deadline
                    # When an operator's pause ends nobody knows: it makes no one late.
                    late = opens_at < inf and not in_time
                    if late or reason in job.fallback_reasons:
                        refused.append(
                            (job, self.waits.refusal(RefusalCause.CLOSED, reason, job, now))
                        )
                        pool.queue.remove(job.flow.session, job.request)
        return refused

    def wake_at(self, now: float) -> float:
        """When time alone may let something happen; inf when only a message can."""
        wake = self.retries.next_at
        if self._quarantined:
            wake = min(wake, self._quarantined[0][0])
        if not self.guards.all_open:
            for pool in self._in_turn():
                if pool.queue.entries and pool.ledger.free:
                    job = pool.queue.peek(now)
                    if job is not None:
                        blocked_until = self.guards.blocked_until(pool, now)
                        passes_at = self.guards.gates_open_at(job, now)
                        wake = min(wake, max(blocked_until, passes_at))
                        if blocked_until <= now < passes_at:
                            # The others wait behind it, as in pump().
                            break
        return wake

    def _consider(self, job: J, now: float) -> Admission | Refusal:
        queue, guards = job.pool.queue, self.guards
        guards.refresh(now)
        if self.account.mode is Mode.DRAINING:
            return self.waits.refusal(RefusalCause.DRAINING, "unreachable", job, now)
        goes = not queue.entries and guards.opens_at(job, now) <= now
        if goes and not self._others_wait_for_gates(now) and self._grant(job, now):
            queue.charge(job.flow, job.cost)
            return Admission.GRANTED
        reason = guards.block_reason(job.pool, now) or "busy"
        if job.if_busy is IfBusy.REFUSE or reason in job.fallback_reasons:
            return self.waits.refusal(RefusalCause.NO_WAITING, reason, job, now)
        if job.if_busy is IfBusy.WAIT_IN_TIME and job.deadline < inf:
            patience = job.deadline - now
            # Nobody waits longer than behind all others, and that takes no walk to know.
            longest = self.waits.wait_s(job.pool, len(queue) + 1, now)
            opens_s = guards.opens_at(job, now) - now
            if opens_s > patience or (longest is not None and longest > patience):
                refusal = self.waits.refusal(RefusalCause.TOO_LATE, reason, job, now)
                if refusal.wait_s is not None and refusal.wait_s > patience:
                    return refusal
        if not queue.put(job.flow, job.request, job, job.cost, now, job.priority):
            return self.waits.refusal(RefusalCause.FULL, reason, job, now)
        return Admission.QUEUED

    def could_grant(self, pool: Pool[J], now: float) -> bool:
        """Whether the one whose turn it is could have a permit now; never so after pump()."""
        if not (pool.queue.entries and pool.ledger.free):
            return False
        job = pool.queue.peek(now)
        return job is not None and job.deadline > now and self.guards.opens_at(job, now) <= now

    def _in_turn(self) -> tuple[Pool[J], ...]:
        """All pools. The gates are shared by all, so that each comes first in its turn."""
        pools = self.pools
        first = self._turn % len(pools)
        return pools[first:] + pools[:first]

    def _others_wait_for_gates(self, now: float) -> bool:
        return self.account.gates.active and any(
            pool.queue.entries and pool.ledger.free and self.guards.blocked_until(pool, now) <= now
            for pool in self.pools
        )

    def _grant(self, job: J, now: float) -> bool:
        permit = job.pool.ledger.grant(job)
        if permit is None:
            return False
        job.permit = permit
        job.granted_at = now
        job.inverse_weight = job.flow.owner.inverse_weight
        job.attempts += 1
        if job.attempts == 1:
            self.budget.note_request(now)
        if not self.guards.all_open:
            self.guards.granted(job, now)
        return True

    def _let_in(self, now: float) -> None:
        while (job := self.retries.take(now)) is not None:
            queue = job.pool.queue
            queue.put(job.flow, job.request, job, job.cost, now, job.priority, again=True)
        while self._quarantined and self._quarantined[0][0] <= now:
            _, permit, _ = heapq.heappop(self._quarantined)
            self._pool_at(permit).ledger.release(permit)

    def _pool_at(self, permit: PermitId) -> Pool[J]:
        number, pools = permit % MAX_POOLS, self.pools
        return pools[number] if number < len(pools) else pools[0]
