"""What drives an actor system: a queue of callbacks, timers and a clock, nothing more."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from typing import Protocol

Callback = Callable[[], object]


class Cancellable(Protocol):
    """Something that happens later unless cancelled. Cancelling twice or late is harmless."""

    def cancel(self) -> object: ...


class Driver(Protocol):
    """The only way in which the runtime touches the world.

    All callbacks run on one thread, the loop thread. Only ``call_soon_threadsafe``, ``now`` and
    ``in_loop_thread`` may be called from another one. Times are monotonic seconds.
    """

    def call_soon(self, callback: Callback, /) -> object: ...

    def call_soon_threadsafe(self, callback: Callback, /) -> object:
        """Raise RuntimeError if the loop is closed."""

    def call_later(self, delay_s: float, callback: Callback, /) -> Cancellable: ...

    def now(self) -> float: ...

    def in_loop_thread(self) -> bool: ...

    def closed(self) -> bool:
        """Say whether no callback will ever run again."""


class AsyncioDriver:
    """Drives a system on an asyncio event loop, uvloop's included.

    All actors run in one context of their own, a copy of the one this driver was made in: what a
    task that happens to tell first has in its context variables never leaks into a handler.
    """

    now = staticmethod(time.monotonic)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()

    def call_soon(self, callback: Callback, /) -> asyncio.Handle:
        return self._loop.call_soon(callback, context=self._context)

    def call_soon_threadsafe(self, callback: Callback, /) -> asyncio.Handle:
        return self._loop.call_soon_threadsafe(callback, context=self._context)

    def call_later(self, delay_s: float, callback: Callback, /) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, callback, context=self._context)

    def in_loop_thread(self) -> bool:
        return asyncio._get_running_loop() is self._loop

    def closed(self) -> bool:
        return self._loop.is_closed()
