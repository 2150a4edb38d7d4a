"""The invariants of a provider's capacity, after every message, against a plain model.

Each checker is shown to catch a fault planted in the dispatcher.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from exai_actors.core.calls import FailureKind, IfBusy, UpstreamFailure
from exai_actors.core.capacity.account import Account, Mode
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.changes import (
    DrainProvider,
    Pause,
    Reopen,
    SetGates,
    SetLimit,
    SetReserve,
)
from exai_actors.core.capacity.dispatcher import Admission, Dispatcher
from exai_actors.core.capacity.invariants import invariant_violations
from exai_actors.core.capacity.refusals import Refusal
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.ids import DEFAULT_TENANT, PermitId, RequestKey, SessionId, TenantName

SESSIONS = st.sampled_from(["a", "b", "c"])
MODELS = st.sampled_from(["plain", "scarce"])
PER_MINUTE = 6
FAULTS = {
    FailureKind.CONNECT,
    FailureKind.SERVER_ERROR,
    FailureKind.TIMEOUT,
    FailureKind.MALFORMED,
    FailureKind.TRUNCATED,
    FailureKind.BROKEN,
}
"""Those that say that the provider itself does not work."""


class CapacityMachine(RuleBasedStateMachine):
    """``running``, ``waiting`` and ``again`` are what the model believes of each request."""

    dispatcher_class: ClassVar[type[Dispatcher[ScheduledCall]]] = Dispatcher

    def __init__(self) -> None:
        super().__init__()
        gates = GateSettings(requests_per_minute=PER_MINUTE, margin_s=0.0)
        capacity = CapacitySettings(
            limit=2,
            queue=6,
            model_limits=(("scarce", 1),),
            gates=gates,
            retry=RetrySettings(reserve=100, base_s=1.0),
            circuit=CircuitSettings(failures_in_a_row=2, calls=1000),
        )
        self.account = Account(capacity)
        self.incarnation = 0
        self.dispatcher: Dispatcher[ScheduledCall] = self.dispatcher_class(self.account)
        self.now = 0.0
        self.limits = {"plain": 2, "scarce": 1}
        self.reserved = 0
        self.sent = 0
        self.running: dict[str, ScheduledCall] = {}
        self.adopted_call: dict[PermitId, str] = {}
        self.aside: dict[PermitId, tuple[str, float]] = {}
        self.waiting: dict[str, ScheduledCall] = {}
        self.deadlines: dict[str, float] = {}
        self.ended: dict[str, str] = {}
        self.grants: list[tuple[float, str]] = []
        self.not_before = 0.0
        self.in_a_row = 0
        self.opened = 0
        self.probe_at = 0.0
        self.probes: set[str] = set()
        self.gated = True
        self.wrong = 0

    # What the owner of a dispatcher does.

    def taken(self, model: str) -> int:
        held = sum(1 for job in self.running.values() if model_of(job) == model)
        left = sum(1 for each in self.adopted_call.values() if each == model)
        aside = sum(1 for each, _ in self.aside.values() if each == model)
        return held + left + aside + (self.reserved if model == "plain" else 0)

    def started(self, job: ScheduledCall) -> None:
        name = job.request.text
        assert name not in self.running, "granted twice"
        assert name not in self.ended, "granted after its end"
        assert self.now < self.deadlines[name], "granted after its deadline"
        assert self.taken(model_of(job)) < self.limits[model_of(job)], "granted above the limit"
        assert self.now >= self.not_before, "granted though the provider wants none yet"
        assert self.account.mode is not Mode.PAUSED, "granted while paused"
        if self.opened:
            assert self.now >= self.probe_at, "granted though the circuit is open"
            assert not self.probes, "granted a second probe"
            self.probes.add(name)
        if self.gated:
            recent = [at for at, _ in self.grants if at > self.now - 60.0]
            assert len(recent) < PER_MINUTE, "granted through a closed gate"
        self.grants.append((self.now, name))
        self.waiting.pop(name, None)
        self.running[name] = job

    def pump(self) -> None:
        self.aside = {
            permit: (model, until)
            for permit, (model, until) in self.aside.items()
            if until > self.now
        }
        for job in self.dispatcher.pump(self.now):
            self.started(job)
        for job in self.dispatcher.expired:
            assert self.deadlines[job.request.text] <= self.now, "expired too early"
            del self.waiting[job.request.text]
            self.end(job, "expired")
        self.dispatcher.expired.clear()

    def end(self, job: ScheduledCall, how: str) -> None:
        name = job.request.text
        assert name not in self.ended, "ended twice"
        self.ended[name] = how

    def judge(self, name: str, well: bool | None) -> None:
        """What the end of a call says of the provider to its circuit; None: nothing."""
        probe = name in self.probes
        self.probes.discard(name)
        if well is None or (self.opened and not probe):
            return
        if well:
            self.in_a_row = self.opened = 0
            self.probes.clear()
            return
        self.in_a_row += 1
        if probe or self.in_a_row >= 2:
            self.probe_at = self.now + min(60.0, 5.0 * 2**self.opened)
            self.opened += 1

    def released(self, data: st.DataObject) -> ScheduledCall:
        name = data.draw(st.sampled_from(sorted(self.running)))
        job = self.running.pop(name)
        assert self.dispatcher.release(job.permit) is job
        return job

    # What can happen.

    @rule(
        session=SESSIONS,
        model=MODELS,
        tenant=st.sampled_from([DEFAULT_TENANT, TenantName("t")]),
        tokens=st.floats(1, 1000),
        patience=st.sampled_from([5.0, 50.0, inf]),
        if_busy=st.sampled_from(IfBusy),
        priority=st.integers(-1, 1),
    )
    def want(
        self,
        session: str,
        model: str,
        tenant: TenantName,
        tokens: float,
        patience: float,
        if_busy: IfBusy,
        priority: int,
    ) -> None:
        self.sent += 1
        pool = self.dispatcher.pool_of(model)
        job = ScheduledCall(
            pool.queue.flow(SessionId(session), tenant),
            RequestKey(f"r{self.sent}"),
            pool,
            tokens,
            0.0,
            tokens,
            self.now + patience,
            if_busy,
            priority,
        )
        self.deadlines[f"r{self.sent}"] = job.deadline
        self.pump()
        arrival = self.dispatcher.admit(job, self.now)
        if arrival is Admission.GRANTED:
            assert not any(
                model_of(each) == model
                for each in self.waiting.values()
                if each.request in {queued.request for queued in pool.queue}
            ), "overtook"
            self.started(job)
        elif isinstance(arrival, Refusal):
            assert arrival.retry_after > 0
            assert arrival.position >= 1 or self.account.mode is Mode.DRAINING
            self.end(job, "refused")
        else:
            assert if_busy is not IfBusy.REFUSE
            self.waiting[job.request.text] = job
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.floats(1, 1000))
    def complete(self, data: st.DataObject, tokens: float) -> None:
        job = self.released(data)
        self.dispatcher.completed(job, tokens, tokens, self.now)
        self.judge(job.request.text, True)
        self.end(job, "completed")
        self.pump()

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        kind=st.sampled_from(FailureKind),
        retry_after=st.sampled_from([None, 2.0, 20.0]),
        draw=st.floats(0, 0.99),
    )
    def fail(
        self, data: st.DataObject, kind: FailureKind, retry_after: float | None, draw: float
    ) -> None:
        job = self.released(data)
        failure = UpstreamFailure(kind, "no", retry_after=retry_after)
        again = self.dispatcher.failed(job, failure, self.now, draw)
        self.judge(job.request.text, False if kind in FAULTS else None)
        if kind is FailureKind.CONNECT:
            # It never reached the provider, which cannot have counted it. The model has none of
            # those that were granted before the gates were last set.
            grant = (job.granted_at, job.request.text)
            self.grants = [each for each in self.grants if each != grant]
        if kind in (FailureKind.RATE_LIMITED, FailureKind.OVERLOADED) and retry_after is not None:
            self.not_before = max(self.not_before, self.now + retry_after)
        if again:
            assert job.attempts < 3
            self.waiting[job.request.text] = job
        else:
            self.end(job, "failed")
        for refuse_unservable, _ in self.dispatcher.refuse_unservable(self.now):
            del self.waiting[refuse_unservable.request.text]
            self.end(refuse_unservable, "refused")
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        job = self.running.pop(name)
        assert self.dispatcher.quarantine(job.permit, self.now + 3.0) is job
        self.aside[job.permit] = (model_of(job), self.now + 3.0)
        self.dispatcher.aborted(job, 1.0, self.now)
        self.judge(name, None)
        self.end(job, "cancelled")
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        job = self.waiting.pop(name)
        assert self.dispatcher.withdraw(job.flow.session, job.request) is job
        self.end(job, "cancelled")
        self.pump()

    @precondition(lambda self: self.running or self.waiting)
    @rule(session=SESSIONS, data=st.data())
    def transfer(self, session: str, data: st.DataObject) -> None:
        """Somebody else who waits for the same takes it over."""
        jobs = self.running | self.waiting
        job = jobs[data.draw(st.sampled_from(sorted(jobs)))]
        flow = job.pool.queue.flow(SessionId(session), DEFAULT_TENANT)
        self.dispatcher.transfer(job, flow, job.request, 0, self.now)
        assert job.flow is flow
        self.pump()

    @rule(session=SESSIONS)
    def down(self, session: str) -> None:
        for job in self.dispatcher.forget(SessionId(session)):
            assert job.flow.session == session
            del self.waiting[job.request.text]
            self.end(job, "cancelled")
        assert all(job.flow.session != session for job in self.waiting.values())
        self.pump()

    @rule(number=st.integers(1, 3))
    def release_what_is_not_held(self, number: int) -> None:
        permit = PermitId((1 << 60) + number)
        assert self.dispatcher.release(permit) is None
        self.wrong += 1
        self.pump()

    @rule(limit=st.integers(0, 4), model=MODELS)
    def resize(self, limit: int, model: str) -> None:
        change = SetLimit(limit, "scarce" if model == "scarce" else None)
        assert apply_change(self.dispatcher, change, "test", self.now) is None
        self.limits[model] = limit
        self.pump()

    @rule(permits=st.integers(0, 2))
    def reserve(self, permits: int) -> None:
        assert apply_change(self.dispatcher, SetReserve(permits), "test", self.now) is None
        self.reserved = permits
        self.pump()

    @rule(change=st.sampled_from([Pause(), Reopen(), DrainProvider(), Reopen()]))
    def steer(self, change: Pause | Reopen | DrainProvider) -> None:
        assert apply_change(self.dispatcher, change, "test", self.now) is None
        self.pump()

    @rule(gated=st.booleans())
    def change_gates(self, gated: bool) -> None:
        gates = GateSettings(requests_per_minute=PER_MINUTE if gated else None, margin_s=0.0)
        assert apply_change(self.dispatcher, SetGates(gates), "test", self.now) is None
        if gated and not self.gated:
            self.grants.clear()
        self.gated = gated
        self.pump()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(1000):
            wake = self.dispatcher.wake_at(self.now)
            if wake > end:
                break
            self.now = max(self.now, wake)
            self.pump()
        else:
            raise AssertionError("it asks to be pumped without end")
        self.now = end
        self.pump()

    @rule()
    def crash(self) -> None:
        """The owner dies: all that waited is answered by others, what runs goes on."""
        for job in self.waiting.values():
            self.end(job, "failed")
        self.waiting.clear()
        for job in self.running.values():
            self.end(job, "failed")
        for job in self.running.values():
            self.adopted_call[job.permit] = model_of(job)
        self.running.clear()
        self.probes.clear()
        self.wrong = 0
        self.incarnation += 1
        self.dispatcher = self.dispatcher_class(self.account, self.incarnation << 40)
        for permit, model in self.adopted_call.items():
            pool = self.dispatcher.pool_of(model)
            flow = pool.queue.flow(SessionId(""), DEFAULT_TENANT)
            adopted = ScheduledCall(flow, RequestKey(""), pool, 0.0, 0.0, 1.0, permit=permit)
            self.dispatcher.adopt(permit, adopted)

    @precondition(lambda self: self.adopted_call)
    @rule(data=st.data())
    def left_over_ends(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(sorted(self.adopted_call)))
        del self.adopted_call[permit]
        assert self.dispatcher.release(permit) is not None
        self.pump()

    # What must hold.

    @invariant()
    def all_parts_make_up_the_limit(self) -> None:
        for pool in self.dispatcher.pools:
            ledger = pool.ledger
            parts = ledger.free + ledger.in_flight + len(ledger.quarantined) + ledger.reserved
            assert parts == ledger.limit + ledger.over
            model = pool.model or "plain"
            assert ledger.limit == self.limits[model]
            assert ledger.in_flight + len(ledger.quarantined) + ledger.reserved == self.taken(model)

    @invariant()
    def nothing_is_found_by_the_broker_itself(self) -> None:
        assert list(invariant_violations(self.dispatcher, self.now, inf)) == []

    @invariant()
    def each_request_is_in_one_place(self) -> None:
        queued = {job.request.text for pool in self.dispatcher.pools for job in pool.queue}
        again = {job.request.text for job in self.dispatcher.retries}
        assert not queued & again
        assert queued | again == set(self.waiting)
        assert len(self.waiting) + len(self.running) + len(self.ended) == self.sent

    @invariant()
    def nobody_waits_who_could_run(self) -> None:
        """Work-conserving, told without asking the dispatcher whether it could grant."""
        recent = [at for at, _ in self.grants if at > self.now - 60.0]
        open_ = (
            self.account.mode is not Mode.PAUSED
            and not (self.gated and len(recent) >= PER_MINUTE)
            and self.account.hold.until <= self.now
            and not self.opened
        )
        for pool in self.dispatcher.pools:
            model = pool.model or "plain"
            free = self.taken(model) < self.limits[model]
            held = pool.hold.until > self.now
            assert not (open_ and free and not held and pool.queue), "idle while one waits"

    @invariant()
    def each_wrong_release_is_counted(self) -> None:
        assert sum(pool.ledger.anomalies for pool in self.dispatcher.pools) == self.wrong


def model_of(job: ScheduledCall) -> str:
    return str(job.pool.model or "plain")


class BrokenFromTheStart(CapacityMachine):
    """The same with a circuit that is open already."""

    def __init__(self) -> None:
        super().__init__()
        for _ in range(2):
            self.account.circuit.failed(0.0, is_probe=False)
            self.judge("before", False)
        self.dispatcher.guards.refresh(0.0)


CapacityMachine.TestCase.settings = settings(stateful_step_count=30)
TestCapacity = CapacityMachine.TestCase
BrokenFromTheStart.TestCase.settings = settings(stateful_step_count=30)
TestCapacityOfABrokenProvider = BrokenFromTheStart.TestCase


class DropsARelease(Dispatcher[ScheduledCall]):
    """Every third release is lost."""

    __slots__ = ("releases",)

    def release(self, permit: PermitId) -> ScheduledCall | None:
        self.releases = getattr(self, "releases", 0) + 1
        found = self.find(permit)
        return found if self.releases % 3 == 0 and found else super().release(permit)


class GrantsTwice(Dispatcher[ScheduledCall]):
    """The first of each pump is granted once more."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        for job in super().pump(now):
            yield job
            yield job


