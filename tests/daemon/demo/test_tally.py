from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.daemon.demo.tally import (
    FAIR_SHARES,
    MISHAPS,
    DemoTally,
    Figures,
    SlowDown,
    Vanished,
    percentile,
)

NONE = Figures(served=0, share=0.0, wait_p50=0.0, wait_p99=0.0)


def a_tally() -> DemoTally:
    tally = DemoTally({"greedy": 24, "small": 2}, limit=2, service_s=0.5, duration=10.0)
    tally.started(100.0)
    return tally


def test_the_first_snapshot_is_empty() -> None:
    snapshot = a_tally().snapshot(100.0)
    assert (snapshot.elapsed, snapshot.utilisation, snapshot.rate) == (0.0, 0.0, 0.0)
    assert [session.acts for session in snapshot.sessions] == [(NONE, NONE)] * 2
    assert snapshot.possible_rate == 4.0


def test_a_request_waits_until_the_service_receives_it() -> None:
    tally = a_tally()
    tally.sent("1", "greedy", 100.0)
    tally.sent("2", "small", 100.1)
    snapshot = tally.snapshot(100.2)
    assert snapshot.queue == ("greedy", "small")
    assert snapshot.sessions[0].waiting == 1
    tally.arrived("1", 100.25)
    snapshot = tally.snapshot(100.25)
    assert snapshot.queue == ("small",)
    assert snapshot.holders == ("greedy",)
    assert snapshot.sessions[0].acts[0].wait_p50 == 0.25
    tally.left("1", 100.75)
    tally.served("1", "greedy", 100.75)
    snapshot = tally.snapshot(101.0)
    assert (snapshot.holders, snapshot.served) == ((), 1)
    assert snapshot.sessions[0].acts == (Figures(1, 1.0, 0.25, 0.25), NONE)


def test_each_act_has_its_own_figures() -> None:
    tally = a_tally()
    tally.sent("1", "greedy", 100.0)
    tally.arrived("1", 100.1)
    tally.left("1", 100.2)
    tally.served("1", "greedy", 100.2)
    tally.begin_act(FAIR_SHARES, 101.0)
    tally.sent("2", "small", 101.0)
    tally.arrived("2", 101.5)
    tally.left("2", 101.6)
    tally.served("2", "small", 101.6)
    greedy, small = tally.snapshot(102.0).sessions
    assert greedy.acts == (Figures(1, 1.0, 100.1 - 100.0, 100.1 - 100.0), NONE)
    assert small.acts == (NONE, Figures(1, 1.0, 0.5, 0.5))


def test_a_request_that_crosses_from_one_act_to_the_next_counts_for_neither() -> None:
    tally = a_tally()
    tally.sent("1", "greedy", 100.0)
    tally.begin_act(FAIR_SHARES, 101.0)
    tally.arrived("1", 101.1)
    tally.left("1", 101.2)
    tally.served("1", "greedy", 101.2)
    snapshot = tally.snapshot(102.0)
    assert snapshot.sessions[0].acts == (NONE, NONE)
    assert snapshot.served == 1


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


def test_the_mishaps_do_not_count_as_utilisation() -> None:
    tally = a_tally()
    tally.sent("1", "small", 100.0)
    tally.arrived("1", 100.0)
    tally.begin_act(MISHAPS, 102.0)
    tally.left("1", 102.0)
    assert tally.snapshot(104.0).utilisation == 0.5


def test_the_rate_covers_the_last_two_seconds() -> None:
    tally = a_tally()
    for at in (100.0, 101.0, 103.5, 104.5):
        tally.sent(str(at), "small", at)
        tally.served(str(at), "small", at)
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


def test_a_pause_lasts_from_the_429_to_the_next_call() -> None:
    tally = a_tally()
    tally.sent("1", "small", 100.0)
    tally.asked_to_slow_down(1.0, 101.0)
    snapshot = tally.snapshot(101.5)
    assert (snapshot.refused, snapshot.slow_down) == (1, SlowDown(1.0, 1.0))
    assert snapshot.queue == ("small",)
    tally.arrived("1", 102.25)
    tally.sent("2", "small", 102.5)
    tally.arrived("2", 102.5)
    assert tally.snapshot(103.0).slow_down == SlowDown(1.0, 1.0, 1.25)


def test_a_vanished_client_is_over_when_the_service_is_full_again() -> None:
    tally = a_tally()
    for nonce in ("1", "2", "3", "4"):
        tally.sent(nonce, "visitor" if nonce == "1" else "greedy", 100.0)
    tally.arrived("1", 100.0)
    tally.arrived("2", 100.0)
    tally.vanished("1", 101.0)
    assert tally.snapshot(101.0).vanished == Vanished(1.0)
    tally.left("1", 101.25)
    tally.left("2", 101.5)
    tally.arrived("3", 101.5)
    assert tally.snapshot(101.5).vanished == Vanished(1.0, 0.25)
    tally.arrived("4", 101.75)
    assert tally.snapshot(102.0).vanished == Vanished(1.0, 0.25, 0.75)


def test_a_client_that_vanishes_before_its_call_no_longer_waits() -> None:
    tally = a_tally()
    tally.sent("1", "visitor", 100.0)
    tally.vanished("1", 100.5)
    assert tally.snapshot(101.0).queue == ()


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
