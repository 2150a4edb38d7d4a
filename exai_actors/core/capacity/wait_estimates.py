"""How long queued calls will wait for their permits."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.expected_order import expected_order
from exai_actors.core.capacity.grant_guards import GrantGuards
from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.quarantine import Quarantine
from exai_actors.core.capacity.scheduled_call import ScheduledCall

C = TypeVar("C", bound=ScheduledCall)


class WaitEstimates(Generic[C]):
    """Predicts waits from the calls in flight, the guards and the places in the queues."""

    __slots__ = ("_account", "_guards", "_pools", "_quarantine")

    def __init__(
        self,
        account: Account,
        guards: GrantGuards,
        pools: tuple[Pool[C], ...],
        quarantine: Quarantine,
    ) -> None:
        self._account = account
        self._guards = guards
        self._pools = pools
        self._quarantine = quarantine

    def in_line(self, pool: Pool[C], now: float) -> Iterator[tuple[int, float | None, C]]:
        """The queued calls in the order of service: position, estimated wait, and call.

        The position is that without newcomers, the wait takes them into account.
        """
        pool.queue.estimate_rates(now)
        instants = self._instants(pool, now)
        expected = expected_order(pool.queue, instants, now)
        found: dict[int, float | None] = {}
        for position, call in enumerate(pool.queue.in_service_order(), start=1):
            while id(call) not in found:
                # Those that were set aside are in no line.
                instant, each = next(expected, None) or (next(instants), call)
                found[id(each)] = None if instant is None else instant - now
            wait_s = found.pop(id(call))
            held_s = self._guards.model_held_until(call) - now
            yield position, wait_s if held_s <= 0 else max(wait_s or 0.0, held_s), call

    def _instants(self, pool: Pool[C], now: float) -> Iterator[float | None]:
        """When the first, second, ... of the next calls get their permits; None if unknown."""
        granted_at = (call.granted_at for call in pool.ledger.held.values())
        rest_ends = self._quarantine.ends_of(pool.ledger)
        permits_s = pool.service_time.waits_s(granted_at, pool.ledger.own, now, rest_ends)
        for turn, permit_s in enumerate(permits_s, start=1):
            wait_s = self._behind_guards(pool, turn, permit_s, now)
            yield None if wait_s is None else now + wait_s

    def wait_s(self, pool: Pool[C], position: int, now: float) -> float | None:
        """Seconds until the call at ``position`` from 1 gets its permit; None if unknown."""
        permit_s = pool.service_time.wait_s(position, pool.ledger.own)
        return self._behind_guards(pool, position, permit_s, now)

    def _behind_guards(
        self, pool: Pool[C], position: int, permit_s: float | None, now: float
    ) -> float | None:
        blocked_s = self._guards.expected_open_at(pool, now) - now
        if blocked_s == inf or not pool.ledger.own:
            # It depends on the operator, or on a probe in flight.
            return None
        gates = self._account.gates
        if gates.active:
            permit_s = max(permit_s or 0.0, gates.wait_s(position, now))
        if permit_s is None:
            return blocked_s or None
        return blocked_s + permit_s
