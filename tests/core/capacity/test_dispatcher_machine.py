"""The invariants of a provider's capacity after every message, against a plain model.

Each of them catches a fault planted in the dispatcher.
"""

from __future__ import annotations

import sys
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
    Arrangement,
    DrainProvider,
    Pause,
    Reopen,
    SetGates,
    SetLimit,
    SetReserve,
)
from exai_actors.core.capacity.dispatcher import Admission, Dispatcher
from exai_actors.core.capacity.invariants import invariant_violations
from exai_actors.core.capacity.refusals import Refusal, RefusalCause
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.core.capacity.settlement import Settlement
from exai_actors.ids import DEFAULT_TENANT, PermitId, RequestKey, SessionId, TenantName
from tests.core.capacity.dispatching import left_in

SESSIONS = st.sampled_from(["a", "b", "c"])
MODELS = st.sampled_from(["plain", "scarce"])
PER_MINUTE = 6
MAX_REST_S = 20.0
FAULTS = {
    FailureKind.CONNECT,
    FailureKind.SERVER_ERROR,
    FailureKind.TIMEOUT,
    FailureKind.TRUNCATED,
    FailureKind.BROKEN,
}
"""The kinds that say that the service itself does not work."""


class CapacityMachine(RuleBasedStateMachine):
    """``running``, ``waiting`` and ``ended`` are the model's view of each request."""

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
        self.adopted: dict[PermitId, str] = {}
        self.aside: dict[PermitId, tuple[str, float]] = {}
        self.waiting: dict[str, ScheduledCall] = {}
        self.held: set[str] = set()
        self.first: str | None = None
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

    # The owner of the dispatcher.

    def taken(self, model: str) -> int:
        held = sum(1 for call in self.running.values() if model_of(call) == model)
        left = sum(1 for each in self.adopted.values() if each == model)
        aside = sum(1 for each, _ in self.aside.values() if each == model)
        return held + left + aside + (self.reserved if model == "plain" else 0)

    def started(self, call: ScheduledCall) -> None:
        name = call.request.text
        assert name not in self.running, "granted twice"
        assert name not in self.held, "granted though an operator holds it"
        first = self.waiting.get(self.first or "")
        self.first = None if self.first == name else self.first
        assert first in (None, call) or first.pool is not call.pool, "overtook the first"
        assert name not in self.ended, "granted after its end"
        assert self.now < self.deadlines[name], "granted after its deadline"
        assert self.taken(model_of(call)) < self.limits[model_of(call)], "granted above the limit"
        assert self.now >= self.not_before, "granted before the hold ends"
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
        self.running[name] = call

    def pump(self) -> None:
        self.aside = {
            permit: (model, until)
            for permit, (model, until) in self.aside.items()
            if until > self.now
        }
        for call in self.dispatcher.pump(self.now):
            self.started(call)
        for call in self.dispatcher.expired:
            assert self.deadlines[call.request.text] <= self.now, "expired too early"
            del self.waiting[call.request.text]
            self.end(call, "expired")
        self.dispatcher.expired.clear()

    def end(self, call: ScheduledCall, how: str) -> None:
        name = call.request.text
        assert name not in self.ended, "ended twice"
        self.ended[name] = how

    def judge(self, name: str, well: bool | None) -> None:
        """Note the end of a call for the circuit; ``well`` is None if it says nothing."""
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
        call = self.running.pop(name)
        assert self.dispatcher.release(call.permit) is call
        return call

    # The rules.

    @rule(
        session=SESSIONS,
        model=MODELS,
        tenant=st.sampled_from([DEFAULT_TENANT, TenantName("t")]),
        tokens=st.floats(1, 1000),
        patience=st.sampled_from([5.0, 50.0, inf]),
        if_busy=st.sampled_from(IfBusy),
        priority=st.integers(-1, 1),
    )
    def admit(
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
        call = ScheduledCall(
            flow=pool.queue.flow(SessionId(session), tenant),
            request=RequestKey(f"r{self.sent}"),
            pool=pool,
            prompt_tokens=tokens,
            completion_tokens=0.0,
            cost=tokens,
            deadline=self.now + patience,
            if_busy=if_busy,
            priority=priority,
        )
        self.deadlines[f"r{self.sent}"] = call.deadline
        self.pump()
        admission = self.dispatcher.admit(call, self.now)
        if admission == "granted":
            assert not any(
                model_of(each) == model
                for name, each in self.waiting.items()
                if name not in self.held
                and each.request in {queued.request for queued in pool.queue}
            ), "overtook"
            self.started(call)
        elif isinstance(admission, Refusal):
            assert admission.retry_after > 0
            assert admission.position >= 1 or self.account.mode is Mode.DRAINING
            self.end(call, "refused")
        else:
            assert if_busy is not IfBusy.REFUSE
            self.waiting[call.request.text] = call
        for displaced, refusal in self.dispatcher.displaced:
            assert admission == "queued"
            assert displaced is not call
            assert refusal.cause is RefusalCause.DISPLACED
            del self.waiting[displaced.request.text]
            self.end(displaced, "refused")
        self.dispatcher.displaced.clear()
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.floats(1, 1000))
    def complete(self, data: st.DataObject, tokens: float) -> None:
        call = self.released(data)
        self.dispatcher.settlement.completed(
            call, tokens, tokens, self.now, self.now - call.granted_at
        )
        self.judge(call.request.text, True)
        self.end(call, "completed")
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
        call = self.released(data)
        failure = UpstreamFailure(kind, "no", retry_after=retry_after)
        retried = self.dispatcher.settlement.failed(call, failure, self.now, draw)
        self.judge(call.request.text, False if kind in FAULTS else None)
        if kind is FailureKind.CONNECT:
            # It never reached the service, which cannot have counted it. The model keeps no grant
            # from before the gates were last set.
            grant = (call.granted_at, call.request.text)
            self.grants = [each for each in self.grants if each != grant]
        if kind in (FailureKind.RATE_LIMITED, FailureKind.OVERLOADED) and retry_after is not None:
            self.not_before = max(self.not_before, self.now + retry_after)
        if retried:
            assert call.attempts < 3
            self.waiting[call.request.text] = call
        else:
            self.end(call, "failed")
        for refused, _ in self.dispatcher.refuse_unservable(self.now):
            del self.waiting[refused.request.text]
            self.end(refused, "refused")
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), rest_s=st.sampled_from([0.0, 3.0, MAX_REST_S]))
    def abort(self, data: st.DataObject, rest_s: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        call = self.running.pop(name)
        if rest_s:
            assert self.dispatcher.quarantine(call.permit, self.now + rest_s) is call
            self.aside[call.permit] = (model_of(call), self.now + rest_s)
        else:
            assert self.dispatcher.release(call.permit) is call
        self.dispatcher.settlement.aborted(call, 1.0, self.now)
        self.judge(name, None)
        self.end(call, "cancelled")
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        call = self.waiting.pop(name)
        assert self.dispatcher.withdraw(call.flow.session, call.request) is call
        self.end(call, "cancelled")
        self.pump()

    @precondition(lambda self: self.running or self.waiting)
    @rule(session=SESSIONS, data=st.data())
    def transfer(self, session: str, data: st.DataObject) -> None:
        """Another request that shares the call takes it over."""
        calls = self.running | self.waiting
        call = calls[data.draw(st.sampled_from(sorted(calls)))]
        flow = call.pool.queue.flow(SessionId(session), DEFAULT_TENANT)
        self.dispatcher.transfer(call, flow, call.request, self.now)
        assert call.flow is flow
        self.first = None if self.first == call.request.text else self.first
        self.pump()

    @rule(session=SESSIONS)
    def down(self, session: str) -> None:
        for call in self.dispatcher.forget(SessionId(session)):
            assert call.flow.session == session
            del self.waiting[call.request.text]
            self.end(call, "cancelled")
        assert all(call.flow.session != session for call in self.waiting.values())
        self.pump()

    @rule(number=st.integers(1, 3))
    def release_an_unknown_permit(self, number: int) -> None:
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
        if isinstance(change, Reopen):
            # The operator's word ends holds as well.
            self.not_before = 0.0
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
            raise AssertionError("it asks for pumps without end")
        self.now = end
        self.pump()

    @rule()
    def crash(self) -> None:
        """The owner fails: the sessions end its requests, the running calls continue."""
        for call in self.waiting.values():
            self.end(call, "failed")
        self.waiting.clear()
        for call in self.running.values():
            self.end(call, "failed")
        for call in self.running.values():
            self.adopted[call.permit] = model_of(call)
        self.running.clear()
        self.probes.clear()
        self.wrong = 0
        self.incarnation += 1
        self.dispatcher = self.dispatcher_class(self.account, self.incarnation << 40)
        for permit, model in self.adopted.items():
            pool = self.dispatcher.pool_of(model)
            flow = pool.queue.flow(SessionId(""), DEFAULT_TENANT)
            adopted = ScheduledCall(
                flow=flow,
                request=RequestKey(""),
                pool=pool,
                prompt_tokens=0.0,
                completion_tokens=0.0,
                cost=1.0,
                permit=permit,
            )
            self.dispatcher.adopt(permit, adopted)

    @precondition(lambda self: self.adopted)
    @rule(data=st.data())
    def adopted_ends(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(sorted(self.adopted)))
        del self.adopted[permit]
        assert self.dispatcher.release(permit) is not None
        self.pump()

    # The invariants.

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
    def the_broker_finds_no_violation(self) -> None:
        assert list(invariant_violations(self.dispatcher, self.now, inf)) == []

    @invariant()
    def each_request_is_in_one_place(self) -> None:
        queued = {call.request.text for pool in self.dispatcher.pools for call in pool.queue}
        retries = {call.request.text for call in self.dispatcher.retries}
        assert not queued & retries
        assert queued | retries == set(self.waiting)
        assert len(self.waiting) + len(self.running) + len(self.ended) == self.sent

    @invariant()
    def no_call_waits_that_could_run(self) -> None:
        """Work-conserving, without asking the dispatcher whether it could grant."""
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
            could_run = any(call.request.text not in self.held for call in pool.queue)
            assert not (open_ and free and not held and could_run), "idle while one waits"

    def teardown(self) -> None:
        """End all calls: nothing may be left of them anywhere."""
        if sys.exc_info()[0] is not None:
            return
        for name in tuple(self.waiting):
            call = self.waiting.pop(name)
            assert self.dispatcher.withdraw(call.flow.session, call.request) is call
        for call in self.running.values():
            assert self.dispatcher.release(call.permit) is call
            self.dispatcher.settlement.completed(call, 1.0, 1.0, self.now, 1.0)
        for permit in self.adopted:
            assert self.dispatcher.release(permit) is not None
        self.now += MAX_REST_S
        assert list(self.dispatcher.pump(self.now)) == []
        assert left_in(self.dispatcher) == []

    @invariant()
    def each_wrong_release_is_counted(self) -> None:
        assert sum(pool.ledger.anomalies for pool in self.dispatcher.pools) == self.wrong


def model_of(call: ScheduledCall) -> str:
    return str(call.pool.model or "plain")


class OperatedMachine(CapacityMachine):
    """With an operator; apart from the other, whose search for planted faults it would dilute."""

    @precondition(lambda self: self.waiting)
    @rule(how=st.sampled_from(["front", "hold", "release"]), data=st.data())
    def arrange(self, how: Arrangement, data: st.DataObject) -> None:
        """An operator moves, holds or releases a request."""
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        call = self.waiting[name]
        is_queued = name in {each.request.text for each in call.pool.queue}
        done = self.dispatcher.arrange(call.flow.session, call.request, how, self.now)
        assert done == is_queued
        if done and how == "hold":
            self.held.add(name)
            self.first = None if self.first == name else self.first
        elif done:
            self.held.discard(name)
        if done and how == "front" and self.waiting.get(self.first or "") is None:
            self.first = name
        self.pump()


class BrokenFromTheStart(CapacityMachine):
    """Starts with an open circuit."""

    def __init__(self) -> None:
        super().__init__()
        for _ in range(2):
            self.account.circuit.failed(0.0, is_probe=False)
            self.judge("before", False)
        self.dispatcher.guards.refresh(0.0)


OperatedMachine.TestCase.settings = settings(stateful_step_count=30)
TestCapacity = OperatedMachine.TestCase
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
    """Grants the first call of each pump twice."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        for call in super().pump(now):
            yield call
            yield call


class ForgetsTheLimit(Dispatcher[ScheduledCall]):
    """Grants one more than it may."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        for pool in self.pools:
            pool.ledger.limit += 1
        yield from super().pump(now)
        for pool in self.pools:
            pool.ledger.limit -= 1


class ForgetsToWake(Dispatcher[ScheduledCall]):
    """Calls that time alone makes grantable wait for the next message."""

    def wake_at(self, now: float) -> float:
        return inf

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        if int(now) % 2:
            return
        yield from super().pump(now)


class IgnoresTheHold(Dispatcher[ScheduledCall]):
    """Grants during a hold."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        self.account.hold.until = 0.0
        yield from super().pump(now)


class StartsExpiredCalls(Dispatcher[ScheduledCall]):
    """Grants calls past their deadlines."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        deadlines = {call: call.deadline for call in self.calls()}
        for call in deadlines:
            call.deadline = inf
        yield from super().pump(now)
        for call, deadline in deadlines.items():
            call.deadline = deadline


class ForgetsItsProbes(Dispatcher[ScheduledCall]):
    """Lets a second probe through before the first has ended."""

    def pump(self, now: float) -> Iterator[ScheduledCall]:
        self.account.circuit.forget_probes()
        yield from super().pump(now)


class ForgetsTheQuarantine(Dispatcher[ScheduledCall]):
    """After a crash, reuses permits that rest."""

    def __init__(self, account: Account, last_permit: int = 0) -> None:
        account.quarantined.clear()
        super().__init__(account, last_permit)


class AdoptsNothing(Dispatcher[ScheduledCall]):
    """After a crash, reuses the permits of calls that still run."""

    def adopt(self, permit: PermitId, call: ScheduledCall) -> None:
        pass


class ForgetsToCount(Dispatcher[ScheduledCall]):
    """Does not count the release of an unknown permit."""

    def release(self, permit: PermitId) -> ScheduledCall | None:
        return super().release(permit) if self.find(permit) else None


class LosingSettlement(Settlement[ScheduledCall]):
    """Says that a request will be retried, and forgets it."""

    __slots__ = ()

    def failed(
        self,
        call: ScheduledCall,
        failure: UpstreamFailure,
        now: float,
        draw: float,
        *,
        may_retry: bool = True,
    ) -> bool:
        retried = super().failed(call, failure, now, draw, may_retry=may_retry)
        if retried:
            self._retries.remove(call.flow.session, call.request)
        return retried


class LosesARetry(Dispatcher[ScheduledCall]):
    def __init__(self, account: Account, last_permit: int = 0) -> None:
        super().__init__(account, last_permit)
        self.settlement.__class__ = LosingSettlement


class ForgetsTheDisplaced(Dispatcher[ScheduledCall]):
    """Takes a call out of the queue without saying so."""

    def admit(self, call: ScheduledCall, now: float) -> Admission | Refusal:
        admission = super().admit(call, now)
        self.displaced.clear()
        return admission


@pytest.mark.without_coverage
# A search of thousands of examples, which a busy machine slows down.
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "planted",
    [
        DropsARelease,
        GrantsTwice,
        ForgetsTheLimit,
        ForgetsToWake,
        IgnoresTheHold,
        StartsExpiredCalls,
        ForgetsItsProbes,
        ForgetsTheQuarantine,
        AdoptsNothing,
        ForgetsToCount,
        LosesARetry,
        ForgetsTheDisplaced,
    ],
)
def test_a_planted_fault_is_caught(planted: type[Dispatcher[ScheduledCall]]) -> None:
    begins = BrokenFromTheStart if planted is ForgetsItsProbes else CapacityMachine
    machine = type("Planted", (begins,), {"dispatcher_class": planted})
    # Hypothesis raises the machine's own error, or a group when it found several.
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(
            machine,
            settings=settings(
                # Most are found within 300; the search stops at the first.
                max_examples=10_000,
                stateful_step_count=100,
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
