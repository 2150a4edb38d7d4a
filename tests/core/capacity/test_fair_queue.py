"""Fair queueing by cost, over weighted tenants and their sessions: against a brute force."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from exai_actors.core.capacity import fair_queue
from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.core.capacity.flows import Flow
from exai_actors.core.capacity.virtual_time import StartTimeClock, VirtualTag
from exai_actors.ids import DEFAULT_TENANT, RequestKey, SessionId, TenantName

SESSIONS = [SessionId(name) for name in ("a", "b", "c")]
TENANTS = [TenantName(name) for name in ("x", "y")]
# Powers of two, so that no rounding breaks a tie differently.
WEIGHTS = {TENANTS[0]: 1.0, TENANTS[1]: 4.0}
COSTS = st.integers(1, 50).map(float)


@dataclass
class Sharer:
    """A tenant or a session of the brute force."""

    tag: float = 0.0
    since: int = 0
    unsettled: float = 0.0


@dataclass
class BruteForce:
    """Start-time fair queueing from scratch at each step: plain lists, no heaps, no caches."""

    clocks: dict[str, float] = field(default_factory=dict)
    sharers: dict[tuple[str, ...], Sharer] = field(default_factory=dict)
    waiting: list[tuple[TenantName, SessionId, str, float, int]] = field(default_factory=list)
    moves: int = 0

    def sharer(self, *name: str) -> Sharer:
        return self.sharers.setdefault(name, Sharer())

    def moved(self, sharer: Sharer) -> None:
        self.moves += 1
        sharer.since = self.moves

    def put(
        self, tenant: TenantName, session: SessionId, name: str, cost: float, priority: int
    ) -> None:
        if not any(each[0] == tenant for each in self.waiting):
            whole = self.sharer(tenant)
            whole.tag = max(whole.tag, self.clocks.get("", 0.0))
            self.moved(whole)
        if not any(each[:2] == (tenant, session) for each in self.waiting):
            own = self.sharer(tenant, session)
            own.tag = max(own.tag, self.clocks.get(tenant, 0.0))
            self.moved(own)
        self.waiting.append((tenant, session, name, cost, priority))

    def take(self) -> str:
        tenants = {each[0] for each in self.waiting}
        tenant = min(tenants, key=lambda each: (self.sharer(each).tag, self.sharer(each).since))
        sessions = {each[1] for each in self.waiting if each[0] == tenant}
        session = min(
            sessions,
            key=lambda each: (self.sharer(tenant, each).tag, self.sharer(tenant, each).since),
        )
        mine = [each for each in self.waiting if each[:2] == (tenant, session)]
        chosen = max(mine, key=lambda each: each[4])
        self.advance(tenant, session)
        self.serve(tenant, session, chosen[3])
        self.waiting.remove(chosen)
        return chosen[2]

    def advance(self, tenant: TenantName, session: SessionId) -> None:
        whole, own = self.sharer(tenant), self.sharer(tenant, session)
        settled = whole.tag - whole.unsettled / WEIGHTS[tenant]
        self.clocks[""] = max(self.clocks.get("", 0.0), settled)
        self.clocks[tenant] = max(self.clocks.get(tenant, 0.0), own.tag - own.unsettled)

    def serve(self, tenant: TenantName, session: SessionId, cost: float) -> None:
        self.charge(tenant, session, cost)
        self.sharer(tenant).unsettled += cost
        self.sharer(tenant, session).unsettled += cost

    def grant_without_waiting(self, tenant: TenantName, session: SessionId, cost: float) -> None:
        whole, own = self.sharer(tenant), self.sharer(tenant, session)
        whole.tag = max(whole.tag, self.clocks.get("", 0.0))
        own.tag = max(own.tag, self.clocks.get(tenant, 0.0))
        self.advance(tenant, session)
        self.serve(tenant, session, cost)

    def settle(
        self, tenant: TenantName, session: SessionId, estimated: float, actual: float
    ) -> None:
        self.sharer(tenant).unsettled -= estimated
        self.sharer(tenant, session).unsettled -= estimated
        if actual != estimated:
            self.charge(tenant, session, actual - estimated)

    def charge(self, tenant: TenantName, session: SessionId, more: float) -> None:
        own, whole = self.sharer(tenant, session), self.sharer(tenant)
        own.tag += more
        whole.tag += more / WEIGHTS[tenant]
        self.moved(own)
        self.moved(whole)


class AgainstBruteForce(RuleBasedStateMachine):
    """The queue takes the same requests as the brute force, in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[str] = FairQueue(1000, weights=WEIGHTS, max_wait_s=1e9)
        self.model = BruteForce()
        self.names = count()
        self.taken: list[tuple[TenantName, SessionId, float]] = []
        self.costs: dict[str, tuple[TenantName, SessionId, float]] = {}

    @rule(
        tenant=st.sampled_from(TENANTS),
        session=st.sampled_from(SESSIONS),
        cost=COSTS,
        priority=st.integers(-1, 1),
    )
    def put(self, tenant: TenantName, session: SessionId, cost: float, priority: int) -> None:
        # A session belongs to one tenant only.
        session = SessionId(f"{tenant}/{session}")
        name = str(next(self.names))
        flow = self.queue.flow(session, tenant)
        assert self.queue.put(flow, RequestKey(name), name, cost, 0.0, priority)
        self.model.put(tenant, session, name, cost, priority)
        self.costs[name] = (tenant, session, cost)

    @precondition(lambda self: self.model.waiting)
    @rule()
    def take(self) -> None:
        expected = self.model.take()
        assert self.queue.peek(0.0) == expected
        assert self.queue.take(0.0) == expected
        self.taken.append(self.costs[expected])

    @precondition(lambda self: not self.model.waiting)
    @rule(tenant=st.sampled_from(TENANTS), session=st.sampled_from(SESSIONS), cost=COSTS)
    def grant_without_waiting(self, tenant: TenantName, session: SessionId, cost: float) -> None:
        session = SessionId(f"{tenant}/{session}")
        self.queue.charge(self.queue.flow(session, tenant), cost)
        self.model.grant_without_waiting(tenant, session, cost)
        self.taken.append((tenant, session, cost))

    @precondition(lambda self: self.taken)
    @rule(tenant=st.sampled_from(TENANTS), session=st.sampled_from(SESSIONS), data=st.data())
    def transfer(self, tenant: TenantName, session: SessionId, data: st.DataObject) -> None:
        session = SessionId(f"{tenant}/{session}")
        former, owner, cost = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.queue.transfer(
            self.queue.flow(owner, former),
            self.queue.flow(session, tenant),
            cost,
            1 / WEIGHTS[former],
        )
        self.model.settle(former, owner, cost, 0.0)
        self.model.grant_without_waiting(tenant, session, cost)
        self.taken.append((tenant, session, cost))

    @precondition(lambda self: self.model.waiting)
    @rule()
    def predict(self) -> None:
        model, expected = deepcopy(self.model), []
        while model.waiting:
            expected.append(model.take())
        assert list(self.queue.in_service_order()) == expected

    @precondition(lambda self: self.taken)
    @rule(actual=COSTS, data=st.data())
    def settle(self, actual: float, data: st.DataObject) -> None:
        tenant, session, cost = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        flow = self.queue.flow(session, tenant)
        self.queue.settle(flow, cost, actual, flow.tenant.inverse_weight)
        self.model.settle(tenant, session, cost, actual)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.model.waiting))
        assert self.queue.remove(each[1], RequestKey(each[2])) == each[2]
        self.model.waiting.remove(each)

    @invariant()
    def the_same_wait(self) -> None:
        assert set(self.queue) == {each[2] for each in self.model.waiting}
        assert len(self.queue) == len(self.model.waiting)

    @invariant()
    def the_same_sums(self) -> None:
        for name, tenant in self.queue._tenants.items():
            costs = [each[3] for each in self.model.waiting if each[0] == name]
            assert (tenant.queued, tenant.queued_cost) == (len(costs), sum(costs))
            for session, flow in tenant.flows.items():
                own = [each[3] for each in self.model.waiting if each[:2] == (name, session)]
                assert (len(flow.waiting), flow.queued_cost) == (len(own), sum(own))


