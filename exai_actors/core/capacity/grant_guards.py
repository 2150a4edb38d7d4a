"""Everything that keeps a free permit from being granted.

The operator's pause, a hold by the service's word, an open circuit, and the rate gates.
"""

from __future__ import annotations

from math import inf
from typing import Any

from exai_actors.core.calls import LimitScope, UpstreamFailure
from exai_actors.core.capacity.account import Account, Mode
from exai_actors.core.capacity.changes import CapacityEvent
from exai_actors.core.capacity.circuit import CircuitState
from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.retry_policy import hold_s
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.durations import format_seconds


class GrantGuards:
    """``all_open`` is True only while no guard is in force, so that most calls check nothing else.

    Call ``refresh`` after time has passed.
    """

    __slots__ = ("_models_held_until", "account", "all_open", "circuit")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.circuit = account.circuit
        self._models_held_until = max(
            (hold.until for hold in account.model_holds.values()), default=0.0
        )
        self.all_open = False
        self.refresh(0.0)

    def refresh(self, now: float) -> None:
        """Update ``all_open``."""
        account = self.account
        self.all_open = (
            account.mode is Mode.OPEN
            and not account.gates.active
            and self.circuit.state is CircuitState.CLOSED
            and account.hold.until <= now
            and self._models_held_until <= now
        )

    def opens_at(self, call: ScheduledCall, now: float) -> float:
        """When all guards let this call pass; ``now`` if they do, inf if only a message can."""
        blocked_until = self.blocked_until(call.pool, now)
        if blocked_until == inf:
            return inf
        return max(blocked_until, self.gates_open_at(call, now))

    def gates_open_at(self, call: ScheduledCall, now: float) -> float:
        """When the rate gates have room for this call; ``now`` if they do."""
        gates = self.account.gates
        return gates.opens_at(call.tokens, now) if gates.active else now

    def blocked_until(self, pool: Pool[Any], now: float) -> float:
        """When the guards that do not depend on the call let the pool's calls pass."""
        account = self.account
        if account.mode is Mode.PAUSED:
            return inf
        return max(now, account.hold.until, pool.hold.until, self.circuit.opens_at(now))

    def block_reason(self, pool: Pool[Any], now: float) -> str:
        """Why the pool is blocked, in the words of a route; empty while it is not."""
        if self.account.mode is Mode.PAUSED:
            return "unreachable"
        if self.circuit.opens_at(now) > now:
            return "circuit_open"
        for hold in (self.account.hold, pool.hold):
            if hold.until > now:
                return hold.because
        return ""

    def on_grant(self, call: ScheduledCall, now: float) -> None:
        """Charge the rate gates and, unless the circuit is closed, count the call as its probe."""
        gates = self.account.gates
        if gates.active:
            call.gate_charge = gates.charge(call.tokens, now)
        if self.circuit.state is not CircuitState.CLOSED:
            call.is_probe = self.circuit.on_grant()

    def on_refusal(
        self,
        failure: UpstreamFailure,
        pool: Pool[Any],
        granted_at: float,
        now: float,
        draw: float,
    ) -> None:
        """Hold the account, or one model, after the service refused a call granted then."""
        # Calls that were in flight together are refused together: that counts once.
        if granted_at > pool.refused_at:
            pool.refusals_in_a_row += 1
            pool.refused_at = now
        seconds = hold_s(failure, pool.refusals_in_a_row, draw, self.account.settings.retry)
        # Too many calls of one model at once says nothing about the other models.
        of_model = failure.scope is LimitScope.CONCURRENCY and pool.model is not None
        hold = pool.hold if of_model else self.account.hold
        if of_model:
            self._models_held_until = max(self._models_held_until, now + seconds)
        if hold.extend(now + seconds, failure.kind.value):
            self.record(now, f"held for {format_seconds(seconds)}", failure.message)

    def on_rate_headers(self, seconds: float, now: float) -> None:
        """Hold the account after an answer whose headers ask for a pause."""
        if self.account.hold.extend(now + seconds, "rate_limited"):
            self.record(
                now, f"held for {format_seconds(seconds)}", "the provider says its limit is reached"
            )

    def record(self, now: float, what: str, cause: str) -> None:
        """Record a change of capacity, and take it into account."""
        self.account.record(CapacityEvent(now, what, cause))
        self.refresh(now)
