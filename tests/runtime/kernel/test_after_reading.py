"""Timers of a real loop that fire late: what is ready to be read comes first."""

import asyncio
import socket

import pytest

from exai_actors.runtime import AfterReading, AsyncioDriver
from exai_actors.runtime.kernel.after_reading import LATE_S


class Bench:
    """A socket whose reader, a task behind a stream, notes what it reads; and a clock to move."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.driver = AsyncioDriver(self.loop)
        self.notes: list[str] = []
        self.ended = asyncio.Event()

    def note(self, text: str) -> None:
        self.notes.append(text)
        if len(self.notes) == 2:
            self.ended.set()

    async def read(self, ours: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        if await reader.read(1):
            self.note("read")
        writer.close()

    def block(self, seconds: float) -> None:
        """Keep the loop from reading, as a stop of the process does."""
        end = self.loop.time() + seconds
        real = self.loop.time
        self.loop.time = lambda: max(real(), end)  # type: ignore[method-assign]


@pytest.mark.parametrize("late_s", [LATE_S + 0.02, LATE_S + 0.15])
async def test_a_late_timer_fires_after_what_has_arrived(late_s: float) -> None:
    bench = Bench()
    ours, theirs = socket.socketpair()
    with theirs:
        reading = asyncio.create_task(bench.read(ours))
        for _ in range(20):
            await asyncio.sleep(0)
        bench.driver.call_later(0.01, lambda: bench.note("timer"))
        theirs.send(b"x")
        bench.block(0.01 + late_s)
        await bench.ended.wait()
        await reading
    assert bench.notes == ["read", "timer"]


async def test_a_late_timer_can_be_cancelled_while_it_waits() -> None:
    bench = Bench()
    timer = bench.driver.call_later(0.0, lambda: bench.note("timer"))
    bench.block(LATE_S + 0.02)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    timer.cancel()
    timer.cancel()
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.notes == []


async def test_a_timer_in_time_fires_directly() -> None:
    bench = Bench()
    fired = asyncio.Event()
    bench.driver.call_later(0.0, fired.set)
    await fired.wait()


async def test_a_cancelled_look_does_not_call_back() -> None:
    bench = Bench()
    look = AfterReading(bench.loop, lambda: bench.note("looked"))
    await asyncio.sleep(0)
    look.cancel()
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.notes == []
