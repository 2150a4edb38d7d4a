"""Full collections come by the clock, and take a small part of the time."""

from __future__ import annotations

import asyncio
import gc

import pytest

from exai_actors.daemon import collector
from exai_actors.daemon.collector import collect_repeatedly, collecting_by_the_clock


class Clock:
    """Time that passes in collections and naps only; ends the test after ``naps``."""

    def __init__(self, pauses_s: list[float]) -> None:
        self.time = 0.0
        self.naps: list[float] = []
        self._pauses_s = pauses_s

    def now(self) -> float:
        return self.time

    def collect(self) -> None:
        self.time += self._pauses_s.pop(0)

    async def sleep(self, seconds: float) -> None:
        if not self._pauses_s:
            raise asyncio.CancelledError
        self.naps.append(seconds)
        self.time += seconds


async def test_everything_is_collected_each_minute_and_less_often_if_it_takes_long() -> None:
    clock = Clock([0.001, 0.01, 0.06, 0.3, 2.0, 0.001, 0.001])
    with pytest.raises(asyncio.CancelledError):
        await collect_repeatedly(clock.collect, clock.now, clock.sleep)
    assert clock.naps == pytest.approx([60.0, 60.0, 60.0, 60.0, 300.0, 2000.0, 60.0])


async def test_garbage_of_a_running_broker_is_found_by_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector, "_EVERY_S", 0.0)
    threshold = gc.get_threshold()
    collected = asyncio.Event()

    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            collected.set()

    try:
        with collecting_by_the_clock():
            frozen = gc.get_freeze_count()
            Garbage()
            await collected.wait()
        assert frozen > 0
        assert gc.get_freeze_count() == 0
    finally:
        gc.set_threshold(*threshold)