TestAgainstBruteForce = AgainstBruteForce.TestCase


class Open(FairQueue[str]):
    """A queue without slots, which a test can break."""


def assert_noticed(breaking: Callable[[Open], None]) -> None:
    """Run the machine on a broken queue; it has to fail."""

    class Machine(AgainstBruteForce):
        def __init__(self) -> None:
            super().__init__()
            self.queue = Open(1000, weights=WEIGHTS, max_wait_s=1e9)
            breaking(self.queue)

    with pytest.raises(AssertionError):
        # Shrinking would only take time.
        run_state_machine_as_test(Machine, settings=settings(phases=[Phase.generate]))


def settles_nothing(queue: Open) -> None:
    queue.settle = lambda *_: None  # type: ignore[method-assign]


def counts_requests(queue: Open) -> None:
    put = queue.put
    queue.put = (  # type: ignore[method-assign]
        lambda flow, request, value, cost, now, priority=0, *, ahead=False: put(
            flow, request, value, 1.0, now, priority, ahead=ahead
        )
    )


def charges_regardless_of_weight(queue: Open) -> None:
    def charge(flow: Flow, cost: float) -> None:
        flow.tenant.sessions.charge(flow, cost)
        queue._waiting.charge(flow.tenant, cost)

    queue.charge = charge  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "breaking", [settles_nothing, counts_requests, charges_regardless_of_weight]
)
def test_the_brute_force_notices_a_broken_queue(breaking: Callable[[Open], None]) -> None:
    assert_noticed(breaking)


