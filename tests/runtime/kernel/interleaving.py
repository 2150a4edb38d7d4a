"""Runs a piece of kernel code again and again, each time interrupted at a later point.

The points are all bytecodes of the kernel, the finest places at which another thread can come in.
So each gap between two threads is met, without the tests knowing where the gaps are.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import exai_actors.runtime.kernel

KERNEL = Path(exai_actors.runtime.kernel.__file__).parent

# A thread that waits for a lock of the interrupted one goes on after it.
_BLOCKED_AFTER_S = 0.05

S = TypeVar("S")


Finish = Callable[[], object]


def at_every_point(
    setup: Callable[[], S],
    run: Callable[[S], object],
    meanwhile: Callable[[S], Finish],
    check: Callable[[S], object],
    *,
    within: str = ".*",
) -> int:
    """For n = 1, 2, ...: set up, run with ``meanwhile`` at the n-th point, check.

    ``meanwhile`` returns what is to be called after the run. Returns the first n that is not
    reached. ``within`` is a pattern of the functions to look into, as ``module.py:name``.
    """
    for point in count(1):
        state = setup()
        finish = _run_to(point, partial(run, state), partial(meanwhile, state), within)
        if finish is None:
            return point
        finish()
        check(state)
    raise AssertionError


def in_a_thread(action: Callable[[S], object]) -> Callable[[S], Finish]:
    """The action as that of another thread, during which the interrupted one stands still."""

    def act(state: S) -> Finish:
        thread = threading.Thread(target=action, args=(state,))
        thread.start()
        thread.join(_BLOCKED_AFTER_S)
        return thread.join

    return act


class LoopThread:
    """A thread that can be the loop thread of a manual driver, so that the test is another one."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> LoopThread:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def do(self, action: Callable[[], S]) -> S:
        return self._pool.submit(action).result()

    def meanwhile(self, action: Callable[[S], object]) -> Callable[[S], Finish]:
        """The action as that of this thread, during which the interrupted one stands still."""

        def act(state: S) -> Finish:
            done = self._pool.submit(action, state)
            wait([done], _BLOCKED_AFTER_S)
            return done.result

        return act


def _run_to(
    point: int, run: Callable[[], object], interrupt: Callable[[], Finish], within: str
) -> Finish | None:
    left = point
    finish: Finish = int

    def at_call(frame: FrameType, event: str, arg: Any) -> Any:
        file = Path(frame.f_code.co_filename)
        function = f"{file.name}:{frame.f_code.co_name}"
        if not left or file.parent != KERNEL or not re.fullmatch(within, function):
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return at_opcode

    def at_opcode(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left, finish
        if event == "opcode" and left:
            left -= 1
            if not left:
                finish = interrupt()
        return at_opcode

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        run()
    finally:
        sys.settrace(before)
    return None if left else finish
