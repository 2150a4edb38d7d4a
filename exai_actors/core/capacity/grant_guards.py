"""What keeps a provider's permits from being granted though some are free.

Its operator's pause, the provider's own word to wait, an open circuit, and the rate gates.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from exai_actors.core.calls import LimitScope, UpstreamFailure
from exai_actors.core.capacity.account import Account, Mode
from exai_actors.core.capacity.changes import CapacityEvent
from exai_actors.core.capacity.circuit import CircuitState
from exai_actors.core.capacity.retry_policy import hold_s
from exai_actors.core.durations import format_seconds

if TYPE_CHECKING:
    from exai_actors.core.capacity.pools import Pool
    from exai_actors.core.capacity.scheduled_call import ScheduledCall


class GrantGuards:
    """``all_open`` is a plain attribute, so that nearly every request passes in one look.

    It is True only while nothing of all this is in force; call ``refresh`` after time has passed.
    """

    __slots__ = ("_models_held_until", "account", "all_open", "circuit")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.circuit = account.circuit
        self._models_held_until = max(
            (each.until for each in account.model_holds.values()), default=0.0
        )
        self.all_open = False
        self.refresh(0.0)

    def refresh(self, now: float) -> None:
        """See again whether anything is in force."""
        account = self.account
        self.all_open = (
            account.mode is Mode.OPEN
            and not account.gates.active
            and self.circuit.state is CircuitState.CLOSED
            and account.hold.until <= now
            and self._models_held_until <= now
        )

    def opens_at(self, job: ScheduledCall, now: float) -> float:
        """When nothing but a missing permit keeps this request waiting; ``now`` if so already."""
        opens_at = self.blocked_until(job.pool, now)
        return max(opens_at, self.gates_open_at(job, now)) if opens_at < inf else inf

    def gates_open_at(self, job: ScheduledCall, now: float) -> float:
        """When the rate gates have room for this request; ``now`` if so already."""
        gates = self.account.gates
        if not gates.active:
            return now
        return gates.opens_at(job.prompt_tokens + job.completion_tokens, now)

    def blocked_until(self, pool: Pool[Any], now: float) -> float:
        """The same but for the rate gates, which depend on the request."""
        account = self.account
        if account.mode is Mode.PAUSED:
            return inf
        return max(now, account.hold.until, pool.hold.until, self.circuit.opens_at(now))

    def block_reason(self, pool: Pool[Any], now: float) -> str:
        """The reason in a route's words; empty when nothing closes the provider right now."""
        if self.account.mode is Mode.PAUSED:
            return "unreachable"
        if self.circuit.opens_at(now) > now:
            return "circuit_open"
        for hold in (self.account.hold, pool.hold):
            if hold.until > now:
                return hold.because
        return ""

    def granted(self, job: ScheduledCall, now: float) -> None:
        """Count a grant at the gates and, when the circuit is being tried, as its probe."""
        if self.account.gates.active:
            tokens = job.prompt_tokens + job.completion_tokens
            job.charge = self.account.gates.charge(tokens, now)
        if self.circuit.state is not CircuitState.CLOSED:
            job.probe = self.circuit.granted()

    def told(
        self,
        failure: UpstreamFailure,
        pool: Pool[Any],
        granted_at: float,
        now: float,
        draw: float,
    ) -> None:
        """The provider refused a call of that instant and wants none for a while."""
        # Calls that were out together are refused together, which is one refusal and not many.
        if granted_at > pool.refused_at:
            pool.refusals_in_a_row += 1
            pool.refused_at = now
        seconds = hold_s(failure, pool.refusals_in_a_row, draw, self.account.settings.retry)
        # Too many at once of one model says nothing of the others.
        of_model = failure.scope is LimitScope.CONCURRENCY and pool.model is not None
        hold = pool.hold if of_model else self.account.hold
        if of_model:
            self._models_held_until = max(self._models_held_until, now + seconds)
        if hold.extend(now + seconds, failure.kind.value):
            self.note(now, f"held for {format_seconds(seconds)}", failure.message)

    def on_rate_headers(self, seconds: float, now: float) -> None:
        """The provider answered and wants no further call for so long."""
        if self.account.hold.extend(now + seconds, "rate_limited"):
            self.note(
                now, f"held for {format_seconds(seconds)}", "the provider says its limit is reached"
            )

    def note(self, now: float, what: str, cause: str) -> None:
        """Keep an event and see what it changed."""
        self.account.note(CapacityEvent(now, what, cause))
        self.refresh(now)
