"""Actors, threads and asyncio tasks that a test has left running."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

GRACE_S = 1.0
TASK_GRACE_S = 0.01


class LeakCheck:
    """Compares actors, threads and tasks at the end of a test with those at its beginning.

    It ignores actors of a system that existed before the test: a broker shared by several tests
    keeps sessions beyond the test that opened them.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._tasks: LeftTasks | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = set(threading.enumerate())
        self._actors = _actors()
        self._systems = {_system_of(ref) for ref in self._actors.values()}

    def watch(self, test: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Wrap ``test`` to note the tasks that it leaves on its loop."""

        @functools.wraps(test)
        async def watched(*arguments: Any, **keywords: Any) -> Any:
            self._loop = asyncio.get_running_loop()
            before = asyncio.all_tasks()
            result = await test(*arguments, **keywords)
            left = asyncio.all_tasks() - before
            if left:
                _, left = await asyncio.wait(left, timeout=TASK_GRACE_S)
            if left:
                self._tasks = LeftTasks(left)
            return result

        return watched

    def report(self) -> str:
        """The leaks as lines of text; empty if there are none."""
        tasks = self._tasks.names() if self._tasks is not None else []
        self.problems += [f"asyncio task still running: {name}" for name in tasks]
        return "\n".join([*self.problems, *self._left_actors(), *self._left_threads()])

    def _left_actors(self) -> list[str]:
        _wait_until(lambda: not self._new_actors())
        return [f"actor still running: {name}" for name in self._new_actors()]

    def _new_actors(self) -> list[str]:
        return [
            str(ref)
            for urn, ref in _actors().items()
            if urn not in self._actors and _system_of(ref) not in self._systems - {None}
        ]

    def _left_threads(self) -> list[str]:
        for thread in self._new_threads():
            thread.join(GRACE_S)
        return [f"thread still running: {thread.name}" for thread in self._new_threads()]

    def _new_threads(self) -> list[threading.Thread]:
        # A foreign daemon thread may outlive a test by design; ours belong to an unclosed object.
        return [
            thread
            for thread in threading.enumerate()
            if thread not in self._threads
            and (not thread.daemon or thread.name.startswith("exai-"))
            and not self._serves_an_open_loop(thread)
        ]

    def _serves_an_open_loop(self, thread: threading.Thread) -> bool:
        # A loop keeps the threads of asyncio.to_thread and of name lookups until it is closed.
        is_open = self._loop is not None and not self._loop.is_closed()
        return is_open and thread.name.startswith("asyncio_")


class LeftTasks:
    """Tasks that run after the test; fixtures may still end theirs.

    Tasks that remain until the loop is closed are leaks: the runner then cancels all tasks
    together, among them a sentinel that distinguishes this from earlier cancellations.
    """

    def __init__(self, tasks: set[asyncio.Task[Any]]) -> None:
        self._leaks: list[str] = []
        self._sentinel = asyncio.get_running_loop().create_task(_for_ever())
        for task in tasks:
            task.add_done_callback(self._ended)

    def names(self) -> list[str]:
        """The names of the leaks; none on a loop that outlives the test."""
        self._sentinel.cancel()
        return sorted(self._leaks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if self._sentinel.cancelling():
            self._leaks.append(_task_name(task))


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def _actors() -> dict[str, Any]:
    pykka = sys.modules.get("pykka")
    if pykka is None:
        return {}
    return {ref.actor_urn: ref for ref in pykka.ActorRegistry.get_all()}


def _system_of(ref: Any) -> int | None:
    system = getattr(ref._actor_weakref(), "system", None)
    return None if system is None else id(system)


def _wait_until(there: Callable[[], bool]) -> None:
    until = time.monotonic() + GRACE_S
    while not there() and time.monotonic() < until:
        time.sleep(0.005)


def _task_name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return f"{task.get_name()} ({getattr(coroutine, '__qualname__', coroutine)})"
