"""Ends a process that can neither work nor end: its loop stands still, or its memory is used up.

A supervisor restarts a process that ends, not one that hangs. The watchdog is a thread, so that it
needs neither the loop nor much memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog

log = structlog.get_logger()

_TICK_S = 1.0
_GRACE_S = 10.0
_RESERVE_BYTES = 4 * 1024 * 1024
_USED_UP = 0.95
"""Part of the memory available to the process above which it is out of memory."""


def lacks_memory(error: BaseException | None) -> bool:
    """Whether this is how Python says that the process may not take more memory."""
    match error:
        case MemoryError():
            return True
        case OSError():
            return error.errno == errno.ENOMEM
        case RuntimeError():
            return "can't start new thread" in str(error)
        case _:
            return False


class Stall:
    """Notices that a loop stands still. It counts looks, which a stopped process does not take."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self._without_beat = 0
        self._beats = 0
        self._seen = 0

    def beat(self) -> None:
        """The loop runs."""
        self._beats += 1

    def is_over(self) -> bool:
        """Look once; whether the loop has not run for all ``looks``."""
        if self._beats != self._seen:
            self._seen, self._without_beat = self._beats, 0
        else:
            self._without_beat += 1
        return self._without_beat >= self._looks


class OutOfMemory:
    """Reacts to the first MemoryError: frees a reserve, logs one line, and asks for the end."""

    def __init__(self, on_first: Callable[[str], object]) -> None:
        self._on_first = on_first
        self._reserve: bytes | None = bytes(_RESERVE_BYTES)

    @property
    def has_happened(self) -> bool:
        return self._reserve is None

    def note(self, cause: str) -> None:
        """Memory is used up; only the first time has an effect."""
        if self._reserve is not None:
            self._reserve = None
            self._on_first(cause)

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The exception handler of the loop: a MemoryError may come with each of its turns."""
        if isinstance(context.get("exception"), MemoryError):
            self.note("MemoryError in the event loop")
        else:
            loop.default_exception_handler(context)


@contextlib.contextmanager
def watching(
    *,
    stall_s: float,
    available: int | None,
    resident: Callable[[], int],
    give_up: Callable[[str], object],
    kill: Callable[[str], object],
) -> Iterator[None]:
    """Watch the running loop and the memory of the process during the block.

    Out of memory, it calls ``give_up`` with the cause on the loop's thread, and if that has not
    ended the block after ten seconds, ``kill`` on the watchdog's thread. A loop that stands still
    for ``stall_s`` (0: however long) is killed.
    """
    loop = asyncio.get_running_loop()
    stall = Stall(max(1, round(stall_s / _TICK_S)))
    ended = threading.Event()
    memory = OutOfMemory(give_up)
    timer: asyncio.TimerHandle | None = None

    def beat() -> None:
        nonlocal timer
        stall.beat()
        if available is not None and resident() > available * _USED_UP:
            memory.note("the memory of the process is used up")
        timer = loop.call_later(_TICK_S, beat)

    def watch() -> None:
        looks_left = round(_GRACE_S / _TICK_S)
        while not ended.wait(_TICK_S):
            if stall_s and stall.is_over():
                kill(f"the event loop stood still for {stall_s:g} s")
                return
            if memory.has_happened:
                looks_left -= 1
                if looks_left <= 0:
                    kill("out of memory, and unable to end in order")
                    return

    beat()
    loop.set_exception_handler(memory.handle)
    threading.Thread(target=watch, name="exai-watchdog", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        loop.set_exception_handler(None)
        if timer is not None:
            timer.cancel()


def end_process(code: int, cause: str) -> None:
    """End the process now, with a line on stderr unless that is blocked."""
    with contextlib.suppress(OSError, ValueError):
        os.set_blocking(2, False)
        os.write(2, f"exai: the watchdog ends the process: {cause}\n".encode())
    os._exit(code)


def end_within(seconds: float, code: int) -> None:
    """End the process after ``seconds``, unless it has ended in order.

    A thread that waits for a name server cannot be interrupted, and both the loop and the
    interpreter would wait for it. Without memory for a thread that counts the seconds, the process
    ends now.
    """

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    last = threading.Timer(seconds, end)
    last.daemon = True
    try:
        last.start()
    except RuntimeError:
        end()
