"""Measure the cost of an actor on the event loop beside pykka's actor on a thread.

Run it as ``python tools/bench_runtime.py``. Every figure is the median of several repeats in which
both runtimes take turns. Times are CPU microseconds of this process per operation; memory is the
growth of the resident set per idle actor, measured in a process of its own for each runtime.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pykka

from exai_actors.runtime import ActorSystem, AsyncioDriver, LoopActor

TELLS = 50_000
CHAIN_TRIPS = 10_000
ASKS = 5_000
LIVES = 2_000
MEMORY_ACTORS = {"loop": 20_000, "thread": 1_000}


class Counting(pykka.Actor):
    """Counts messages and reports when it has seen enough."""

    def __init__(self, enough: int, report: Callable[[], object]) -> None:
        super().__init__()
        self._left = enough
        self._report = report

    def on_receive(self, message: Any) -> Any:
        self._left -= 1
        if not self._left:
            self._report()
        return message


class Linking(pykka.Actor):
    """Passes every message on."""

    def __init__(self, onward: pykka.ActorRef[Any]) -> None:
        super().__init__()
        self._onward = onward

    def on_receive(self, message: Any) -> None:
        self._onward.tell(message)


class Sending(pykka.Actor):
    """Begins as many round trips as a number says; each that comes back begins the next."""

    def __init__(self, trips: int, report: Callable[[], object]) -> None:
        super().__init__()
        self.first: pykka.ActorRef[Any] | None = None
        self._unsent = trips
        self._left = trips
        self._report = report

    def on_receive(self, message: Any) -> None:
        if message.__class__ is int:
            for _ in range(message):
                self._send()
            return
        self._left -= 1
        if not self._left:
            self._report()
        elif self._unsent:
            self._send()

    def _send(self) -> None:
        self._unsent -= 1
        if self.first is not None:
            self.first.tell("request")


class Counter(Counting, LoopActor):
    mailbox_limit = TELLS


class Link(Linking, LoopActor):
    pass


class Source(Sending, LoopActor):
    pass


class ThreadCounter(Counting, pykka.ThreadingActor):
    use_daemon_thread = True


class ThreadLink(Linking, pykka.ThreadingActor):
    use_daemon_thread = True


class ThreadSource(Sending, pykka.ThreadingActor):
    use_daemon_thread = True


class Finished:
    """Lets the loop wait for a report that an actor makes on any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()


