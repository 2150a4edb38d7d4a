"""Predicted starts: the order of service with the newcomers that sessions are used to send."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.capacity.expected_order import expected_order
from exai_actors.core.capacity.fair_queue import RATE_EVERY_S, FairQueue
from exai_actors.ids import RequestKey, SessionId, TenantName

Queue = FairQueue[str]


def queue_of(*requests: tuple[str, str, float]) -> Queue:
    """A queue with requests of tenant, session and cost, which are named by their order."""
    queue: Queue = FairQueue(1000)
    for number, (tenant, session, cost) in enumerate(requests):
        put(queue, tenant, session, str(number), cost)
    return queue


def put(queue: Queue, tenant: str, session: str, name: str, cost: float = 1.0) -> None:
    flow = queue.flow(SessionId(session), TenantName(tenant))
    assert queue.put(flow, RequestKey(name), name, cost, 0.0)


def seconds(each_s: float = 1.0) -> Iterator[float]:
    return (turn * each_s for turn in count(1))


def starts(queue: Queue) -> dict[str, float | None]:
    return {name: instant for instant, name in expected_order(queue, seconds(), 0.0)}


def get_used_to(queue: Queue, session: str, *, requests: int, tenant: str = "t") -> None:
    """Let a session send so many requests a minute for a quarter of an hour, and take them."""
    flow = queue.flow(SessionId(session), TenantName(tenant))
    queue.estimate_rates(0.0)
    for minute in range(1, 15):
        for _ in range(requests):
            queue.charge(flow, 0.001)
        queue.estimate_rates(minute * 60.0)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from([0.5, 1.0, 3.0])),
        max_size=30,
    )
)
def test_without_newcomers_it_is_the_order_of_service(
    requests: list[tuple[str, str, float]],
) -> None:
    queue = queue_of(*requests)
    found = list(expected_order(queue, seconds(), 0.0))
    assert [name for _, name in found] == list(queue.in_service_order())
    assert [instant for instant, _ in found] == [float(turn + 1) for turn in range(len(found))]


def test_newcomers_of_another_session_delay_a_request_deep_in_its_own() -> None:
    queue = queue_of(*[("t", "deep", 1.0)] * 20)
    before = starts(queue)
    get_used_to(queue, "busy", requests=30)
    after = starts(queue)
    assert before["19"] == 20.0
    assert after["19"] == pytest.approx(40.0, abs=3.0), "every second turn is a newcomer's"
    assert after["0"] == pytest.approx(1.0, abs=1.0)


def test_newcomers_of_a_tenant_without_requests_delay_those_of_another() -> None:
    queue = queue_of(*[("t", "deep", 1.0)] * 20)
    get_used_to(queue, "busy", requests=30, tenant="another")
    after = starts(queue)
    assert after["19"] == pytest.approx(40.0, abs=3.0), "every second turn is a newcomer's"


def test_newcomers_of_the_same_session_delay_nothing() -> None:
    queue = queue_of(*[("t", "deep", 1.0)] * 20)
    get_used_to(queue, "deep", requests=30)
    assert starts(queue)["19"] == 20.0


def test_a_session_that_has_stopped_to_send_counts_less_and_less() -> None:
    queue = queue_of(*[("t", "deep", 1.0)] * 20)
    get_used_to(queue, "busy", requests=30)
    queue.estimate_rates(14 * 60.0 + 3600.0)
    assert starts(queue)["19"] == 20.0


def test_no_instant_is_known_without_a_service_time() -> None:
    queue = queue_of(("t", "a", 1.0), ("t", "b", 1.0))
    get_used_to(queue, "busy", requests=30)
    unknown: Iterator[float | None] = (None for _ in count())
    assert [instant for instant, _ in expected_order(queue, unknown, 0.0)] == [None, None]


def test_rates_are_estimated_now_and_then_only() -> None:
    queue = queue_of(("t", "a", 1.0))
    flow = queue.flow(SessionId("a"), TenantName("t"))
    queue.estimate_rates(0.0)
    queue.charge(flow, 1.0)
    queue.estimate_rates(RATE_EVERY_S / 2)
    assert flow.rate == 0.0
    queue.estimate_rates(RATE_EVERY_S)
    assert flow.rate == pytest.approx(1 / RATE_EVERY_S)


@pytest.mark.parametrize("read", [0, 1, 5, 12])
def test_requests_that_leave_while_it_is_read_are_left_out(read: int) -> None:
    queue = queue_of(*[("t", session, 1.0) for session in "abcd" for _ in range(5)])
    get_used_to(queue, "busy", requests=10)
    order, expected = queue.in_service_order(), expected_order(queue, seconds(), 0.0)
    before = [next(order) for _ in range(read)]
    assert [next(expected)[1] for _ in range(read)] == before
    for number in range(20):
        for session in "cd":
            queue.remove(SessionId(session), RequestKey(str(number)))
    after = list(order)
    assert [name for _, name in expected] == after
    assert set(before + after) >= {str(number) for number in range(10)}


def test_requests_that_come_while_it_is_read_do_no_harm() -> None:
    queue = queue_of(*[("t", session, 1.0) for session in "abcd" for _ in range(5)])
    get_used_to(queue, "busy", requests=10)
    order, expected = queue.in_service_order(), expected_order(queue, seconds(), 0.0)
    names = {next(order)} | {next(expected)[1]}
    for number in range(20, 60):
        put(queue, "t", "abcd"[number % 4], str(number))
    names |= set(order) | {name for _, name in expected}
    assert names >= {str(number) for number in range(20)}


@pytest.mark.parametrize("requests", [30, 60, 120])
def test_more_newcomers_than_turns_delay_no_more_than_their_share(requests: int) -> None:
    queue = queue_of(*[("t", "deep", 1.0)] * 20)
    get_used_to(queue, "busy", requests=requests)
    assert starts(queue)["19"] == pytest.approx(39.0, abs=1.0)