class ForgetsTheLimit(Dispatcher[ScheduledCall]):
    """Grants one more than it may."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        for pool in self.pools:
            pool.ledger.limit += 1
        yield from super().pump(now)
        for pool in self.pools:
            pool.ledger.limit -= 1


class ForgetsToWake(Dispatcher[ScheduledCall]):
    """What time alone would let in waits for the next message."""

    def wake_at(self, now: float) -> float:
        return inf

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        if int(now) % 2:
            return
        yield from super().pump(now)


class IgnoresTheHold(Dispatcher[ScheduledCall]):
    """Grants though the provider asked for a pause."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        self.account.hold.until = 0.0
        yield from super().pump(now)


class BeginsWhatExpired(Dispatcher[ScheduledCall]):
    """Grants to requests that nobody waits for any more."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        deadlines = {job: job.deadline for job in self.calls()}
        for job in deadlines:
            job.deadline = inf
        yield from super().pump(now)
        for job, deadline in deadlines.items():
            job.deadline = deadline


class ForgetsItsProbes(Dispatcher[ScheduledCall]):
    """Lets a second probe through before the first has ended."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        self.account.circuit.forget_probes()
        yield from super().pump(now)


class ForgetsTheQuarantine(Dispatcher[ScheduledCall]):
    """After a crash, takes for free what the provider is still busy with."""

    def __init__(self, account: Account, last_permit: int = 0) -> None:
        account.quarantined.clear()
        super().__init__(account, last_permit)