def enter_with_credit(self: StartTimeClock[Flow], tag: Flow) -> None:
    self._waiting += 1
    self.reorder(tag)


def charge_without_advancing(self: StartTimeClock[Flow], tag: Flow, cost: float) -> None:
    tag.start = max(tag.start, self.virtual_time)
    self.serve(tag, cost)


@pytest.mark.parametrize(
    ("method", "broken"), [("enter", enter_with_credit), ("charge", charge_without_advancing)]
)
def test_the_brute_force_notices_credit_for_idleness(
    monkeypatch: pytest.MonkeyPatch, method: str, broken: Callable[..., None]
) -> None:
    monkeypatch.setattr(StartTimeClock, method, broken)
    assert_noticed(lambda _: None)


@given(
    costs=st.lists(COSTS, min_size=2, max_size=6),
    grants=st.integers(1, 300),
)
def test_two_backlogged_sessions_differ_by_at_most_their_largest_costs(
    costs: list[float], grants: int
) -> None:
    # Start-time fair queueing with one at a time: |W_f - W_g| <= c_f + c_g over any interval.
    queue: FairQueue[int] = FairQueue(100_000, max_wait_s=1e9)
    for index, cost in enumerate(costs):
        flow = queue.flow(SessionId(str(index)), DEFAULT_TENANT)
        for number in range(grants):
            queue.put(flow, RequestKey(str(number)), index, cost, 0.0)
    served: Counter[int] = Counter()
    for _ in range(grants):
        taken = queue.take(0.0)
        assert taken is not None
        served[taken] += 1
        for one, dear in enumerate(costs):
            for other, cheap in enumerate(costs):
                assert abs(served[one] * dear - served[other] * cheap) <= dear + cheap


def test_an_idle_session_earns_no_credit() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    busy = queue.flow(SessionId("busy"), DEFAULT_TENANT)
    for number in range(200):
        queue.put(busy, RequestKey(f"busy {number}"), "busy", 1.0, 0.0)
    for _ in range(100):
        queue.take(0.0)
        queue.settle(busy, 1.0, 1.0, 1.0)
    late = queue.flow(SessionId("late"), DEFAULT_TENANT)
    for number in range(50):
        queue.put(late, RequestKey(f"late {number}"), "late", 1.0, 0.0)
    turns = [queue.take(0.0) for _ in range(40)]
    assert turns.count("late") == turns.count("busy") == 20


def test_a_newcomer_does_not_wait_for_estimates_of_others_that_were_too_high() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    flows = {name: queue.flow(SessionId(name), DEFAULT_TENANT) for name in ("greedy", "small")}
    for number in range(100):
        queue.put(flows["greedy"], RequestKey(str(number)), "greedy", 500.0, 0.0)
    running = [queue.take(0.0) for _ in range(4)]
    for name in ("first", "second"):
        queue.put(flows["small"], RequestKey(name), "small", 500.0, 0.0)
    turns: list[str | None] = []
    for number in range(40):
        ended = running.pop(0)
        assert ended is not None
        queue.settle(flows[ended], 500.0, 3.0, 1.0)
        if ended == "small":
            queue.put(flows["small"], RequestKey(str(number)), "small", 500.0, 0.0)
        turns.append(queue.take(0.0))
        running.append(turns[-1])
    assert turns.count("small") == 20


