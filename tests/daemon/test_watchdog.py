from __future__ import annotations

import asyncio
import errno
import sys
import threading
from collections.abc import Callable
from subprocess import run
from typing import Any

import pytest

from exai_actors.daemon import watchdog
from exai_actors.daemon.watchdog import OutOfMemory, Stall, lacks_memory, watching


def test_a_loop_that_runs_does_not_stall() -> None:
    stall = Stall(3)
    for _ in range(10):
        stall.beat()
        assert not stall.is_over()


def test_a_loop_that_does_not_run_for_all_looks_has_stalled() -> None:
    stall = Stall(3)
    stall.beat()
    assert [stall.is_over() for _ in range(4)] == [False, False, False, True]


def test_one_beat_starts_the_count_again() -> None:
    stall = Stall(2)
    assert not stall.is_over()
    stall.beat()
    assert [stall.is_over() for _ in range(3)] == [False, False, True]


async def test_memory_errors_in_the_loop_are_noted_once_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    causes: list[str] = []
    memory = OutOfMemory(causes.append)
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        memory.handle(loop, {"message": "in a callback", "exception": MemoryError()})
    assert causes == ["MemoryError in the event loop"]
    assert memory.has_happened
    assert caplog.records == []
    memory.handle(loop, {"message": "in a callback", "exception": ValueError("x")})
    assert len(caplog.records) == 1


class Ends:
    """Collects the causes for which the process would end."""

    def __init__(self) -> None:
        self.gave_up: asyncio.Queue[str] = asyncio.Queue()
        self.killed: list[str] = []
        self.is_killed = threading.Event()

    def kill(self, cause: str) -> None:
        self.killed.append(cause)
        self.is_killed.set()

    def watching(self, resident: Callable[[], int] = lambda: 0, **more: Any) -> Any:
        settings: dict[str, Any] = {"stall_s": 0.0, "available": 100, **more}
        return watching(
            resident=resident, give_up=self.gave_up.put_nowait, kill=self.kill, **settings
        )


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_TICK_S", 0.001)
    monkeypatch.setattr(watchdog, "_GRACE_S", 0.005)


async def test_used_up_memory_asks_for_the_end_and_then_kills() -> None:
    ends = Ends()
    with ends.watching(resident=lambda: 96):
        assert await ends.gave_up.get() == "the memory of the process is used up"
        await asyncio.to_thread(ends.is_killed.wait)
    assert ends.killed == ["out of memory, and unable to end in order"]


async def test_a_memory_error_in_a_callback_asks_for_the_end() -> None:
    def fail() -> None:
        raise MemoryError

    ends = Ends()
    with ends.watching():
        asyncio.get_running_loop().call_soon(fail)
        assert await ends.gave_up.get() == "MemoryError in the event loop"


async def test_a_blocked_loop_is_killed() -> None:
    ends = Ends()
    with ends.watching(stall_s=0.003):
        assert ends.is_killed.wait(10)
    assert "stood still" in ends.killed[0]


async def test_after_the_block_nothing_is_watched() -> None:
    ends = Ends()
    before = set(threading.enumerate())
    # The block itself may take as long as it likes: another program may have the processor.
    with ends.watching(stall_s=3_600.0, resident=lambda: 10):
        pass
    for thread in set(threading.enumerate()) - before:
        await asyncio.to_thread(thread.join)
    assert ends.killed == []


END = """
import threading
from exai_actors.daemon.watchdog import end_process, end_within
{call}
threading.Event().wait()
"""


@pytest.mark.parametrize("call", ["end_process(12, 'it hangs')", "end_within(0.01, 12)"])
def test_a_process_that_waits_for_ever_ends_with_its_code(call: str) -> None:
    program = [sys.executable, "-c", END.format(call=call)]
    ended = run(program, capture_output=True, text=True, check=False)
    assert ended.returncode == 12
    assert ("it hangs" in ended.stderr) == ("it hangs" in call)


WITHOUT_THREADS = """
import threading

def refuse(self):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
"""


def test_a_process_that_has_no_memory_for_a_thread_ends_with_its_code() -> None:
    program = [sys.executable, "-c", WITHOUT_THREADS + END.format(call="end_within(3600, 12)")]
    ended = run(program, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (12, "")


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("event loop is closed"), False),
        (OSError(errno.ENOENT, "No such file"), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
)
def test_errors_of_a_process_without_memory_are_known(
    error: BaseException | None, lacking: bool
) -> None:
    assert lacks_memory(error) is lacking
