"""Everything that keeps a free permit from being granted.

The operator's pause, holds by the service's word, an open circuit, and the rate gates.
"""

from __future__ import annotations

from math import inf
from typing import Any

from exai_actors.core.calls import LimitHolder, UpstreamFailure
from exai_actors.core.capacity.account import Account, Mode
from exai_actors.core.capacity.changes import CapacityEvent, ChangeKind
from exai_actors.core.capacity.holds import Hold, probe_interval_s
from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.retry_policy import hold_s
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.durations import format_seconds

CLOSED = "unreachable"
"""Why a paused provider serves no call, in the words of a route."""


class GrantGuards:
    """``all_open`` is True only while no guard is in force, so that most calls check nothing else.

    Call ``refresh`` after time has passed. Instants at which guards open take probes into account;
    ``expected_at`` does not, because a probe is one call among many.
    """

    __slots__ = ("_noted", "account", "all_open", "circuit")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.circuit = account.circuit
        # Active holds; the end of each will be recorded.
        self._noted: list[Hold] = [hold for hold in account.holds() if hold.until]
        self.all_open = False
        self.refresh(0.0)

    def refresh(self, now: float) -> None:
        """Update ``all_open``, and record the holds that have ended."""
        account = self.account
        if self._noted:
            ended = [hold for hold in self._noted if not hold.is_active(now)]
            self._noted = [hold for hold in self._noted if hold.is_active(now)]
            for hold in ended:
                if hold.until:
                    hold.end()
                    self._record_end(hold, "its time is over", now)
        self.all_open = (
            account.mode is Mode.OPEN
            and not account.gates.active
            and self.circuit.state == "closed"
            and not self._noted
        )

    def opens_at(self, call: ScheduledCall, now: float) -> float:
        """When all guards let this call pass; ``now`` if they do, inf if only a message can."""
        blocked_until = max(self.blocked_until(call.pool, now), self.model_opens_at(call, now))
        if blocked_until == inf:
            return inf
        return max(blocked_until, self.gates_open_at(call, now))

    def expected_at(self, call: ScheduledCall, now: float) -> float:
        """When all guards let calls like this one pass; inf if only a message can end that."""
        blocked_until = max(self.expected_open_at(call.pool, now), self.model_held_until(call))
        if blocked_until == inf:
            return inf
        return max(blocked_until, self.gates_open_at(call, now))

    def gates_open_at(self, call: ScheduledCall, now: float) -> float:
        """When the rate gates have room for this call; ``now`` if they do."""
        gates = self.account.gates
        return gates.opens_at(call.tokens, now) if gates.active else now

    def blocked_until(self, pool: Pool[Any], now: float) -> float:
        """When the guards that do not depend on the call let a call of the pool pass."""
        account = self.account
        if account.mode is Mode.PAUSED:
            return inf
        return max(account.hold.opens_at(now), pool.hold.opens_at(now), self.circuit.opens_at(now))

    def expected_open_at(self, pool: Pool[Any], now: float) -> float:
        """When the guards that do not depend on the call let the pool's calls pass."""
        account = self.account
        if account.mode is Mode.PAUSED:
            return inf
        return max(now, account.hold.until, pool.hold.until, self.circuit.opens_at(now))

    def model_opens_at(self, call: ScheduledCall, now: float) -> float:
        """When the hold of the call's model lets it pass; ``now`` if it does."""
        hold = self._model_hold(call)
        return now if hold is None else hold.opens_at(now)

    def model_held_until(self, call: ScheduledCall) -> float:
        """When the hold of the call's model ends; in the past if there is none."""
        hold = self._model_hold(call)
        return 0.0 if hold is None else hold.until

    def block_reason(self, pool: Pool[Any], now: float) -> str:
        """Why the pool is blocked, in the words of a route; empty while it is not."""
        if self.account.mode is Mode.PAUSED:
            return CLOSED
        if self.circuit.opens_at(now) > now:
            return "circuit_open"
        for hold in (self.account.hold, pool.hold):
            if hold.is_active(now):
                return hold.because
        return ""

    def model_block_reason(self, call: ScheduledCall, now: float) -> str:
        """Why the call's model is held, in the words of a route; empty while it is not."""
        hold = self._model_hold(call)
        return hold.because if hold is not None and hold.is_active(now) else ""

    def on_grant(self, call: ScheduledCall, now: float) -> None:
        """Charge the rate gates, and count the call as a probe of holds and circuit."""
        gates = self.account.gates
        if gates.active:
            call.gate_charge = gates.charge(call.tokens, now)
        if self.circuit.state != "closed":
            call.is_probe = self.circuit.on_grant()
        if self._noted:
            call.probed_holds = tuple(
                hold
                for hold in (self.account.hold, self._model_hold(call))
                if hold is not None and hold.is_active(now)
            )
            for hold in call.probed_holds:
                hold.start_probe()

    def on_answer(self, call: ScheduledCall, now: float) -> None:
        """Note an answered call; an answered probe ends its hold."""
        account = self.account
        account.hold.refusals_in_a_row = 0
        hold = account.model_holds.get(call.model)
        if hold is not None:
            hold.refusals_in_a_row = 0
        for hold in call.probed_holds:
            if hold.probe_answered(call.granted_at):
                self._record_end(hold, "a probe was answered", now)
        call.probed_holds = ()

    def on_other_failure(self, call: ScheduledCall, now: float, *, of_service: bool) -> None:
        """Note a call that failed without a word about limits, or was aborted."""
        for hold in call.probed_holds:
            if of_service:
                hold.probe_failed(call.granted_at, now)
            else:
                hold.probe_abandoned(call.granted_at)
        call.probed_holds = ()

    def on_refusal(
        self, failure: UpstreamFailure, call: ScheduledCall, now: float, draw: float
    ) -> None:
        """Hold the account, or the call's model, after the service refused the call."""
        settings = self.account.settings
        of_model = failure.holder is LimitHolder.MODEL and call.model
        hold = self.account.hold_of(call.model, now) if of_model else self.account.hold
        hold.note_refusal(call.granted_at, now)
        seconds = hold_s(failure, hold.refusals_in_a_row, draw, settings.retry)
        every_s = probe_interval_s(settings.hold_probe_s, failure)
        before = hold.until
        reason = failure.kind.value
        if hold in call.probed_holds:
            hold.probe_refused(
                call.granted_at, now + seconds, reason, now, every_s, failure.message
            )
        else:
            hold.extend(now + seconds, reason, now, every_s, failure.message)
        for probed in call.probed_holds:
            if probed is not hold:
                probed.probe_abandoned(call.granted_at)
        call.probed_holds = ()
        if hold.until != before:
            self._record_hold(hold, seconds, failure.message, now)

    def on_rate_headers(self, seconds: float, model: str, now: float) -> None:
        """Hold the model after an answer with headers that ask for a pause."""
        hold = self.account.hold_of(model, now) if model else self.account.hold
        if hold.extend(now + seconds, "rate_limited", now, self.account.settings.hold_probe_s):
            self._record_hold(hold, seconds, "the provider says its limit is reached", now)

    def end_holds(self, now: float, cause: str, model: str | None = None) -> None:
        """End the hold of a model or else all holds, by the operator's word."""
        for hold in self.account.holds():
            if hold.is_active(now) and model in (None, hold.model):
                hold.end()
                self._record_end(hold, cause, now)

    def record(
        self,
        now: float,
        what: str,
        cause: str,
        kind: ChangeKind = "changed",
        *,
        model: str = "",
        seconds: float | None = None,
    ) -> None:
        """Record a change of capacity, and take it into account."""
        self.account.record(CapacityEvent(now, what, cause, kind, model, seconds))
        self.refresh(now)

    def holds_end_at(self, now: float) -> float:
        """When the next hold is over; inf if there is none."""
        return min((hold.until for hold in self._noted if hold.until > now), default=inf)

    def _model_hold(self, call: ScheduledCall) -> Hold | None:
        holds = self.account.model_holds
        return holds.get(call.model) if holds else None

    def _record_hold(self, hold: Hold, seconds: float, cause: str, now: float) -> None:
        if hold not in self._noted:
            self._noted.append(hold)
        what = f"{hold.subject} held for {format_seconds(seconds)}".strip()
        if hold.probe_every_s < seconds:
            what += f", one call is tried every {format_seconds(hold.probe_every_s)}"
        model = hold.model or ""
        self.record(now, what, cause, "held", model=model, seconds=round(seconds, 1))

    def _record_end(self, hold: Hold, cause: str, now: float) -> None:
        if hold in self._noted:
            self._noted.remove(hold)
        what = f"{hold.subject} hold ended".strip()
        self.record(now, what, cause, "hold_ended", model=hold.model or "")
