"""Decides whether, and when, a call gets a permit of its provider.

How a call gets its permit:

1. ``admit`` takes a new call. If no guard is in force (``grant_guards``: pause, hold, circuit, rate
   gates), its pool's queue is empty and the ledger has a free permit, it is granted immediately.
2. Otherwise ``refusals`` decides whether the wait makes sense: a call is refused if its predicted
   wait (``wait_estimates``) outlasts its deadline or its client prefers not to wait. All other
   calls are queued. In a full queue a call takes the place of one of a session, or tenant, that has
   more waiting, or is refused if its own has the most.
3. ``pump`` grants queued calls while permits are free and the guards let them pass, in the order of
   ``fair_queue``. Its owner calls it after every change and at ``wake_at``.
4. The call's owner starts it and reports its end: ``release`` or, if it was cut off, ``quarantine``
   takes the permit back, and ``settlement`` settles it as completed, failed or aborted.
5. A failed call that may be retried waits in ``retries`` and goes to the head of its session's
   queue when it is due. A quarantined permit returns when its rest is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sized
from itertools import islice
from math import inf
from typing import Generic, Literal, TypeVar, assert_never

from exai_actors.core.calls import IfBusy, UpstreamFailure
from exai_actors.core.capacity.account import Account, Mode
from exai_actors.core.capacity.ahead import place_of
from exai_actors.core.capacity.changes import Arrangement
from exai_actors.core.capacity.explain_wait import WaitExplainer
from exai_actors.core.capacity.flows import Flow
from exai_actors.core.capacity.grant_guards import CLOSED, GrantGuards
from exai_actors.core.capacity.pool import MAX_POOLS, Pool
from exai_actors.core.capacity.position_reports import PositionReports
from exai_actors.core.capacity.quarantine import Quarantine
from exai_actors.core.capacity.refusals import Refusal, RefusalCause, Refusals
from exai_actors.core.capacity.retry_policy import RetryBudget, judge
from exai_actors.core.capacity.retry_queue import RetryQueue
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settlement import Settlement
from exai_actors.core.capacity.wait_estimates import WaitEstimates
from exai_actors.core.routing import BUSY, leaves_for
from exai_actors.core.wait_reasons import Waiting
from exai_actors.ids import PermitId, RequestKey, SessionId

C = TypeVar("C", bound=ScheduledCall)


MIN_SERVICE_S = 0.05
"""No stall is charged as more calls than would fit if each took this long."""

CallState = Literal["queued", "held", "running", "retrying"]

Admission = Literal["granted", "queued"]
"""The fate of a call that was not refused."""


class Dispatcher(Generic[C]):
    """Work-conserving: after ``pump`` no call waits that could be granted.

    ``expired`` are the calls that ``pump`` dropped because their deadline had passed: their
    sessions end them, the owner only has to forget them and to clear the list. ``displaced`` are
    those that gave their place in the queue to the call just admitted: the owner refuses them,
    clears the list and pumps.
    """

    __slots__ = (
        "_budget",
        "_by_model",
        "_ledgers",
        "_quarantine",
        "_refusals",
        "_turn",
        "account",
        "all_waiting",
        "displaced",
        "expired",
        "guards",
        "pools",
        "positions",
        "retries",
        "settlement",
        "waits",
    )

    def __init__(self, account: Account, last_permit: int = 0) -> None:
        """``last_permit`` is a multiple of 256 that no earlier permit exceeds.

        Raises ValueError for more than 255 models with limits of their own.
        """
        self.account = account
        limits: list[tuple[str | None, int]] = [(None, account.limit)]
        limits += account.model_limits.items()
        if len(limits) > MAX_POOLS:
            raise ValueError(f"at most {MAX_POOLS - 1} models can have limits of their own")
        self.pools: tuple[Pool[C], ...] = tuple(
            Pool(model, limit, account, last_permit + index)
            for index, (model, limit) in enumerate(limits)
        )
        self.pools[0].ledger.reserve(account.reserved)
        self._by_model = {pool.model: pool for pool in self.pools}
        # By the index in a permit's number. An earlier owner may have had more pools.
        ledgers = tuple(pool.ledger for pool in self.pools)
        self._ledgers = ledgers + ledgers[:1] * (MAX_POOLS - len(ledgers))
        self.guards = GrantGuards(account)
        self._quarantine = Quarantine(account)
        self.waits: WaitEstimates[C] = WaitEstimates(
            account, self.guards, self.pools, self._quarantine
        )
        self._refusals: Refusals[C] = Refusals(self.guards, self.waits)
        self.positions: PositionReports[C] = PositionReports(self.waits, self.pools)
        self.retries: RetryQueue[C] = RetryQueue()
        self.all_waiting: tuple[Sized, ...] = (
            *(pool.queue.queued for pool in self.pools),
            self.retries.waiting,
            account.quarantined,
        )
        """All calls, and resting permits, that wait for ``pump``. To be changed only here."""
        self._budget = RetryBudget(account.settings.retry)
        self.settlement: Settlement[C] = Settlement(
            account, self.guards, self._budget, self.retries
        )
        self.expired: list[C] = []
        self.displaced: list[tuple[C, Refusal]] = []
        self._turn = 0
        for permit, call in self._quarantine:
            self._ledgers[permit % MAX_POOLS].adopt_quarantined(permit, call)
        account.circuit.forget_probes()
        for hold in account.holds():
            hold.forget_probe()

    @property
    def queued(self) -> int:
        """The number of waiting calls, retries included."""
        return sum(len(pool.queue) for pool in self.pools) + len(self.retries)

    def pool_of(self, model: str) -> Pool[C]:
        """The pool that grants calls of this model."""
        return self._by_model.get(model) or self.pools[0]

    def admit(self, call: C, now: float) -> Admission | Refusal:
        """Grant, queue or refuse a new call.

        Raises ValueError if its session already has a request of this key waiting here.
        """
        if (
            self.guards.all_open
            and not call.pool.queue.queued
            and not call.is_deserted
            and self._grant(call, now)
        ):
            # The fast path of an idle provider; _consider would decide the same.
            call.pool.queue.charge(call.flow, call.cost)
            return "granted"
        return self._consider(call, now)

    def pump(self, now: float) -> Iterator[C]:
        """Grant all calls that can be granted, in fair order. Exhaust it: each step grants one."""
        guards = self.guards
        self._requeue_due(now)
        guards.refresh(now)
        for pool in self._pools_in_turn():
            while pool.queue.queued and pool.ledger.free:
                call = pool.queue.peek(now)
                if call is None:
                    break
                if call.deadline <= now:
                    # If it started now it would be aborted immediately, and might cost money.
                    pool.queue.remove(call.flow.session, call.request)
                    self.positions.forget(call)
                    self.expired.append(call)
                    continue
                if call.is_deserted:
                    self._pass_over(call)
                    continue
                if not guards.all_open:
                    if guards.blocked_until(pool, now) > now:
                        break
                    if guards.model_opens_at(call, now) > now:
                        # Calls of other models need not wait for it.
                        pool.queue.set_aside(call.flow.session, call.request)
                        continue
                    if guards.gates_open_at(call, now) > now:
                        # Smaller calls wait behind it; otherwise the gates might never have room
                        # for a large one.
                        return
                pool.queue.take(now)
                if not self._grant(call, now):
                    raise RuntimeError("the ledger named a free permit and granted none")
                self.positions.forget(call)
                self._turn += 1
                yield call

    def release(self, permit: PermitId) -> C | None:
        """Take back the permit of an ended call, which is to be settled next.

        None, and an anomaly, for a permit that is not held.
        """
        return self._ledgers[permit % MAX_POOLS].release(permit)

    def quarantine(self, permit: PermitId, until: float) -> C | None:
        """In place of ``release``, for a call that was cut off: its permit rests until then."""
        call = self._ledgers[permit % MAX_POOLS].quarantine(permit)
        if call is not None:
            self._quarantine.put(permit, call, until)
        return call

    def charge_stall(self, call: C, stalled_s: float) -> None:
        """Charge a call for the time in which its permit was held for a slow consumer.

        Others could have had as many calls in it as fit; it costs as much as that many like this.
        """
        pool = call.pool
        mean_s = pool.service_time.mean_s or stalled_s
        extra = call.cost * stalled_s / max(mean_s, MIN_SERVICE_S)
        pool.queue.settle(call.flow, 0.0, extra, call.inverse_weight)

    def would_wait(self, call: C, failure: UpstreamFailure, now: float) -> bool:
        """Whether guards keep the next attempt of a failed call from starting now."""
        verdict = judge(failure)
        return (verdict.retriable or verdict.holds) and self.guards.opens_at(call, now) > now

    def adopt(self, permit: PermitId, call: C) -> None:
        """Count a call that an earlier owner started, until it ends."""
        self._ledgers[permit % MAX_POOLS].adopt(permit, call)

    def find(self, permit: PermitId) -> C | None:
        """The call that holds this permit."""
        return self._ledgers[permit % MAX_POOLS].held.get(permit)

    def find_queued(self, session: SessionId, request: RequestKey) -> C | None:
        """The call of a request that waits in a queue; retries that are not due are not found."""
        for pool in self.pools:
            call = pool.queue.get(session, request)
            if call is not None:
                return call
        return None

    def started(self) -> Iterator[C]:
        """All calls that hold a permit or wait for their retry."""
        for pool in self.pools:
            yield from pool.ledger.held.values()
        yield from self.retries

    def calls(self) -> Iterator[C]:
        """All calls that have not ended."""
        for pool in self.pools:
            yield from pool.queue
        yield from self.started()

    def withdraw(self, session: SessionId, request: RequestKey) -> C | None:
        """Remove a call that waits for its first or its next attempt; None if none does."""
        for pool in self.pools:
            call = pool.queue.remove(session, request)
            if call is not None:
                self.positions.forget(call)
                return call
        return self.retries.remove(session, request)

    def arrange(
        self, session: SessionId, request: RequestKey, how: Arrangement, now: float
    ) -> bool:
        """Move a queued call to the front, hold it or release it; False if it is not queued."""
        call = self.find_queued(session, request)
        if call is None:
            return False
        queue = call.pool.queue
        match how:
            case "front":
                queue.move_first(session, request)
            case "hold":
                # The return of its client does not release it any more.
                call.passed_over = False
                queue.hold(session, request)
            case "release":
                queue.release(session, request, now)
            case _:
                assert_never(how)
        return True

    def client_returned(self, session: SessionId, request: RequestKey, deadline: float) -> None:
        """Let a call wait until ``deadline``, and give it the next turn if it was passed over.

        One that has started may be tried again until then.
        """
        call = self.find_queued(session, request)
        if call is None:
            for started in self.started():
                if started.request == request and started.flow.session == session:
                    started.deadline = max(started.deadline, deadline)
            return
        call.deadline = max(call.deadline, deadline)
        if call.passed_over:
            call.passed_over = False
            call.pool.queue.move_first(session, request)

    def transfer(self, call: C, flow: Flow, request: RequestKey, now: float) -> None:
        """Make the call another session's: its charge or its place in the queue."""
        queue = call.pool.queue
        was_held = queue.is_held(call.flow.session, call.request)
        was_queued = queue.remove(call.flow.session, call.request) is not None
        if call.permit in call.pool.ledger.held:
            queue.transfer(call.flow, flow, call.cost, call.inverse_weight)
            call.inverse_weight = flow.tenant.inverse_weight
        call.flow, call.request = flow, request
        if was_queued:
            # It was accepted once, so a full queue does not refuse it now.
            queue.put(flow, request, call, call.cost, now, ahead=True)
            if was_held:
                queue.hold(flow.session, request)

    def forget(self, session: SessionId) -> list[C]:
        """Remove an ended session, and return the calls that it had waiting."""
        removed = self.retries.forget(session)
        for pool in self.pools:
            removed += pool.queue.forget(session)
        for call in removed:
            self.positions.forget(call)
        return removed

    def refuse_unservable(self, now: float, at_most: int = 1_000_000) -> list[tuple[C, Refusal]]:
        """Remove, and refuse, the first queued calls that a block outlasts or that prefer a
        fallback.
        """
        refused: list[tuple[C, Refusal]] = []
        for pool in self.pools:
            unservable = self._refusals.unservable(pool, now, self.retries)
            for call, refusal in islice(unservable, at_most - len(refused)):
                self.withdraw(call.flow.session, call.request)
                refused.append((call, refusal))
        return refused

    def state_of(self, session: SessionId, request: RequestKey) -> CallState:
        """Where the call of a request is; ``running`` also for what is not here."""
        call = self.find_queued(session, request)
        if call is not None:
            is_held = call.pool.queue.is_held(session, request) and not call.passed_over
            return "held" if is_held else "queued"
        return "running" if self.retries.due(session, request) is None else "retrying"

    def leaving(self) -> int:
        """How many waiting calls would be refused, to go elsewhere, if the provider were closed."""
        return sum(
            leaves_for(CLOSED, call.fallback_reasons, would_wait=True)
            for call in (*(call for pool in self.pools for call in pool.queue), *self.retries)
        )

    def wake_at(self, now: float) -> float:
        """When time alone makes ``pump`` due; inf when only a message can."""
        wake_at = self.retries.next_at
        if self.account.quarantined:
            wake_at = min(wake_at, self._quarantine.next_at)
        if not self.guards.all_open:
            wake_at = min(wake_at, self.guards.holds_end_at(now))
            for pool in self._pools_in_turn():
                call = pool.queue.peek(now) if pool.ledger.free else None
                if call is not None:
                    blocked_until = self.guards.blocked_until(pool, now)
                    passes_at = self.guards.gates_open_at(call, now)
                    wake_at = min(wake_at, max(blocked_until, passes_at))
                    if blocked_until <= now < passes_at:
                        # The other pools wait behind it, as in pump().
                        break
                for aside in pool.queue.aside:
                    wake_at = min(wake_at, max(now, self.guards.model_opens_at(aside, now)))
        return wake_at

    def waiting(self, session: SessionId, request: RequestKey, now: float) -> Waiting | None:
        """The place (``place_of``) and the reason of a waiting call; None if it does not wait."""
        explainer = WaitExplainer(self.guards, now)
        call = self.find_queued(session, request)
        if call is not None:
            return Waiting(place_of(call.pool, call), explainer.reason(call))
        retry = self.retries.due(session, request)
        return None if retry is None else Waiting(None, explainer.retry(*retry))

    def next_free_s(self, now: float) -> float | None:
        """Seconds until the next call of usual size gets its permit; None if unknown."""
        pool, gates = self.pools[0], self.account.gates
        if pool.ledger.free and self.guards.expected_open_at(pool, now) <= now:
            return gates.opens_at(gates.usual_tokens, now) - now
        return self.waits.wait_s(pool, 1, now)

    def flows(self) -> Iterator[tuple[Flow, int, int]]:
        """Each session with calls here: how many have permits, and how many wait."""
        held = Counter(call.flow for pool in self.pools for call in pool.ledger.held.values())
        waiting = Counter(call.flow for call in self.retries)
        for pool in self.pools:
            for flow in pool.queue.flows():
                waiting[flow] += flow.queued
        for flow in held | waiting:
            yield flow, held[flow], waiting[flow]

    def could_grant(self, pool: Pool[C], now: float) -> bool:
        """Whether the next call of the pool could be granted; never after ``pump``."""
        call = pool.queue.peek(now) if pool.ledger.free else None
        return call is not None and call.deadline > now and self.guards.opens_at(call, now) <= now

    def _consider(self, call: C, now: float) -> Admission | Refusal:
        queue, guards = call.pool.queue, self.guards
        guards.refresh(now)
        self._restore_opened(call.pool, now)
        if self.account.mode is Mode.DRAINING:
            return self._refusals.refusal(RefusalCause.DRAINING, "unreachable", call, now)
        next_in_line = not queue.in_line and guards.opens_at(call, now) <= now
        if (
            next_in_line
            and not call.is_deserted
            and not self._gates_are_awaited(now)
            and self._grant(call, now)
        ):
            queue.charge(call.flow, call.cost)
            return "granted"
        held = guards.model_block_reason(call, now)
        reason = guards.block_reason(call.pool, now) or held or BUSY
        if call.if_busy is IfBusy.REFUSE or leaves_for(
            reason, call.fallback_reasons, would_wait=True
        ):
            return self._refusals.refusal(RefusalCause.NO_WAITING, reason, call, now)
        if call.if_busy is IfBusy.WAIT_IN_TIME and call.deadline < inf:
            refusal = self._refusals.too_late(reason, call, now)
            if refusal is not None:
                return refusal
        if not (
            queue.put(call.flow, call.request, call, call.cost, now, call.priority)
            or self._displace(call, now)
        ):
            last = len(queue) + 1
            return self._refusals.refusal(RefusalCause.FULL, reason, call, now, last)
        if call.is_deserted:
            self._pass_over(call)
        elif held and guards.model_opens_at(call, now) > now:
            queue.set_aside(call.flow.session, call.request)
        return "queued"

    def _pass_over(self, call: C) -> None:
        """Give others the turn of a deserted call until ``client_returned``."""
        call.passed_over = True
        call.pool.queue.hold(call.flow.session, call.request)

    def _displace(self, call: C, now: float) -> bool:
        """Queue a call in the place of others; False if none has to give way."""
        queue, guards = call.pool.queue, self.guards
        while (displaced := queue.make_room(call.flow)) is not None:
            held = guards.model_block_reason(displaced, now)
            reason = guards.block_reason(displaced.pool, now) or held or BUSY
            last = len(queue) + 1
            refusal = self._refusals.refusal(RefusalCause.DISPLACED, reason, displaced, now, last)
            self.positions.forget(displaced)
            self.displaced.append((displaced, refusal))
            if queue.put(call.flow, call.request, call, call.cost, now, call.priority):
                return True
        return False

    def _grant(self, call: C, now: float) -> bool:
        permit = call.pool.ledger.grant(call)
        if permit is None:
            return False
        call.permit = permit
        call.granted_at = now
        call.inverse_weight = call.flow.tenant.inverse_weight
        call.attempts += 1
        if call.attempts == 1:
            self._budget.note_request(now)
        if not self.guards.all_open:
            self.guards.on_grant(call, now)
        return True

    def _requeue_due(self, now: float) -> None:
        while (call := self.retries.take(now)) is not None:
            queue = call.pool.queue
            queue.put(call.flow, call.request, call, call.cost, now, ahead=True)
        while (permit := self._quarantine.take(now)) is not None:
            self._ledgers[permit % MAX_POOLS].release(permit)
        for pool in self.pools:
            self._restore_opened(pool, now)

    def _restore_opened(self, pool: Pool[C], now: float) -> None:
        """Give the calls of models that are no longer held, or that may probe, their turn again."""
        queue = pool.queue
        if queue.in_line == len(queue):
            return
        for call in tuple(queue.aside):
            if self.guards.model_opens_at(call, now) <= now:
                queue.restore(call.flow.session, call.request, now)

    def _gates_are_awaited(self, now: float) -> bool:
        """Whether a call of any pool has a permit in sight and waits for the gates alone."""
        return self.account.gates.active and any(
            pool.queue.in_line and pool.ledger.free and self.guards.blocked_until(pool, now) <= now
            for pool in self.pools
        )

    def _pools_in_turn(self) -> tuple[Pool[C], ...]:
        """All pools, starting with another one each time: they compete for the same rate gates."""
        first = self._turn % len(self.pools)
        return self.pools[first:] + self.pools[:first]
