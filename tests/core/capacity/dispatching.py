"""A dispatcher driven by hand as by its owner: pumped after every change."""

from __future__ import annotations

from math import inf
from typing import Any

from exai_actors.core.calls import (
    FailureKind,
    IfBusy,
    LimitHolder,
    LimitScope,
    Presence,
    UpstreamFailure,
)
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.dispatcher import Admission, Dispatcher
from exai_actors.core.capacity.refusals import Refusal
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import DEFAULT_TENANT, RequestKey, SessionId, TenantName


class Bench:
    """A provider's dispatcher with its time, its running calls and its grants in order."""

    def __init__(self, settings: CapacitySettings | None = None, **more: Any) -> None:
        self.settings = settings or CapacitySettings(**{"limit": 1} | more)
        self.account = Account(self.settings)
        self.dispatcher: Dispatcher[ScheduledCall] = Dispatcher(self.account)
        self.now = 0.0
        self.granted: list[str] = []
        self.running: dict[str, ScheduledCall] = {}

    def call(
        self,
        name: str,
        session: str = "a",
        *,
        model: str = "m",
        tenant: str = DEFAULT_TENANT,
        tokens: float = 10.0,
        deadline: float = inf,
        if_busy: IfBusy = IfBusy.WAIT_IN_TIME,
        priority: int = 0,
        fallback_reasons: frozenset[str] = frozenset(),
        presence: Presence | None = None,
    ) -> ScheduledCall:
        pool = self.dispatcher.pool_of(model)
        return ScheduledCall(
            flow=pool.queue.flow(SessionId(session), TenantName(tenant)),
            request=RequestKey(name),
            pool=pool,
            prompt_tokens=tokens,
            completion_tokens=0.0,
            cost=tokens,
            deadline=deadline,
            if_busy=if_busy,
            priority=priority,
            fallback_reasons=fallback_reasons,
            model=model,
            presence=presence,
        )

    def admit(self, name: str, session: str = "a", **more: Any) -> Admission | Refusal:
        """Admit a new call: it runs, waits or is refused."""
        call = self.call(name, session, **more)
        admission = self.dispatcher.admit(call, self.now)
        if admission == "granted":
            self._started(call)
        self.pump()
        return admission

    def pump(self) -> None:
        for call in self.dispatcher.pump(self.now):
            self._started(call)

    def complete(self, name: str, tokens: float = 10.0) -> None:
        """Complete a running call."""
        call = self._released(name)
        self.dispatcher.settlement.completed(
            call, tokens, tokens, self.now, self.now - call.granted_at
        )
        self.pump()

    def fail(
        self,
        name: str,
        kind: FailureKind = FailureKind.SERVER_ERROR,
        *,
        retry_after: float | None = None,
        scope: LimitScope | None = None,
        holder: LimitHolder = LimitHolder.ACCOUNT,
        draw: float = 0.5,
    ) -> bool:
        """Let a running call fail; returns whether it will be retried."""
        call = self._released(name)
        failure = UpstreamFailure(
            kind, f"it was {kind.value}", retry_after=retry_after, scope=scope, holder=holder
        )
        retried = self.dispatcher.settlement.failed(call, failure, self.now, draw)
        self.pump()
        return retried

    def abort(self, name: str, rest_s: float = 0.0) -> None:
        """End a running call as aborted; its permit rests for ``rest_s``."""
        call = self.running.pop(name)
        if rest_s:
            assert self.dispatcher.quarantine(call.permit, self.now + rest_s) is call
        else:
            assert self.dispatcher.release(call.permit) is call
        self.dispatcher.settlement.aborted(call, 1.0, self.now)
        self.pump()

    def pass_time(self, seconds: float) -> None:
        """Advance the time, pumping whenever the dispatcher asks for it."""
        end = self.now + seconds
        while (wake := self.dispatcher.wake_at(self.now)) <= end:
            self.now = max(self.now, wake)
            before = len(self.granted), len(self.dispatcher.retries)
            self.pump()
            if wake <= self.now and before == (len(self.granted), len(self.dispatcher.retries)):
                assert self.dispatcher.wake_at(self.now) > self.now, (
                    "it asks for a pump that changes nothing"
                )
        self.now = end

    def in_line(self) -> list[tuple[int, float | None, ScheduledCall]]:
        """The queued calls with their places and predicted waits."""
        pools, waits = self.dispatcher.pools, self.dispatcher.waits
        return [place for pool in pools for place in waits.in_line(pool, self.now)]

    @property
    def in_flight(self) -> int:
        return sum(pool.ledger.in_flight for pool in self.dispatcher.pools)

    def _started(self, call: ScheduledCall) -> None:
        name = call.request.text
        assert name not in self.running
        self.running[name] = call
        self.granted.append(name)

    def _released(self, name: str) -> ScheduledCall:
        call = self.running.pop(name)
        assert self.dispatcher.release(call.permit) is call
        return call


def left_in(dispatcher: Dispatcher[Any]) -> list[str]:
    """The containers that are not empty although no call waits, runs or rests."""
    left: dict[str, float] = {
        "retries": len(dispatcher.retries),
        "expired": len(dispatcher.expired),
        "displaced": len(dispatcher.displaced),
        "quarantine": len(dispatcher.account.quarantined),
        "probes": dispatcher.account.circuit._probes,
    }
    for pool in dispatcher.pools:
        queue, name = pool.queue, pool.model or "other models"
        left[f"held of {name}"] = len(pool.ledger.held)
        left[f"quarantined of {name}"] = len(pool.ledger.quarantined)
        left[f"queued of {name}"] = len(queue.queued) + len(queue._last_grant)
        left[f"waiting tenants of {name}"] = len(queue._waiting) + len(queue._waiting._heap)
        for tenant in queue._tenants.values():
            left[f"waiting of tenant {tenant.name}"] = (
                len(tenant.sessions) + len(tenant.sessions._heap) + abs(tenant.queued)
            )
            left[f"cost of tenant {tenant.name}"] = abs(tenant.queued_cost)
            left[f"unsettled of tenant {tenant.name}"] = round(tenant.unsettled, 6)
            for flow in tenant.flows.values():
                left[f"waiting of {flow.session}"] = len(flow.waiting) + len(flow._heap)
                left[f"cost of {flow.session}"] = abs(flow.queued_cost)
                left[f"unsettled of {flow.session}"] = round(flow.unsettled, 6)
    return [name for name, number in left.items() if number]
