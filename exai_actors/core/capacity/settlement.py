"""The consequences of a call's end: charges, rate gates, circuit, holds, limit and retries."""

from __future__ import annotations

from typing import Generic, TypeVar

from exai_actors.core.calls import IfBusy, UpstreamFailure
from exai_actors.core.capacity.account import Account, Mode
from exai_actors.core.capacity.grant_guards import GrantGuards
from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.retry_policy import RetryBudget, Verdict, backoff_s, judge
from exai_actors.core.capacity.retry_queue import RetryQueue
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.routing import fallback_reason, leaves_for

C = TypeVar("C", bound=ScheduledCall)

MAX_RESENDS = 4
"""One for a connection that the service had closed, one for each argument that services rename."""


class Settlement(Generic[C]):
    """Settles each released call once, by how it ended."""

    __slots__ = ("_account", "_budget", "_guards", "_retries")

    def __init__(
        self,
        account: Account,
        guards: GrantGuards,
        budget: RetryBudget,
        retries: RetryQueue[C],
    ) -> None:
        self._account = account
        self._guards = guards
        self._budget = budget
        self._retries = retries

    def completed(
        self, call: C, tokens: float, cost: float, now: float, held_s: float | None
    ) -> None:
        """Settle an answered call with its real ``tokens`` and ``cost``.

        ``held_s`` is how long the service took; None if it is not known well.
        """
        pool, account = call.pool, self._account
        pool.queue.settle(call.flow, call.cost, cost, call.inverse_weight)
        if held_s is not None:
            pool.service_time.observe(held_s)
        if account.hold.refusals_in_a_row or account.model_holds or call.probed_holds:
            self._guards.on_answer(call, now)
        if call.gate_charge is not None:
            account.gates.settle(call.gate_charge, tokens, now)
        if account.circuit.has_failures:
            change = account.circuit.succeeded(now, call.is_probe)
            if change is not None:
                self._guards.record(now, change.what, change.cause, "circuit_closed")
        if pool.adaptive is not None:
            limit = pool.adaptive.on_success(now, pool.ledger.in_flight + 1)
            self._resize(pool, limit, now, "answers came")

    def aborted(self, call: C, cost: float, now: float) -> None:
        """Settle an aborted call with the ``cost`` it probably had."""
        pool = call.pool
        pool.queue.settle(call.flow, call.cost, cost, call.inverse_weight)
        pool.service_time.at_least(now - call.granted_at)
        self._guards.circuit.abandoned(call.is_probe)
        self._guards.on_other_failure(call, now, of_service=False)

    def failed(
        self, call: C, failure: UpstreamFailure, now: float, draw: float, *, may_retry: bool = True
    ) -> bool:
        """Settle a failed call, and return whether it will be retried.

        ``draw`` is the jitter, uniform in [0, 1). A call that no request waits for is not to be
        retried.
        """
        if failure.resend and may_retry and self._may_resend(call, now):
            self._resend(call, now)
            return True
        verdict = judge(failure)
        self._charge_failure(call, failure, verdict, now, draw)
        retry_at = self._retry_at(call, failure, now, draw)
        if (
            not may_retry
            or not verdict.retriable
            or call.attempts - call.resends >= self._account.settings.retry.attempts
            or leaves_for(
                fallback_reason(failure),
                call.fallback_reasons,
                would_wait=self._guards.opens_at(call, now) > now,
            )
            or call.if_busy is IfBusy.REFUSE
            or self._account.mode is Mode.DRAINING
            or retry_at >= call.deadline
            or not self._budget.take(now)
        ):
            return False
        self._retries.put(call, retry_at)
        return True

    def _may_resend(self, call: C, now: float) -> bool:
        return (
            call.resends < MAX_RESENDS
            and now < call.deadline
            and self._account.mode is not Mode.DRAINING
            and (call.if_busy is not IfBusy.REFUSE or self._guards.opens_at(call, now) <= now)
        )

    def _resend(self, call: C, now: float) -> None:
        """Let the call be granted again, ahead of its queue: the gates count both requests."""
        call.pool.queue.settle(call.flow, call.cost, 0.0, call.inverse_weight)
        if call.gate_charge is not None:
            self._account.gates.settle(call.gate_charge, 0.0, now)
        self._guards.circuit.abandoned(call.is_probe)
        call.is_probe = False
        self._guards.on_other_failure(call, now, of_service=False)
        call.resends += 1
        self._retries.put(call, now)

    def _charge_failure(
        self, call: C, failure: UpstreamFailure, verdict: Verdict, now: float, draw: float
    ) -> None:
        pool, guards, gates = call.pool, self._guards, self._account.gates
        # A cost that is unknown stays as estimated: were it free, a session whose calls all fail
        # would always be next, and the gates would count too little.
        cost = call.cost if verdict.may_have_cost else 0.0
        pool.queue.settle(call.flow, call.cost, cost, call.inverse_weight)
        pool.service_time.at_least(now - call.granted_at)
        if call.gate_charge is not None:
            if not verdict.reached_service:
                gates.refund(call.gate_charge, now)
            elif not verdict.may_have_cost:
                gates.settle(call.gate_charge, 0.0, now)
        if verdict.counts_for_circuit:
            change = guards.circuit.failed(now, call.is_probe, failure.message)
            if change is not None:
                guards.record(
                    now, change.what, change.cause, "circuit_opened", seconds=change.seconds
                )
        else:
            guards.circuit.abandoned(call.is_probe)
        call.is_probe = False
        if verdict.holds:
            guards.on_refusal(failure, call, now, draw)
        else:
            guards.on_other_failure(call, now, of_service=verdict.counts_for_circuit)
        if verdict.shrinks_limit and pool.adaptive is not None:
            self._resize(pool, pool.adaptive.on_overload(now), now, failure.message)

    def _retry_at(self, call: C, failure: UpstreamFailure, now: float, draw: float) -> float:
        """Not before the service's Retry-After, nor before a hold has ended."""
        return max(
            now + backoff_s(call.attempts, draw, self._account.settings.retry),
            now + (failure.retry_after or 0.0),
            self._account.hold.until,
            self._guards.model_held_until(call),
        )

    def _resize(self, pool: Pool[C], limit: int | None, now: float, cause: str) -> None:
        if limit is not None:
            what = f"limit {pool.ledger.limit} -> {limit}"
            self._guards.record(now, what, cause, "limit_adapted")
            pool.ledger.resize(limit)