def test_a_cost_above_its_estimate_is_paid_later() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    flows = {name: queue.flow(SessionId(name), DEFAULT_TENANT) for name in ("dear", "cheap")}
    for name, flow in flows.items():
        for number in range(100):
            queue.put(flow, RequestKey(str(number)), name, 1.0, 0.0)
    turns = []
    for _ in range(60):
        taken = queue.take(0.0)
        assert taken is not None
        turns.append(taken)
        if taken == "dear":
            queue.settle(flows["dear"], 1.0, 9.0, 1.0)
    assert turns.count("dear") == 6


def test_one_session_can_fill_only_its_own_part_of_the_queue() -> None:
    queue: FairQueue[str] = FairQueue(3, session_limit=2)
    one, other = (queue.flow(SessionId(name), DEFAULT_TENANT) for name in "ab")
    assert [queue.put(one, RequestKey(str(n)), "a", 1.0, 0.0) for n in range(3)] == [
        True,
        True,
        False,
    ]
    assert [queue.put(other, RequestKey(str(n)), "b", 1.0, 0.0) for n in range(2)] == [True, False]


def test_nothing_is_kept_of_a_forgotten_session() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for number in range(1000):
        session = SessionId(f"s{number}")
        flow = queue.flow(session, TenantName(f"t{number}"))
        queue.put(flow, RequestKey("r"), "x", 1.0, 0.0)
        queue.forget(session)
    assert (len(queue), len(queue._tenants), len(queue._last_grant)) == (0, 0, 0)
    assert len(queue._waiting._heap) <= 64


def test_calls_that_need_not_wait_are_charged_by_the_weight_of_their_tenant() -> None:
    queue: FairQueue[str] = FairQueue(1000, weights=WEIGHTS)
    flows = [queue.flow(SessionId(tenant), tenant) for tenant in TENANTS]
    for flow in flows:
        queue.charge(flow, 40.0)
    for number in range(20):
        for flow in flows:
            queue.put(flow, RequestKey(str(number)), flow.session, 10.0, 0.0)
    # The tenant of weight 4 has 10 behind it, the other 40: twelve grants of 2.5 until they meet.
    turns = [queue.take(0.0) for _ in range(12)]
    assert turns == [TENANTS[1]] * 12
    assert queue.take(0.0) == TENANTS[0]


def test_an_idle_session_earns_no_credit_while_no_call_waits() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    busy = queue.flow(SessionId("busy"), DEFAULT_TENANT)
    for _ in range(100):
        queue.charge(busy, 1.0)
        queue.settle(busy, 1.0, 1.0, 1.0)
    late = queue.flow(SessionId("late"), DEFAULT_TENANT)
    for number in range(50):
        queue.put(busy, RequestKey(str(number)), "busy", 1.0, 0.0)
        queue.put(late, RequestKey(str(number)), "late", 1.0, 0.0)
    turns = [queue.take(0.0) for _ in range(40)]
    assert turns.count("late") == turns.count("busy") == 20


def test_forgetting_a_session_returns_its_requests_and_leaves_others_alone() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for session in ("gone", "here"):
        flow = queue.flow(SessionId(session), DEFAULT_TENANT)
        for number in range(2):
            queue.put(flow, RequestKey(str(number)), f"{session} {number}", 1.0, 0.0)
    assert queue.forget(SessionId("gone")) == ["gone 0", "gone 1"]
    assert list(queue) == ["here 0", "here 1"]
    assert queue.forget(SessionId("never came")) == []
    assert [queue.take(0.0) for _ in range(3)] == ["here 0", "here 1", None]


def fastest_of_five(work: Callable[[], object]) -> float:
    """The CPU seconds of the fastest run."""
    seconds = []
    for _ in range(5):
        began = time.thread_time()
        work()
        seconds.append(time.thread_time() - began)
    return min(seconds)


