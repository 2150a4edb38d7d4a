"""A dispatcher driven by hand, as its owner drives it: pumped after every change."""

from __future__ import annotations

from math import inf
from typing import Any

from exai_actors.core.calls import FailureKind, IfBusy, LimitScope, UpstreamFailure
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.dispatcher import Admission, Dispatcher
from exai_actors.core.capacity.refusals import Refusal
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import DEFAULT_TENANT, RequestKey, SessionId, TenantName


class Bench:
    """One provider's dispatcher, its time, and what runs on it. ``granted`` is in order."""

    def __init__(self, settings: CapacitySettings | None = None, **more: Any) -> None:
        self.settings = settings or CapacitySettings(**{"limit": 1} | more)
        self.account = Account(self.settings)
        self.dispatcher: Dispatcher[ScheduledCall] = Dispatcher(self.account)
        self.now = 0.0
        self.granted: list[str] = []
        self.running: dict[str, ScheduledCall] = {}

    def job(
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
    ) -> ScheduledCall:
        pool = self.dispatcher.pool_of(model)
        return ScheduledCall(
            pool.queue.flow(SessionId(session), TenantName(tenant)),
            RequestKey(name),
            pool,
            tokens,
            0.0,
            tokens,
            deadline,
            if_busy,
            priority,
            fallback_reasons,
        )

    def admit(self, name: str, session: str = "a", **more: Any) -> Admission | Refusal:
        """A request comes; it runs, waits or is refused."""
        job = self.job(name, session, **more)
        arrival = self.dispatcher.admit(job, self.now)
        if arrival is Admission.GRANTED:
            self._started(job)
        self.pump()
        return arrival

    def pump(self) -> None:
        for job in self.dispatcher.pump(self.now):
            self._started(job)

    def complete(self, name: str, tokens: float = 10.0) -> None:
        """Its answer has come."""
        job = self._released(name)
        self.dispatcher.completed(job, tokens, tokens, self.now)
        self.pump()

    def fail(
        self,
        name: str,
        kind: FailureKind = FailureKind.SERVER_ERROR,
        *,
        retry_after: float | None = None,
        scope: LimitScope | None = None,
        draw: float = 0.5,
    ) -> bool:
        """Its call has failed; whether it will be tried again."""
        job = self._released(name)
        failure = UpstreamFailure(
            kind, f"it was {kind.value}", retry_after=retry_after, scope=scope
        )
        again = self.dispatcher.failed(job, failure, self.now, draw)
        self.pump()
        return again

    def abort(self, name: str, rest_s: float = 0.0) -> None:
        """Its call was aborted and has ended; its permit rests for so long."""
        job = self.running.pop(name)
        if rest_s:
            assert self.dispatcher.quarantine(job.permit, self.now + rest_s) is job
        else:
            assert self.dispatcher.release(job.permit) is job
        self.dispatcher.aborted(job, 1.0, self.now)
        self.pump()

    def pass_time(self, seconds: float) -> None:
        """Let time go by, pumping whenever the dispatcher asked for it."""
        end = self.now + seconds
        while (wake := self.dispatcher.wake_at(self.now)) <= end:
            self.now = max(self.now, wake)
            before = len(self.granted), len(self.dispatcher.retries)
            self.pump()
            if wake <= self.now and before == (len(self.granted), len(self.dispatcher.retries)):
                assert self.dispatcher.wake_at(self.now) > self.now, (
                    "it asks to be pumped for nothing"
                )
        self.now = end

    @property
    def in_flight(self) -> int:
        return sum(pool.ledger.in_flight for pool in self.dispatcher.pools)

    def _started(self, job: ScheduledCall) -> None:
        name = job.request.text
        assert name not in self.running
        self.running[name] = job
        self.granted.append(name)

    def _released(self, name: str) -> ScheduledCall:
        job = self.running.pop(name)
        assert self.dispatcher.release(job.permit) is job
        return job
