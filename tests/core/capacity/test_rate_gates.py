"""A gate is exact over any window, a call passes all gates or none, and charges are corrected."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.capacity.rate_gates import SLICES, RateGates, WindowGate
from exai_actors.core.capacity.settings import GateSettings

STEPS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 9)), max_size=120)


@given(limit=st.integers(1, 20), steps=STEPS)
def test_no_window_ever_holds_more_than_the_limit(
    limit: int, steps: list[tuple[float, int]]
) -> None:
    gate = WindowGate("requests", limit, 60.0)
    now = 0.0
    granted: list[tuple[float, int]] = []
    for passed, amount in steps:
        now += passed
        opens_at = gate.opens_at(amount, now)
        if opens_at > now and passed > 15:
            # Wait until then, as its owner does.
            now = opens_at
            assert gate.opens_at(amount, now) == now, "it did not open when it said"
        if gate.opens_at(amount, now) <= now:
            gate.charge(amount, now)
            granted.append((now, amount))
    for index, (begin, _) in enumerate(granted):
        within = [amount for at, amount in granted[index:] if at < begin + 60.0]
        assert sum(within) <= limit or len(within) == 1


@given(limit=st.integers(SLICES + 1, 5 * SLICES), gaps=st.lists(st.floats(0, 2), max_size=300))
def test_a_large_gate_keeps_a_bounded_log_and_stays_within_its_limit(
    limit: int, gaps: list[float]
) -> None:
    gate = WindowGate("requests", limit, 60.0)
    now = 0.0
    granted: list[float] = []
    for gap in gaps:
        now += gap
        while gate.opens_at(1, now) <= now and len(granted) < 3 * limit:
            gate.charge(1, now)
            granted.append(now)
    assert len(gate._log) <= SLICES + 1
    for early, late in zip(granted, granted[limit:], strict=False):
        assert late - early >= 60.0


@given(
    amounts=st.lists(st.floats(0.1, 9e6), min_size=2, max_size=50),
    settled=st.floats(-1.0, 1.0),
)
def test_rounding_never_keeps_a_gate_shut(amounts: list[float], settled: float) -> None:
    gate = WindowGate("tokens", 1000, 60.0)
    for now, amount in enumerate(amounts):
        part = gate.charge(amount, now / 100)
        gate.settle(part, amount * settled, now / 100)
    assert gate.opens_at(1000, 1.0) <= 61.0
    assert gate.opens_at(1000, 61.0) == 61.0
    assert gate.statistics(1, 61.0).used == 0.0


def test_charges_settled_to_zero_do_not_accumulate() -> None:
    gate = WindowGate("tokens", 10, 60.0)
    for number in range(10 * SLICES):
        now = number * 0.005
        gate.settle(gate.charge(1, now), -1, now)
    assert len(gate._log) <= 2 * SLICES + 1


def test_each_full_limit_of_a_burst_waits_one_more_window() -> None:
    gate = WindowGate("requests", 10, 60.0)
    for _ in range(8):
        gate.charge(1, 0.0)
    waits = [gate.wait_s(position, 1, 5.0) for position in (1, 2, 3, 10, 12, 13, 22, 23)]
    assert waits == [0.0, 0.0, 55.0, 55.0, 60.0, 115.0, 120.0, 175.0]


@given(
    limit=st.integers(1, 8),
    before=st.lists(st.floats(0, 50), max_size=12),
    count=st.integers(1, 30),
)
def test_the_estimated_wait_is_exact_for_calls_of_equal_size(
    limit: int, before: list[float], count: int
) -> None:
    gate = WindowGate("requests", limit, 60.0)
    now = 0.0
    for at in sorted(before):
        if gate.opens_at(1, at) <= at:
            gate.charge(1, at)
            now = at
    began, waits = now, [gate.wait_s(position, 1, now) for position in range(1, count + 1)]
    for wait in waits:
        now = gate.opens_at(1, now)
        gate.charge(1, now)
        assert now - began == pytest.approx(wait, abs=1e-6)


def test_a_wait_is_estimated_after_the_first_call() -> None:
    gates = RateGates(GateSettings(tokens_per_minute=100, margin_s=0))
    gates.charge(50, 0.0)
    assert [gates.wait_s(position, 0.0) for position in (1, 2, 3, 4)] == [0.0, 60.0, 60.0, 120.0]


def test_a_gate_allows_a_burst_and_then_waits_for_its_window() -> None:
    gate = WindowGate("requests", 3, 60.0)
    for now in (0.0, 1.0, 2.0):
        assert gate.opens_at(1, now) == now
        gate.charge(1, now)
    assert [gate.opens_at(amount, 5.0) for amount in (1, 2, 3)] == [60.0, 61.0, 62.0]


def test_a_request_larger_than_the_limit_passes_when_the_window_is_empty() -> None:
    gate = WindowGate("tokens", 100, 60.0)
    gate.charge(10, 0.0)
    assert gate.opens_at(500, 1.0) == 60.0
    gate.charge(500, 60.0)
    assert gate.opens_at(1, 61.0) == 120.0


def test_a_request_passes_all_gates_or_none() -> None:
    gates = RateGates(GateSettings(requests_per_minute=10, tokens_per_minute=100, margin_s=0))
    assert gates.charge(90, 0.0) is not None
    assert gates.opens_at(20, 1.0) == 60.0
    with pytest.raises(RuntimeError, match="closed rate gate"):
        gates.charge(20, 1.0)
    used = {gate.name: gate.used for gate in gates.statistics(1.0)}
    assert used == {"requests_per_minute": 1, "tokens_per_minute": 90}


def test_an_estimate_is_corrected_at_the_end() -> None:
    gates = RateGates(GateSettings(requests_per_minute=10, tokens_per_minute=100, margin_s=0))
    charge = gates.charge(90, 0.0)
    assert charge is not None
    gates.settle(charge, 30, 5.0)
    assert gates.opens_at(70, 5.0) == 5.0
    gates.settle(charge, 130, 6.0)
    (tokens,) = (gate for gate in gates.statistics(6.0) if gate.name == "tokens_per_minute")
    assert (tokens.used, tokens.over) == (130, 30)


def test_a_call_that_never_reached_the_service_is_refunded() -> None:
    gates = RateGates(GateSettings(requests_per_minute=1, tokens_per_minute=100, margin_s=0))
    charge = gates.charge(90, 0.0)
    assert charge is not None
    gates.refund(charge, 1.0)
    assert gates.opens_at(100, 1.0) == 1.0
    gates.charge(70, 1.0)
    used = {gate.name: gate.used for gate in gates.statistics(1.0)}
    assert used == {"requests_per_minute": 1, "tokens_per_minute": 70}


def test_a_charge_settled_after_its_window_changes_nothing() -> None:
    gates = RateGates(GateSettings(tokens_per_minute=100, margin_s=0))
    charge = gates.charge(50, 0.0)
    assert charge is not None
    gates.settle(charge, 100_000, 60.0)
    assert gates.opens_at(100, 60.0) == 60.0


def test_a_changed_limit_counts_earlier_grants() -> None:
    gates = RateGates(GateSettings(requests_per_minute=2, margin_s=0))
    gates.charge(1, 0.0)
    gates.change(GateSettings(requests_per_minute=1, margin_s=0))
    assert gates.opens_at(1, 1.0) == 60.0
    gates.change(GateSettings(requests_per_minute=3, margin_s=0))
    assert gates.opens_at(1, 1.0) == 1.0
    gates.change(GateSettings())
    assert not gates.active


def test_two_hundred_a_minute_are_used_completely() -> None:
    gates = RateGates(GateSettings(requests_per_minute=200, margin_s=0))
    now = 0.0
    granted: list[float] = []
    while now < 3600:
        gates.charge(1, now)
        granted.append(now)
        now = gates.opens_at(1, now)
    assert len(granted) >= 0.99 * 200 * 60
    assert all(early <= late for early, late in pairwise(granted))
    assert min(late - early for early, late in zip(granted, granted[200:], strict=False)) >= 60


def test_a_large_gate_frees_its_room_bit_by_bit() -> None:
    gate = WindowGate("requests", 3 * SLICES, 60.0)
    for number in range(2 * SLICES):
        gate.charge(1, number * 60.0 / (2 * SLICES))
    assert gate.statistics(1, 90.0).used == pytest.approx(SLICES, abs=4)


def test_the_estimated_wait_follows_the_size_of_recent_calls() -> None:
    gates = RateGates(GateSettings(tokens_per_minute=1000, margin_s=0.0))
    gates.charge(100, 0.0)
    for _ in range(8):
        gates.charge(20, 0.0)
    # A burst of large calls once would otherwise decide, or a single small one.
    size = 20 + 80 * 0.875**8
    left = 1000 - 260
    assert gates.wait_s(int(left / size), 0.0) == 0.0
    assert gates.wait_s(int(left / size) + 1, 0.0) == 60.0


def test_a_charge_settled_in_its_last_moment_counts_no_more_than_it_cost() -> None:
    gates = RateGates(GateSettings(tokens_per_minute=100))
    charge = gates.charge(100, 0.0)
    assert charge is not None
    gates.settle(charge, 0.0, 59.9)
    assert gates.opens_at(100, 59.9) == 59.9
