"""The circuit: when a failing service is left alone, and how it is probed."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.capacity.circuit import Circuit
from exai_actors.core.capacity.settings import CircuitSettings


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=80))
def test_an_open_circuit_lets_one_probe_pass_at_a_time(
    steps: list[tuple[float, bool]],
) -> None:
    settings = CircuitSettings(failures_in_a_row=3, calls=1000)
    circuit = Circuit(settings)
    now, in_a_row, closed, opened_at, openings = 0.0, 0, True, 0.0, 0
    for passed, well in steps:
        now += passed
        open_s = min(settings.open_cap_s, settings.open_s * 2 ** (openings - 1)) if openings else 0
        assert (circuit.opens_at(now) <= now) is (closed or now >= opened_at + open_s)
        if not (circuit.opens_at(now) <= now):
            continue
        probe = circuit.on_grant()
        assert probe is not closed
        assert not probe or not (circuit.opens_at(now) <= now)
        if well:
            circuit.succeeded(now, probe)
            in_a_row, closed, openings = 0, True, 0
        else:
            circuit.failed(now, probe)
            in_a_row += 1
            if probe or in_a_row >= 3:
                closed, opened_at, openings = False, now, openings + 1
    assert (circuit.state == "closed") is closed


def test_an_abandoned_probe_makes_room_for_another() -> None:
    circuit = Circuit(CircuitSettings(failures_in_a_row=1))
    circuit.failed(0.0, is_probe=False)
    assert circuit.on_grant()
    assert circuit.opens_at(100.0) == inf
    circuit.abandoned(is_probe=True)
    assert circuit.opens_at(100.0) == 100.0


def test_the_circuit_opens_when_half_of_enough_calls_have_failed() -> None:
    circuit = Circuit(CircuitSettings(failures_in_a_row=1000, calls=20, failure_rate=0.5))
    for number in range(19):
        # The first success is not counted: there is no failure before it.
        change = circuit.failed(1.0, False) if number % 2 else circuit.succeeded(1.0, False)
        assert change is None
    assert circuit.failed(1.0, False) is None
    change = circuit.failed(1.0, False)
    assert change is not None
    assert (change.what, change.cause) == ("circuit open for 5 s", "11 of 20 calls failed")
    assert circuit.state == "open"


def test_failures_older_than_the_window_do_not_count() -> None:
    settings = CircuitSettings(failures_in_a_row=1000, calls=4, failure_rate=0.5, window_s=10.0)
    circuit = Circuit(settings)
    for now in (0.0, 0.0, 0.0, 10.0):
        assert circuit.failed(now, False) is None
    for now in (10.1, 10.2, 10.3):
        assert circuit.succeeded(now, False) is None
    assert circuit.failed(10.4, False) is None
    assert circuit.failed(10.5, False) is not None


def test_a_success_ends_a_row_of_failures() -> None:
    circuit = Circuit(CircuitSettings(failures_in_a_row=3, calls=1000))
    for _ in range(5):
        assert circuit.failed(0.0, False) is None
        assert circuit.failed(0.0, False) is None
        assert circuit.succeeded(0.0, False) is None
    assert circuit.state == "closed"


def test_it_stays_open_longer_after_each_failed_probe_up_to_its_cap() -> None:
    circuit = Circuit(CircuitSettings(failures_in_a_row=1, open_s=5.0, open_cap_s=15.0))
    circuit.failed(0.0, False)
    opened_for = []
    now = 0.0
    for _ in range(4):
        opens_at = circuit.opens_at(now)
        opened_for.append(opens_at - now)
        now = opens_at
        assert circuit.on_grant()
        assert circuit.opens_at(now) == inf
        circuit.failed(now, True)
    assert opened_for == [5.0, 10.0, 15.0, 15.0]
    circuit.on_grant()
    circuit.succeeded(now, True)
    circuit.failed(now, False)
    assert circuit.opens_at(now) == now + 5.0


def test_calls_granted_before_it_opened_change_nothing() -> None:
    circuit = Circuit(CircuitSettings(failures_in_a_row=1))
    circuit.failed(0.0, False)
    assert circuit.succeeded(1.0, False) is None
    assert circuit.failed(1.0, False) is None
    circuit.abandoned(is_probe=False)
    assert circuit.state == "open"
    assert circuit.opens_at(1.0) == 5.0
