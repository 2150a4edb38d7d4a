"""What the end of a call changes: shares, rate gates, circuit, holds and the adaptive limit."""

from __future__ import annotations

from typing import Any

from exai_actors.core.calls import UpstreamFailure
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.grant_guards import GrantGuards
from exai_actors.core.capacity.pools import Pool
from exai_actors.core.capacity.retry_policy import judge
from exai_actors.core.capacity.scheduled_call import ScheduledCall


class Settlement:
    """Each released call is settled once, by how it ended."""

    __slots__ = ("_account", "_guards")

    def __init__(self, account: Account, guards: GrantGuards) -> None:
        self._account = account
        self._guards = guards

    def completed(self, job: ScheduledCall, tokens: float, cost: float, now: float) -> None:
        """It was answered, and this is what it really took."""
        pool, guards = job.pool, self._guards
        pool.queue.settle(job.flow, job.cost, cost, job.inverse_weight)
        pool.service_time.observe(now - job.granted_at)
        pool.refusals_in_a_row = 0
        if job.charge is not None:
            self._account.gates.settle(job.charge, tokens, now)
        change = guards.circuit.succeeded(now, job.probe)
        if change is not None:
            guards.note(now, change.what, change.cause)
        if pool.adaptive is not None:
            limit = pool.adaptive.on_success(now, pool.ledger.in_flight + 1)
            self._resized(pool, limit, now, "answers came")

    def failed(self, job: ScheduledCall, failure: UpstreamFailure, now: float, draw: float) -> None:
        """It failed; ``draw`` is the jitter, uniform in [0, 1)."""
        verdict = judge(failure)
        pool, guards, gates = job.pool, self._guards, self._account.gates
        # What may have been spent stays charged as it was estimated: were it free, a session whose
        # calls all fail would be first every time, and the gates would be wrong.
        spent = job.cost if verdict.spent else 0.0
        pool.queue.settle(job.flow, job.cost, spent, job.inverse_weight)
        pool.service_time.at_least(now - job.granted_at)
        if job.charge is not None:
            if not verdict.reached:
                gates.refund(job.charge, now)
            elif not verdict.spent:
                gates.settle(job.charge, 0.0, now)
            job.charge = None
        if verdict.counts:
            change = guards.circuit.failed(now, job.probe)
            if change is not None:
                guards.note(now, change.what, f"{change.cause}: {failure.message}")
        else:
            guards.circuit.abandoned(job.probe)
        job.probe = False
        if verdict.hold:
            guards.told(failure, pool, job.granted_at, now, draw)
        if verdict.shrink and pool.adaptive is not None:
            self._resized(pool, pool.adaptive.on_overload(now), now, failure.message)

    def abandoned(self, job: ScheduledCall, cost: float, now: float) -> None:
        """It was aborted."""
        pool = job.pool
        pool.queue.settle(job.flow, job.cost, cost, job.inverse_weight)
        pool.service_time.at_least(now - job.granted_at)
        self._guards.circuit.abandoned(job.probe)

    def _resized(self, pool: Pool[Any], limit: int | None, now: float, cause: str) -> None:
        if limit is not None:
            self._guards.note(now, f"limit {pool.ledger.limit} -> {limit}", cause)
            pool.ledger.resize(limit)
