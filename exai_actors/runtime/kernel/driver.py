"""The event loop as the kernel sees it: callbacks, timers and a clock, nothing more."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from typing import Protocol

from exai_actors.runtime.kernel.after_reading import PatientTimer

Callback = Callable[[], object]


class Cancellable(Protocol):
    """Something that happens later unless cancelled. Cancelling it twice or late is harmless."""

    def cancel(self) -> object: ...


class Driver(Protocol):
    """The kernel's only access to the outside world.

    All callbacks run on one thread, the loop thread. Other threads may call only
    ``call_soon_threadsafe``, ``now``, ``in_loop_thread`` and ``closed``. Times are monotonic
    seconds.
    """

    def call_soon(self, callback: Callback, /) -> object: ...

    def call_soon_threadsafe(self, callback: Callback, /) -> object:
        """Raise RuntimeError if the loop is closed."""

    def call_later(self, delay_s: float, callback: Callback, /) -> Cancellable: ...

    def now(self) -> float: ...

    def in_loop_thread(self) -> bool: ...

    def closed(self) -> bool:
        """Return whether the loop will never run another callback."""


class AsyncioDriver:
    """Drives a system on an asyncio event loop, uvloop's included.

    All actors run in one context, a copy of the context in which the driver was created: context
    variables of a task that sends a message never leak into a handler.
    """

    now = staticmethod(time.monotonic)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()

    def call_soon(self, callback: Callback, /) -> asyncio.Handle:
        return self._loop.call_soon(callback, context=self._context)

    def call_soon_threadsafe(self, callback: Callback, /) -> asyncio.Handle:
        return self._loop.call_soon_threadsafe(callback, context=self._context)

    def call_later(self, delay_s: float, callback: Callback, /) -> Cancellable:
        return PatientTimer(self._loop, delay_s, callback, self._context)

    def in_loop_thread(self) -> bool:
        return asyncio._get_running_loop() is self._loop

    def closed(self) -> bool:
        return self._loop.is_closed()
