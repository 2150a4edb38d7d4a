"""The lag of the loop, the use of the processor, and the consoles' part of it."""

from __future__ import annotations

import sys

import pytest

from exai_actors.console.process import REMEMBERED, TICK_S, ProcessMeter
from exai_actors.core.observe.parts import ProcessState
from exai_actors.runtime import ManualDriver


class Process:
    """A process whose processor time is set by hand."""

    def __init__(self) -> None:
        self.driver = ManualDriver()
        self.cpu_s = 7.0
        self.meter = ProcessMeter(self.driver, lambda: self.cpu_s)
        self.stop = self.meter.start()

    def run(self, seconds: float, *, busy: float = 0.0, sampling: float = 0.0) -> ProcessState:
        """Let time pass, with these parts of it busy and spent on consoles."""
        for _ in range(round(seconds / TICK_S)):
            self.cpu_s += TICK_S * busy
            self.meter.note_sampling(TICK_S * sampling)
            self.driver.advance(TICK_S)
        return self.meter.state(restarts=3, alarms=2)


@pytest.mark.parametrize(("busy", "sampling"), [(0.0, 0.0), (0.5, 0.01), (1.0, 0.2)])
def test_parts_of_a_core_are_those_of_the_last_seconds(busy: float, sampling: float) -> None:
    process = Process()
    process.run(60.0, busy=0.25, sampling=0.1)
    state = process.run(REMEMBERED * TICK_S, busy=busy, sampling=sampling)
    assert state.cpu_share == pytest.approx(busy, abs=1e-6)
    assert state.sampling_share == pytest.approx(sampling, abs=1e-6)
    assert (state.restarts, state.alarms) == (3, 2)


def test_the_longest_lag_is_shown_for_a_while() -> None:
    process = Process()
    assert process.run(5.0).loop_lag_s == pytest.approx(0.0, abs=1e-9)
    process.driver.pass_time(2.0)
    assert 1.0 <= process.run(1.0).loop_lag_s <= 2.0
    assert process.run(REMEMBERED * TICK_S).loop_lag_s == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("calm_s", [0.1, 0.3, 0.9, 1.0, 1.7])
def test_a_lag_is_shown_at_each_instant_of_the_next_nine_seconds(calm_s: float) -> None:
    process = Process()
    process.run(calm_s)
    process.driver.pass_time(2.0)
    for _ in range(90):
        assert process.run(TICK_S).loop_lag_s == pytest.approx(2.0 - TICK_S)


def test_nothing_is_measured_before_the_start_and_after_the_end() -> None:
    process = Process()
    process.run(5.0, busy=1.0)
    process.stop()
    before = process.meter.state(restarts=0, alarms=0).loop_lag_s
    process.driver.advance(100.0)
    assert process.meter.state(restarts=0, alarms=0).loop_lag_s == before
    idle = ProcessMeter(process.driver).state(restarts=0, alarms=0)
    assert (idle.loop_lag_s, idle.cpu_share, idle.sampling_share) == (0.0, 0.0, 0.0)


def test_what_it_remembers_is_no_objects() -> None:
    process = Process()
    process.run(2 * TICK_S)
    before = sys.getallocatedblocks()
    process.run((REMEMBERED - 10) * TICK_S, busy=0.3, sampling=0.1)
    assert sys.getallocatedblocks() < before + REMEMBERED / 2
