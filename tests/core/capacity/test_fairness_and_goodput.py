"""Fairness with many permits and small weights, and goodput after an overload, in virtual time.

Each check fails for a dispatcher that breaks the promise.
"""

from __future__ import annotations

import heapq
from itertools import count
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import IfBusy
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.changes import Pause, Reopen
from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import RequestKey, SessionId
from tests.core.capacity.dispatching import Bench

COSTS = st.floats(1, 1000)


def worst_unfairness(
    limit: int, tenants: list[tuple[float, float, float]], seed: list[int], calls: int = 100
) -> float:
    """The largest difference between two backlogged tenants, as a fraction of the bound.

    Each has a weight, an estimated and a real cost. ``seed`` chooses which call ends next. The
    bound is |W_f/w_f - W_g/w_g| <= (L+1)(c_f/w_f + c_g/w_g).
    """
    weights = tuple((str(name), weight) for name, (weight, _, _) in enumerate(tenants))
    bench = Bench(CapacitySettings(limit=limit, weights=weights, queue=10_000, max_wait_s=1e9))
    apply_change(bench.dispatcher, Pause(), "until all wait", bench.now)
    for number in range(calls):
        for name, (_, estimate, _) in enumerate(tenants):
            bench.admit(f"{name} {number}", f"s{name}", tenant=str(name), tokens=estimate)
    apply_change(bench.dispatcher, Reopen(), "all wait", bench.now)
    bench.pump()
    served = [0.0] * len(tenants)
    for index in range(calls // 2):
        running = list(bench.running)
        ends = running[seed[index % len(seed)] % len(running)]
        tenant = int(ends.split()[0])
        bench.complete(ends, tokens=tenants[tenant][2])
        served[tenant] += tenants[tenant][2]
    worst = 0.0
    for f, (weight_f, estimate_f, cost_f) in enumerate(tenants):
        for g, (weight_g, estimate_g, cost_g) in enumerate(tenants):
            apart = abs(served[f] / weight_f - served[g] / weight_g)
            allowed = max(estimate_f, cost_f) / weight_f + max(estimate_g, cost_g) / weight_g
            worst = max(worst, apart / ((limit + 1) * allowed))
    return worst


@given(
    limit=st.integers(1, 8),
    tenants=st.lists(
        st.tuples(st.sampled_from([0.25, 1.0, 4.0]), COSTS, COSTS), min_size=2, max_size=4
    ),
    seed=st.lists(st.integers(0, 7), min_size=1, max_size=10),
)
def test_backlogged_tenants_stay_within_the_fairness_bound(
    limit: int, tenants: list[tuple[float, float, float]], seed: list[int]
) -> None:
    assert worst_unfairness(limit, tenants, seed) <= 1.0


def test_the_bound_is_exceeded_without_settlement(monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = [(1.0, 10.0, 500.0), (1.0, 10.0, 1.0)]
    assert worst_unfairness(1, tenants, [0]) <= 1.0
    monkeypatch.setattr(FairQueue, "settle", lambda *_: None)
    assert worst_unfairness(1, tenants, [0]) > 5.0


def longest_wait_s(weights: list[float], max_wait_s: float) -> float:
    """The longest time a tenant had no grant, with all tenants backlogged and calls of a second."""
    named = tuple((str(name), weight) for name, weight in enumerate(weights))
    bench = Bench(CapacitySettings(limit=1, weights=named, queue=100_000, max_wait_s=max_wait_s))
    latest = {str(name): 0.0 for name in range(len(weights))}
    longest = 0.0
    for number in range(200):
        for name in latest:
            bench.admit(f"{name} {number}", f"s{name}", tenant=name, if_busy=IfBusy.WAIT)
    for _ in range(200):
        bench.now += 1.0
        tenant = bench.granted[-1].split()[0]
        longest = max(longest, bench.now - latest[tenant])
        latest[tenant] = bench.now
        bench.complete(bench.granted[-1])
    return max(longest, *(bench.now - at for at in latest.values()))


@given(st.lists(st.sampled_from([0.001, 1.0, 1000.0]), min_size=2, max_size=6))
def test_no_weights_starve_a_tenant(weights: list[float]) -> None:
    # Every fifth grant is the guard's, and the other tenants may precede.
    assert longest_wait_s(weights, max_wait_s=20.0) <= 20.0 + 4 * len(weights) + 4


def test_a_tenant_starves_without_the_guard() -> None:
    assert longest_wait_s([0.001, 1000.0], max_wait_s=1e9) > 150


def goodput_after_overload(*, expires: bool, if_busy: IfBusy = IfBusy.WAIT_IN_TIME) -> float:
    """The part of half a load answered in time, from 10 s after a minute of three times the load.

    With four permits and calls of 0.2 s, 20 calls a second are a full load. Each has 5 s.
    """
    bench = Bench(limit=4, queue=10_000)
    names = count()
    events: list[tuple[float, int, str, ScheduledCall | None]] = []
    answered: dict[str, float] = {}
    seen = 0

    def note_started() -> None:
        nonlocal seen
        for name in bench.granted[seen:]:
            heapq.heappush(events, (bench.now + 0.2, next(names), name, None))
        seen = len(bench.granted)

    arrivals = [number / 60 for number in range(60 * 60)]
    arrivals += [60 + number / 10 for number in range(10 * 20)]
    for number, at in enumerate(arrivals):
        heapq.heappush(events, (at, next(names), f"arrives {number}", None))
    due = {}
    while events:
        bench.now, _, what, expired = heapq.heappop(events)
        if expired is not None:
            bench.dispatcher.withdraw(expired.flow.session, expired.request)
        elif what.startswith("arrives"):
            name, deadline = what[8:], bench.now + 5.0
            session = f"s{int(name) % 30}"
            due[name] = deadline
            bench.admit(name, session, deadline=deadline if expires else inf, if_busy=if_busy)
            call = bench.dispatcher.find_queued(SessionId(session), RequestKey(name))
            if call is not None and expires:
                heapq.heappush(events, (deadline, next(names), "", call))
        else:
            answered[what] = bench.now
            bench.complete(what)
        note_started()
    late = [str(number) for number, at in enumerate(arrivals) if at >= 70.0]
    return sum(answered.get(name, 1e9) <= due[name] for name in late) / len(late)


def test_goodput_recovers_within_ten_seconds_of_an_overload() -> None:
    assert goodput_after_overload(expires=True) >= 0.95


def test_goodput_recovers_though_every_call_waits_and_expires_in_the_queue() -> None:
    assert goodput_after_overload(expires=True, if_busy=IfBusy.WAIT) >= 0.95


def test_goodput_does_not_recover_if_expired_calls_are_served() -> None:
    assert goodput_after_overload(expires=False, if_busy=IfBusy.WAIT) < 0.5