class AdoptsNothing(Dispatcher[ScheduledCall]):
    """After a crash, takes the permits of the calls that still run for free."""

    def adopt(self, permit: PermitId, job: ScheduledCall) -> None:
        pass


class ForgetsToCount(Dispatcher[ScheduledCall]):
    """A release of what is not held passes unnoticed."""

    def release(self, permit: PermitId) -> ScheduledCall | None:
        return super().release(permit) if self.find(permit) else None


class LosesARetry(Dispatcher[ScheduledCall]):
    """Says that a request will be tried again, and forgets it."""

    def failed(
        self,
        job: ScheduledCall,
        failure: UpstreamFailure,
        now: float,
        draw: float,
        *,
        may_retry: bool = True,
    ) -> bool:
        again = super().failed(job, failure, now, draw, may_retry=may_retry)
        if again:
            self.retries.remove(job.flow.session, job.request)
        return again


@pytest.mark.without_coverage
@pytest.mark.parametrize(
    "planted",
    [
        DropsARelease,
        GrantsTwice,
        ForgetsTheLimit,
        ForgetsToWake,
        IgnoresTheHold,
        BeginsWhatExpired,
        ForgetsItsProbes,
        ForgetsTheQuarantine,
        AdoptsNothing,
        ForgetsToCount,
        LosesARetry,
    ],
)
def test_a_planted_fault_is_caught(planted: type[Dispatcher[ScheduledCall]]) -> None:
    begins = BrokenFromTheStart if planted is ForgetsItsProbes else CapacityMachine
    machine = type("Planted", (begins,), {"dispatcher_class": planted})
    # Hypothesis raises what the machine raised, or a group when it found several faults.
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(
            machine,
            settings=settings(
                # Most are found within 300; the search stops at the first.
                max_examples=10_000,
                stateful_step_count=30,
                deadline=None,
                database=None,
                derandomize=True,
                print_blob=False,
                report_multiple_bugs=False,
                # Finding it is the point, not making it small.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
