"""Runs a piece of kernel code again and again, each time interrupted at a later point.

The points are all bytecodes of the kernel, the finest places at which another thread can come in.
So each gap between two threads is met, without the tests knowing where the gaps are.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

import exai_actors.runtime.kernel

KERNEL = str(Path(exai_actors.runtime.kernel.__file__).parent)

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

    def visit(code: CodeType) -> None:
        nonlocal left, finish
        if left and _matches(within, code.co_filename, code.co_name):
            left -= 1
            if not left:
                finish = interrupt()

    with _each_bytecode(visit):
        run()
    return None if left else finish


@cache
def _matches(within: str, file: str, function: str) -> bool:
    return re.fullmatch(within, f"{Path(file).name}:{function}") is not None


def _is_of_the_kernel(code: CodeType) -> bool:
    return code.co_filename.startswith(KERNEL)


if sys.version_info >= (3, 12):

    @contextmanager
    def _each_bytecode(visit: Callable[[CodeType], None]) -> Iterator[None]:
        """Call ``visit`` before each bytecode of the kernel that this thread runs."""
        monitoring, tool, thread = sys.monitoring, 4, threading.get_ident()

        def at_instruction(code: CodeType, _offset: int) -> Any:
            if not _is_of_the_kernel(code):
                return monitoring.DISABLE
            if threading.get_ident() == thread:
                visit(code)
            return None

        monitoring.use_tool_id(tool, __name__)
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, at_instruction)
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)
        try:
            yield
        finally:
            monitoring.set_events(tool, monitoring.events.NO_EVENTS)
            monitoring.free_tool_id(tool)

else:

    @contextmanager
    def _each_bytecode(visit: Callable[[CodeType], None]) -> Iterator[None]:
        """Call ``visit`` before each bytecode of the kernel that this thread runs."""

        def at_call(frame: FrameType, _event: str, _arg: Any) -> Any:
            if not _is_of_the_kernel(frame.f_code):
                return None
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
            return at_opcode

        def at_opcode(frame: FrameType, event: str, _arg: Any) -> Any:
            if event == "opcode":
                visit(frame.f_code)
            return at_opcode

        before = sys.gettrace()
        sys.settrace(at_call)
        try:
            yield
        finally:
            sys.settrace(before)
