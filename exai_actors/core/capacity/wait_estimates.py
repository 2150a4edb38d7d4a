"""How long those who wait for a provider will wait, and what they are told of it."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.grant_guards import GrantGuards
from exai_actors.core.capacity.pools import Pool
from exai_actors.core.capacity.scheduled_call import Refusal, RefusalCause, ScheduledCall

J = TypeVar("J", bound=ScheduledCall)

MIN_RETRY_AFTER_S = 1.0


class WaitEstimates(Generic[J]):
    """Foretells waits from the permits that are out, the doors and the places in the queues."""

    __slots__ = ("_account", "_guards", "_pools")

    def __init__(self, account: Account, guards: GrantGuards, pools: tuple[Pool[J], ...]) -> None:
        self._account = account
        self._guards = guards
        self._pools = pools

    def positions_due(self, now: float, every_s: float) -> Iterator[tuple[int, float | None, J]]:
        """Position from 1, estimated wait in seconds and job of those not told for a while."""
        for pool in self._pools:
            waiting = pool.queue.entries.values()
            if all(job.reported is not None and now - job.reported < every_s for job in waiting):
                continue
            held = (job.granted_at for job in pool.ledger.held.values())
            back = (
                at
                for at, permit, _ in self._account.quarantined
                if permit in pool.ledger.quarantined
            )
            served = pool.service_time.waits_s(held, pool.ledger.own, now, back)
            for position, job in enumerate(pool.queue.in_service_order(), start=1):
                served_s = next(served)
                if job.reported is None or now - job.reported >= every_s:
                    job.reported = now
                    yield position, self._behind_guards(pool, position, served_s, now), job

    def wait_s(self, pool: Pool[J], position: int, now: float) -> float | None:
        """Seconds until the one at ``position`` gets its permit; None if nothing is known yet."""
        served_s = pool.service_time.wait_s(position, pool.ledger.own)
        return self._behind_guards(pool, position, served_s, now)

    def _behind_guards(
        self, pool: Pool[J], position: int, served_s: float | None, now: float
    ) -> float | None:
        closed_s = self._guards.blocked_until(pool, now) - now
        if closed_s == inf or not pool.ledger.own:
            # Until its operator or a probe that is out says more, nobody can tell.
            return None
        gates = self._account.gates
        if gates.active:
            served_s = max(served_s or 0.0, gates.wait_s(position, now))
        if served_s is None:
            return closed_s or None
        return closed_s + served_s

    def refusal(self, cause: RefusalCause, reason: str, job: J, now: float) -> Refusal:
        """What a request is told that is not taken: where it would have been, when to come back."""
        queue = job.pool.queue
        position = queue.rank(job.flow) + 1
        wait = self.wait_s(job.pool, position, now)
        if wait is not None:
            # A call larger than others waits longer before a gate, whoever else is there.
            wait = max(wait, self._guards.opens_at(job, now) - now)
        again = max(MIN_RETRY_AFTER_S, min(wait or 0.0, 1e6))
        return Refusal(cause, reason, again, len(queue), position, wait)
