"""Who gives way in a full queue: the last of the longest session of the longest tenant."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import FailureKind, LimitHolder
from exai_actors.core.capacity.refusals import Refusal, RefusalCause
from exai_actors.core.capacity.settings import GateSettings, RetrySettings
from tests.core.capacity.dispatching import Bench

QUEUE = 6


def bench_of(queue: int = QUEUE, **more: Any) -> Bench:
    """A dispatcher whose only permit is taken."""
    bench = Bench(queue=queue, **more)
    bench.admit("runs", "another", tenant="another")
    return bench


def displaced(bench: Bench) -> list[str]:
    """The calls that gave way since the last look."""
    for _, refusal in bench.dispatcher.displaced:
        assert refusal.cause is RefusalCause.DISPLACED
        assert refusal.retry_after > 0
    names = [call.request.text for call, _ in bench.dispatcher.displaced]
    bench.dispatcher.displaced.clear()
    return names


def fill(bench: Bench, *sessions: str, tenant: str, name: str = "", **more: Any) -> None:
    """Fill the queue with one request of each session in turn."""
    names: list[str] = []
    while bench.dispatcher.queued < bench.settings.queue:
        session = sessions[len(names) % len(sessions)]
        names.append(f"{tenant}/{session}/{name}{len(names)}")
        assert bench.admit(names[-1], session, tenant=tenant, **more) == "queued"


@pytest.mark.parametrize("weight", [1.0, 0.001, 1000.0])
def test_a_tenant_with_one_call_at_a_time_is_never_refused(weight: float) -> None:
    bench = bench_of(weights=(("greedy", weight),))
    fill(bench, "g0", "g1", "g2", tenant="greedy")
    for number in range(50):
        small = f"small {number}"
        assert bench.admit(small, "s", tenant="small") == "queued"
        assert len(displaced(bench)) == 1
        # The greedy tenant asks again for its place, with each of its sessions.
        for session in ("g0", "g1", "g2"):
            bench.admit(f"{session} again {number}", session, tenant="greedy")
        assert small not in displaced(bench)
        while small not in bench.running:
            bench.complete(next(iter(bench.running)))
        fill(bench, "g0", "g1", "g2", tenant="greedy", name=f"{number}")
    assert bench.dispatcher.queued == QUEUE


def test_the_last_request_of_the_longest_session_gives_way() -> None:
    bench = bench_of()
    for number, session in enumerate(("long", "short", "long", "long", "short", "single")):
        bench.admit(f"{session} {number}", session)
    assert bench.admit("newcomer", "new") == "queued"
    assert displaced(bench) == ["long 3"]


def test_the_lowest_priority_gives_way_first() -> None:
    bench = bench_of()
    for number, priority in enumerate((0, -1, 2, 0, 1, 2)):
        bench.admit(f"p{priority} {number}", "greedy", priority=priority)
    assert bench.admit("one", "new") == "queued"
    assert bench.admit("two", "newer") == "queued"
    assert displaced(bench) == ["p-1 1", "p0 3"]


def test_a_session_does_not_displace_itself_nor_one_that_has_no_more() -> None:
    bench = bench_of()
    fill(bench, "a", "b", tenant="t")
    for session in ("a", "b"):
        refused = bench.admit(f"late {session}", session, tenant="t")
        assert isinstance(refused, Refusal)
        assert refused.cause is RefusalCause.FULL
    assert displaced(bench) == []


def test_a_full_queue_of_single_requests_refuses_the_newcomer() -> None:
    bench = bench_of()
    fill(bench, *"abcdef", tenant="t")
    refused = bench.admit("late", "g", tenant="t")
    assert isinstance(refused, Refusal)
    assert refused.cause is RefusalCause.FULL
    assert displaced(bench) == []


def test_tenants_share_a_full_queue_by_their_weights() -> None:
    bench = bench_of(30, weights=(("heavy", 2.0),))
    names = Counter({"heavy": 0, "light": 0})
    for number in range(200):
        for tenant in names:
            bench.admit(f"{tenant} {number}", f"{tenant} {number % 3}", tenant=tenant)
    (queue,) = [pool.queue for pool in bench.dispatcher.pools]
    names.update(call.flow.tenant.name for call in queue)
    assert names["heavy"] + names["light"] == 30
    assert abs(names["heavy"] - 2 * names["light"]) <= 2


def test_calls_of_a_held_model_give_way_too() -> None:
    bench = bench_of(4, retry=RetrySettings(attempts=1))
    bench.fail("runs", FailureKind.RATE_LIMITED, retry_after=3600.0, holder=LimitHolder.MODEL)
    fill(bench, "greedy", tenant="greedy", model="m")
    assert bench.admit("small", "s", tenant="small", model="other") == "granted"
    for number in range(2):
        admitted = bench.admit(f"waits {number}", f"s{number}", tenant="small", model="m")
        assert admitted == "queued"
    assert displaced(bench) == ["greedy/greedy/3", "greedy/greedy/2"]
    assert bench.dispatcher.queued == 4


def test_a_retry_gives_way_last() -> None:
    bench = bench_of(2, retry=RetrySettings(reserve=100, base_s=1.0))
    bench.complete("runs")
    bench.admit("retried", "greedy")
    bench.admit("second", "greedy")
    bench.admit("third", "greedy")
    bench.fail("retried")
    bench.admit("fourth", "greedy")
    bench.pass_time(5.0)
    assert bench.dispatcher.queued == 3
    assert bench.admit("small", "small") == "queued"
    assert displaced(bench) == ["fourth", "third"]
    assert bench.dispatcher.queued == 2


def test_a_queue_without_places_has_none_to_give() -> None:
    bench = bench_of(0)
    assert isinstance(bench.admit("one", "a"), Refusal)
    assert displaced(bench) == []


def test_a_call_that_gives_way_before_a_gate_lets_smaller_ones_pass() -> None:
    bench = Bench(limit=10, queue=2, gates=GateSettings(tokens_per_minute=100, margin_s=0.0))
    bench.admit("first", "a", tokens=60.0)
    bench.admit("large 1", "greedy", tokens=90.0)
    bench.admit("large 2", "greedy", tokens=90.0)
    assert bench.admit("small", "small", tokens=10.0) == "queued"
    assert displaced(bench) == ["large 2"]


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc")), max_size=60),
    st.integers(1, 8),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_places_follow_the_shares(
    requests: list[tuple[str, str]], places: int, weight: float
) -> None:
    """Beside plain counts: who gives way has more than the newcomer, before and after."""
    weights = {"x": weight, "y": 1.0, "z": 1.0}
    bench = bench_of(places, weights=tuple(weights.items()))
    waiting: list[tuple[str, str, str]] = []
    for number, (tenant, session) in enumerate(requests):
        name = f"r{number}"
        admission = bench.admit(name, tenant + session, tenant=tenant)
        tenants = Counter(each[0] for each in waiting)
        sessions = Counter(each[:2] for each in waiting)
        others = [(tenants[each] - 1) / weights[each] for each in tenants if each != tenant]
        if len(waiting) < places:
            assert admission == "queued"
            assert displaced(bench) == []
        elif max(others, default=-1.0) > tenants[tenant] / weights[tenant] or (
            max((sessions[each] for each in sessions if each[0] == tenant), default=0) - 1
            > sessions[tenant, session]
        ):
            assert admission == "queued"
            (gone,) = displaced(bench)
            (victim,) = [each for each in waiting if each[2] == gone]
            if victim[0] != tenant:
                assert (tenants[victim[0]] - 1) / weights[victim[0]] == max(others)
            longest = max(sessions[each] for each in sessions if each[0] == victim[0])
            assert sessions[victim[:2]] == longest
            assert victim == [each for each in waiting if each[:2] == victim[:2]][-1]
            waiting.remove(victim)
        else:
            assert isinstance(admission, Refusal)
            continue
        waiting.append((tenant, session, name))
    (queue,) = [pool.queue for pool in bench.dispatcher.pools]
    assert {call.request.text for call in queue} == {each[2] for each in waiting}
    assert list(queue.violations()) == []