async def tell(*, threads: bool) -> float:
    """Tell from the loop and handle."""
    finished = Finished()
    ref: pykka.ActorRef[Any] = (
        ThreadCounter.start(TELLS, finished) if threads else Counter.start(TELLS, finished)
    )
    began = time.process_time()
    for _ in range(TELLS // 500):
        for _ in range(500):
            ref.tell("hello")
        await asyncio.sleep(0)
    await finished.wait()
    return _per(began, TELLS, ref)


async def tell_from_thread(*, threads: bool) -> float:
    """Tell from another thread and handle."""
    finished = Finished()
    ref: pykka.ActorRef[Any] = (
        ThreadCounter.start(TELLS, finished) if threads else Counter.start(TELLS, finished)
    )

    def sender() -> None:
        for _ in range(TELLS):
            ref.tell("hello")

    began = time.process_time()
    thread = threading.Thread(target=sender)
    thread.start()
    await finished.wait()
    took = _per(began, TELLS, ref)
    thread.join()
    return took


async def chain(*, threads: bool, outstanding: int) -> float:
    """One round trip: source, two links and back."""
    finished = Finished()
    source: pykka.ActorRef[Any]
    first: pykka.ActorRef[Any]
    if threads:
        source = ThreadSource.start(CHAIN_TRIPS, finished)
        second: pykka.ActorRef[Any] = ThreadLink.start(source)
        first = ThreadLink.start(second)
    else:
        source = Source.start(CHAIN_TRIPS, finished)
        second = Link.start(source)
        first = Link.start(second)
    actor = source._actor_weakref()
    if actor is not None:
        actor.first = first
    began = time.process_time()
    source.tell(outstanding)
    await finished.wait()
    return _per(began, CHAIN_TRIPS, source, second, first)


async def ask(*, threads: bool) -> float:
    """One ask after the other: awaited on the loop, waited for from a thread."""
    ref: pykka.ActorRef[Any]
    if threads:
        ref = ThreadCounter.start(0, int)

        def asker() -> float:
            began = time.process_time()
            for _ in range(ASKS):
                ref.ask("hello")
            return _per(began, ASKS, ref)

        return await asyncio.to_thread(asker)
    ref = Counter.start(0, int)
    began = time.process_time()
    for _ in range(ASKS):
        await ref.ask("hello", block=False)
    return _per(began, ASKS, ref)


async def live(*, threads: bool) -> float:
    """Start an actor, stop it, know that it has stopped."""

    def threaded() -> float:
        began = time.process_time()
        for _ in range(LIVES):
            ThreadCounter.start(1, int).stop()
        return _per(began, LIVES)

    if threads:
        return await asyncio.to_thread(threaded)
    began = time.process_time()
    for _ in range(LIVES // 100):
        ends = [Counter.start(1, int).stop(block=False) for _ in range(100)]
        for end in ends:
            await end
    return _per(began, LIVES)


Case = Callable[..., Awaitable[float]]
CASES: dict[str, tuple[Case, dict[str, int]]] = {
    "tell and handle": (tell, {}),
    "tell from a thread and handle": (tell_from_thread, {}),
    "3-actor round trip, 1 at a time": (chain, {"outstanding": 1}),
    "3-actor round trip, 100 at a time": (chain, {"outstanding": 100}),
    "ask": (ask, {}),
    "start and stop": (live, {}),
}


def _per(began: float, operations: int, *refs: pykka.ActorRef[Any]) -> float:
    took = (time.process_time() - began) / operations * 1e6
    for ref in refs:
        ref.stop(block=False)
    return took


async def measure(repeats: int) -> dict[str, dict[str, list[float]]]:
    system = ActorSystem(AsyncioDriver(asyncio.get_running_loop())).make_current()
    found: dict[str, dict[str, list[float]]] = {name: {"loop": [], "thread": []} for name in CASES}
    for _ in range(repeats):
        for name, (case, options) in CASES.items():
            for kind in ("loop", "thread"):
                took = await case(threads=kind == "thread", **options)
                found[name][kind].append(took)
    await system.stop_all()
    return found


def memory(kind: str) -> float:
    """KiB of resident memory per idle actor, in a process that does nothing else."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    async def grow() -> float:
        system = ActorSystem(AsyncioDriver(asyncio.get_running_loop())).make_current()
        number = MEMORY_ACTORS[kind]
        before = resident()
        for _ in range(number):
            if kind == "loop":
                Counter.start(1, int).tell("hello")
            else:
                ThreadCounter.start(1, int).tell("hello")
        await asyncio.sleep(0.5)
        grown = (resident() - before) / number / 1024
        await system.stop_all()
        return grown

    return asyncio.run(grow())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--uvloop", action="store_true", help="use uvloop's event loop")
    parser.add_argument("--memory", choices=MEMORY_ACTORS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(memory(options.memory))
        return
    if options.uvloop:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measure(options.repeats))
    else:
        found = asyncio.run(measure(options.repeats))
    print(f"{'CPU µs each, median':36}{'LoopActor':>12}{'ThreadingActor':>16}{'ratio':>8}")
    for name, kinds in found.items():
        loop, thread = (statistics.median(kinds[kind]) for kind in ("loop", "thread"))
        print(f"{name:36}{loop:12.2f}{thread:16.2f}{thread / loop:8.1f}")
    grown = {
        kind: float(
            subprocess.run(
                [sys.executable, __file__, "--memory", kind],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for kind in MEMORY_ACTORS
    }
    print(
        f"{'KiB resident per idle actor':36}{grown['loop']:12.2f}{grown['thread']:16.2f}"
        f"{grown['thread'] / grown['loop']:8.1f}"
    )


if __name__ == "__main__":
    main()
