"""When Python's collector of cyclic garbage runs: often and briefly, and over everything when idle.

A collection holds up everything, in proportion to the objects that it looks at. Ended actors,
sessions and calls leave no cycles, so those that have survived two collections are not looked at
again and again: they are set aside, and freed by reference counting like everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Awaitable, Callable, Iterator

from exai_actors.daemon.process_memory import returner

_YOUNG, _MIDDLE, _NEVER = 1_000, 2, 1_000_000
"""Containers before a collection of the youngest; of these before one of the next older."""
_LOOK_EVERY_S = 10.0
_ALL_EVERY_S = 60.0
_PART_OF_THE_TIME = 0.001
_ALL_AT_LAST_S = 6 * 3600.0


@contextlib.contextmanager
def collecting(is_idle: Callable[[], bool]) -> Iterator[None]:
    """Tune the collector for the life of a running broker; ``is_idle``: it serves no request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)
    gc.callbacks.append(_set_survivors_aside)
    task = asyncio.ensure_future(collect_repeatedly(is_idle))
    try:
        yield
    finally:
        task.cancel()
        gc.callbacks.remove(_set_survivors_aside)
        gc.unfreeze()


def _set_survivors_aside(phase: str, info: dict[str, int]) -> None:
    # Nothing is young at the end of such a collection.
    if phase == "stop" and info["generation"] == 1:
        gc.freeze()


async def collect_repeatedly(
    is_idle: Callable[[], bool],
    collect: Callable[[], object] = gc.collect,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Collect everything, and return freed memory to the system, while the broker is idle.

    Everything is collected at most once a minute, and for a thousandth of the time; should the
    broker never be idle, every six hours. Memory is returned every ten seconds.
    """
    give_back = returner() or (lambda: None)
    collected_at, pause_s = now(), 0.0
    while True:
        await sleep(_LOOK_EVERY_S)
        since_s = now() - collected_at
        idle = is_idle()
        is_due = idle and since_s >= max(_ALL_EVERY_S, pause_s / _PART_OF_THE_TIME)
        if is_due or since_s >= _ALL_AT_LAST_S:
            began = now()
            gc.unfreeze()
            collect()
            gc.freeze()
            collected_at = now()
            pause_s = collected_at - began
        if idle:
            _empty_free_lists()
            give_back()


def _empty_free_lists() -> None:
    """Free what the interpreter keeps for new tuples, lists and the like.

    Thousands of these lie anywhere among the objects of a burst, and keep memory from the system.
    A collection of everything frees them; what has been set aside, nearly everything, costs it
    nothing.
    """
    gc.collect()
    gc.freeze()
