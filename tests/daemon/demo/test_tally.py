from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.daemon.demo.tally import DemoTally, percentile


def a_tally() -> DemoTally:
    tally = DemoTally({"greedy": 24, "small": 2}, limit=2, service_s=0.5, duration=10.0)
    tally.started(100.0)
    return tally


def test_the_first_snapshot_is_empty() -> None:
    snapshot = a_tally().snapshot(100.0)
    assert (snapshot.elapsed, snapshot.utilisation, snapshot.rate) == (0.0, 0.0, 0.0)
    assert [session.share for session in snapshot.sessions] == [0.0, 0.0]
    assert snapshot.possible_rate == 4.0


def test_a_request_waits_until_the_service_receives_it() -> None:
    tally = a_tally()
    tally.sent("1", "greedy", 100.0)
    assert tally.snapshot(100.2).sessions[0].waiting == 1
    tally.arrived("1", 100.25)
    snapshot = tally.snapshot(100.25)
    assert snapshot.sessions[0].waiting == 0
    assert snapshot.holders == ("greedy",)
    assert snapshot.sessions[0].wait_p50 == 0.25
    tally.left("1", 100.75)
    tally.served("greedy", 100.75)
    snapshot = tally.snapshot(101.0)
    assert (snapshot.holders, snapshot.served, snapshot.sessions[0].share) == ((), 1, 1.0)


def test_utilisation_is_held_time_over_limit_times_elapsed_time() -> None:
    tally = a_tally()
    for nonce in ("1", "2"):
        tally.sent(nonce, "small", 100.0)
    tally.arrived("1", 100.0)
    tally.arrived("2", 101.0)
    tally.left("1", 102.0)
    assert tally.snapshot(102.0).utilisation == (2.0 + 1.0) / (2 * 2.0)
    assert tally.snapshot(104.0).utilisation == (2.0 + 3.0) / (2 * 4.0)
    assert tally.snapshot(104.0).peak == 2


def test_the_rate_covers_the_last_two_seconds() -> None:
    tally = a_tally()
    for at in (100.0, 101.0, 103.5, 104.5):
        tally.served("small", at)
    assert tally.snapshot(105.0).rate == 1.0


def test_refused_and_failed_requests_are_counted_and_stop_waiting() -> None:
    tally = a_tally()
    tally.sent("1", "small", 100.0)
    tally.refused()
    tally.failed("1", "small")
    snapshot = tally.snapshot(101.0)
    assert (snapshot.refused, snapshot.failed, snapshot.sessions[1].waiting) == (1, 1, 0)


def test_a_call_can_leave_only_once() -> None:
    tally = a_tally()
    tally.sent("1", "small", 100.0)
    tally.arrived("1", 100.0)
    tally.left("1", 101.0)
    tally.left("1", 102.0)
    assert tally.snapshot(103.0).holders == ()


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_not_exceeded_by_its_part(
    values: list[float], part: float
) -> None:
    found = percentile(values, part)
    assert found in values
    assert sum(value <= found for value in values) >= part * len(values)
    assert sum(value < found for value in values) < part * len(values)


def test_the_percentile_of_no_values_is_zero() -> None:
    assert percentile([], 0.99) == 0.0
