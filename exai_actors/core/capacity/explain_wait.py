"""Which limit a waiting call waits for, from the state of its account and its pool.

Nothing here changes anything, and nothing runs for calls that do not wait.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from math import inf
from typing import Any

from exai_actors.core.capacity.account import Mode
from exai_actors.core.capacity.grant_guards import GrantGuards
from exai_actors.core.capacity.holds import Hold
from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.wait_reasons import WaitCode, WaitReason, clipped
from exai_actors.ids import TenantName


class WaitExplainer:
    """Explains waits at one instant; the shares of a pool are computed once."""

    __slots__ = ("_guards", "_now", "_shares")

    def __init__(self, guards: GrantGuards, now: float) -> None:
        self._guards = guards
        self._now = now
        self._shares: dict[str | None, dict[TenantName, tuple[float, int]]] = {}

    def reason(self, call: ScheduledCall) -> WaitReason:
        """The reason of the wait: of several limits the one that lasts longest."""
        blocks = self._blocks(call)
        return max(blocks, key=_end) if blocks else self._permit(call)

    def reasons(self, call: ScheduledCall) -> list[WaitReason]:
        """All limits that the call waits for, the one that lasts longest first."""
        return [*sorted(self._blocks(call), key=_end, reverse=True), self._permit(call)]

    def _blocks(self, call: ScheduledCall) -> list[WaitReason]:
        if not call.passed_over and call.pool.queue.is_held(call.flow.session, call.request):
            return [WaitReason(WaitCode.OPERATOR)]
        if self._guards.account.mode is Mode.PAUSED:
            return [WaitReason(WaitCode.PAUSED)]
        blocks = [self._hold(hold) for hold in self._holds(call)]
        blocks += self._circuit()
        blocks += self._gate(call.tokens)
        return blocks

    def of_account(self) -> WaitReason | None:
        """Why a call of usual size waits, for any model; None if it does not wait."""
        account = self._guards.account
        if account.mode is Mode.PAUSED:
            return WaitReason(WaitCode.PAUSED)
        blocks = [self._hold(account.hold)] if account.hold.is_active(self._now) else []
        blocks += self._circuit()
        blocks += self._gate(account.gates.usual_tokens)
        return max(blocks, key=_end, default=None)

    def retry(self, due: float, call: ScheduledCall) -> WaitReason:
        """The reason of a failed call: its next attempt is due then, or a guard lasts longer."""
        reason = self.reason(call)
        later = reason.code not in (WaitCode.PERMIT, WaitCode.TENANT_SHARE, WaitCode.TURN)
        return reason if later and _end(reason) >= due else WaitReason(WaitCode.RETRY, until=due)

    def _holds(self, call: ScheduledCall) -> list[Hold]:
        account = self._guards.account
        holds = (account.hold, account.model_holds.get(call.model))
        return [hold for hold in holds if hold is not None and hold.is_active(self._now)]

    def _hold(self, hold: Hold) -> WaitReason:
        probe_at = hold.opens_at(self._now)
        return WaitReason(
            WaitCode.HOLD,
            model=hold.model or "",
            until=hold.until,
            probe_at=probe_at if probe_at < hold.until else None,
            kind=hold.because,
            cause=clipped(hold.words),
        )

    def _circuit(self) -> list[WaitReason]:
        circuit = self._guards.circuit
        if circuit.state == "closed":
            return []
        opens_at = circuit.opens_at(self._now)
        if opens_at <= self._now:
            return []
        until = None if opens_at == inf else opens_at
        return [WaitReason(WaitCode.CIRCUIT, until=until, cause=clipped(circuit.cause))]

    def _gate(self, tokens: float) -> list[WaitReason]:
        shut = self._guards.account.gates.shut(tokens, self._now)
        if shut is None:
            return []
        gate, opens_at = shut
        return [WaitReason(WaitCode(gate.name), limit=gate.limit, used=gate.used, until=opens_at)]

    def _permit(self, call: ScheduledCall) -> WaitReason:
        pool = call.pool
        ledger, model = pool.ledger, pool.model or ""
        if ledger.free:
            return WaitReason(WaitCode.TURN, model=model)
        tenant = call.flow.tenant.name
        share, held = self._shares_of(pool).get(tenant, (inf, 0))
        if held >= share:
            return WaitReason(WaitCode.TENANT_SHARE, model=model, limit=share, used=held)
        used = ledger.in_flight + len(ledger.quarantined)
        return WaitReason(WaitCode.PERMIT, model=model, limit=ledger.own, used=used)

    def _shares_of(self, pool: Pool[Any]) -> dict[TenantName, tuple[float, int]]:
        """Of each tenant with work here: its share of the permits, and how many it has.

        Empty if there is only one.
        """
        found = self._shares.get(pool.model)
        if found is None:
            held = Counter(call.flow.tenant.name for call in pool.ledger.held.values())
            working = chain(
                (call.flow.tenant for call in pool.ledger.held.values()), pool.queue.tenants()
            )
            weights = {tenant.name: 1 / tenant.inverse_weight for tenant in working}
            total = sum(weights.values())
            found = self._shares[pool.model] = (
                {
                    tenant: (pool.ledger.own * weight / total, held[tenant])
                    for tenant, weight in weights.items()
                }
                if len(weights) > 1
                else {}
            )
        return found


def _end(reason: WaitReason) -> float:
    return inf if reason.until is None else reason.until