def queue_of(sessions: int) -> FairQueue[SessionId]:
    queue: FairQueue[SessionId] = FairQueue(1_000_000)
    for number in range(sessions):
        session = SessionId(str(number))
        flow = queue.flow(session, DEFAULT_TENANT)
        queue.put(flow, RequestKey("first"), session, 1.0 + number % 7, 0.0)
    return queue


def test_the_service_order_takes_linear_time() -> None:
    few, many = queue_of(100), queue_of(10_000)
    few_s = fastest_of_five(lambda: list(few.in_service_order()))
    # Quadratic time would be ten thousand times as much.
    assert fastest_of_five(lambda: list(many.in_service_order())) <= 1000 * few_s


def test_a_turn_takes_constant_time() -> None:
    def turns(queue: FairQueue[SessionId]) -> float:
        names = count()

        def hundred_turns() -> None:
            for _ in range(100):
                session = queue.take(0.0)
                assert session is not None
                flow = queue.flow(session, DEFAULT_TENANT)
                queue.put(flow, RequestKey(str(next(names))), session, 1.0, 0.0)

        return fastest_of_five(hundred_turns)

    # Linear time would be a thousand times as much.
    assert turns(queue_of(10_000)) <= 30 * turns(queue_of(10))


def test_settling_one_call_leaves_the_estimates_of_others_in_flight_at_any_weight() -> None:
    queue: FairQueue[str] = FairQueue(10, weights={TenantName("heavy"): 4.0})
    heavy = queue.flow(SessionId("h"), TenantName("heavy"))
    light = queue.flow(SessionId("l"), TenantName("light"))
    queue.charge(heavy, 100.0)
    queue.charge(heavy, 100.0)
    queue.settle(heavy, 100.0, 100.0, heavy.tenant.inverse_weight)
    # Serving a third call moves the virtual time to what the others have really cost: 100 / 4.
    queue.charge(heavy, 4.0)
    queue.put(light, RequestKey("l"), "light", 4.0, 0.0)
    assert light.tenant.start == 25.0


def test_a_new_request_is_behind_those_of_its_tenant_that_are_served_earlier() -> None:
    queue: FairQueue[str] = FairQueue(1000, weights={}, max_wait_s=1e9)
    waiting, new = (queue.flow(SessionId(name), DEFAULT_TENANT) for name in ("a", "b"))
    for number in range(3):
        queue.put(waiting, RequestKey(str(number)), str(number), 10.0, 0.0)
    assert queue.rank(new) == 1, "its session has had nothing, so only the one before it"
    queue.put(new, RequestKey("new"), "new", 10.0, 0.0)
    assert queue.rank(new) == 3, "its own, and two of the other session"


def test_the_place_of_a_request_among_many_sessions_is_estimated_from_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue: FairQueue[int] = FairQueue(10_000, max_wait_s=1e9)
    for number in range(6_000):
        # Some sessions have one request, others five, and their costs differ.
        flow = queue.flow(SessionId(f"s{number % 1_999 // (1 + number % 5)}"), DEFAULT_TENANT)
        assert queue.put(flow, RequestKey(str(number)), number, 5.0 + number % 7, 0.0)
    some = [queue.flow(SessionId(f"s{number}"), DEFAULT_TENANT) for number in (3, 300, 900, 5000)]
    estimates = [queue.rank(flow) for flow in some]
    monkeypatch.setattr(fair_queue, "SAMPLED_SESSIONS", 10_000)
    for flow, estimate in zip(some, estimates, strict=True):
        assert estimate == pytest.approx(queue.rank(flow), rel=0.1)


def test_owners_keep_their_order_through_many_changes_of_their_turn() -> None:
    clock: StartTimeClock[VirtualTag] = StartTimeClock()
    tags = {name: VirtualTag() for name in "abc"}
    for tag in tags.values():
        clock.enter(tag)
    for turn in range(1, 301):
        tag = tags["cab"[turn % 3]]
        tag.start = float(turn)
        clock.reorder(tag)
    order = sorted(tags.values(), key=lambda tag: tag.start)
    for tag in order:
        assert clock.first() is tag
        clock.leave(tag)
    assert clock.first() is None
