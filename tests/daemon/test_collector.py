"""What is new is collected in small parts; everything, when nothing is served."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from exai_actors.daemon import collector
from exai_actors.daemon.collector import collect_repeatedly, collecting


class Cycle:
    """Garbage that only the collector frees."""

    alive = 0

    def __init__(self) -> None:
        self.me = self
        Cycle.alive += 1

    def __del__(self) -> None:
        Cycle.alive -= 1


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    gc.collect()


class Clock:
    """Time that passes in collections and naps only; ends the test after all pauses."""

    def __init__(self, pauses_s: list[float]) -> None:
        self.time = 0.0
        self.collected_at: list[float] = []
        self.left = 10_000
        self._pauses_s = pauses_s

    def now(self) -> float:
        return self.time

    def collect(self) -> None:
        self.collected_at.append(self.time)
        self.time += self._pauses_s.pop(0)

    async def sleep(self, seconds: float) -> None:
        self.left -= 1
        if not self._pauses_s or not self.left:
            raise asyncio.CancelledError
        self.time += seconds


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often freed memory was returned."""
    times = [0]

    def give_back() -> None:
        times[0] += 1

    monkeypatch.setattr(collector, "returner", lambda: give_back)
    return times


async def run(clock: Clock, is_idle: Callable[[], bool]) -> None:
    with pytest.raises(asyncio.CancelledError):
        await collect_repeatedly(is_idle, clock.collect, clock.now, clock.sleep)


async def test_an_idle_broker_collects_everything_each_minute_and_less_often_if_it_takes_long(
    returned: list[int],
) -> None:
    clock = Clock([0.0, 0.0, 0.3, 2.0, 0.0, 0.0])
    await run(clock, lambda: True)
    gaps = [after - at for at, after in pairwise(clock.collected_at)]
    assert gaps == pytest.approx([60.0, 60.0, 310.3, 2002.0, 60.0])
    assert returned[0] > 200


async def test_a_busy_broker_collects_everything_every_six_hours_and_returns_nothing(
    returned: list[int],
) -> None:
    clock = Clock([0.1, 0.1, 0.1])
    await run(clock, lambda: False)
    assert clock.collected_at == pytest.approx([21_600.0, 43_200.1, 64_800.2], abs=20.0)
    assert returned == [0]


async def test_an_idle_broker_keeps_nothing_for_new_tuples_before_it_returns_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[int] = []
    monkeypatch.setattr(collector, "returner", lambda: note)

    def note() -> None:
        found.append(sys.getallocatedblocks())

    class Once(Clock):
        async def sleep(self, seconds: float) -> None:
            if found:
                raise asyncio.CancelledError
            await super().sleep(seconds)

    tuples = [(number, number, number, number) for number in range(1_500)]
    gc.collect()
    del tuples
    kept = sys.getallocatedblocks()
    await run(Once([0.0]), lambda: True)
    assert found[0] < kept - 1_000


async def test_it_waits_for_an_idle_moment(returned: list[int]) -> None:
    clock = Clock([0.0])
    await run(clock, lambda: clock.time >= 150.0)
    assert clock.collected_at == [150.0]


async def test_what_survives_two_collections_is_set_aside_and_garbage_is_found() -> None:
    with collecting(lambda: False):
        gc.set_threshold(100, 2, 1_000_000)
        frozen = gc.get_freeze_count()
        before = Cycle.alive
        Cycle()
        kept = [[number] for number in range(2_000)]
        assert Cycle.alive == before
        assert gc.get_freeze_count() >= frozen + len(kept) - 500
        assert gc.get_count()[2] <= 1
    assert gc.get_freeze_count() == 0


async def test_garbage_that_was_set_aside_is_found_when_everything_is_collected(
    returned: list[int],
) -> None:
    before = Cycle.alive
    Cycle()
    gc.freeze()
    gc.collect()
    assert Cycle.alive == before + 1

    def collect() -> None:
        gc.collect()
        clock.collect()

    clock = Clock([0.0])
    with pytest.raises(asyncio.CancelledError):
        await collect_repeatedly(lambda: True, collect, clock.now, clock.sleep)
    assert Cycle.alive == before


async def test_the_start_is_set_aside_for_the_life_of_the_broker() -> None:
    callbacks = list(gc.callbacks)
    before = gc.get_threshold()
    with collecting(lambda: False):
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() != before
    assert gc.get_freeze_count() == 0
    assert gc.callbacks == callbacks
