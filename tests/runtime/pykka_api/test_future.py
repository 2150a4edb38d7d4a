"""The future of an ask: settled once, readable from threads and tasks, lazily derived."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, Timeout

from exai_actors.runtime import AsyncioDriver, LoopFuture, ManualDriver, WouldBlockLoop
from exai_actors.runtime.pykka_api.copied_error import copy_error


def settled(value: Any) -> LoopFuture[Any]:
    future: LoopFuture[Any] = LoopFuture()
    future.set(value)
    return future


def failed(error: BaseException) -> LoopFuture[Any]:
    future: LoopFuture[Any] = LoopFuture()
    future.set_exception((type(error), error, None))
    return future


def test_a_value_can_be_read_many_times() -> None:
    future = settled("value")
    assert [future.get(), future.get()] == ["value", "value"]
    assert future.done()
    assert repr(future) == "<LoopFuture done>"
    assert repr(LoopFuture()) == "<LoopFuture pending>"


def test_a_future_is_set_once() -> None:
    for again in (settled(1), failed(ValueError())):
        with pytest.raises(queue.Full):
            again.set(2)
        with pytest.raises(queue.Full):
            again.set_exception((ValueError, ValueError(), None))
        with pytest.raises(queue.Full):
            again.set_get_hook(lambda timeout: 3)
    assert settled(1).settle(2) is False
    with pytest.raises(queue.Full):
        settled(1).map(str).set("2")
    with pytest.raises(queue.Full):
        settled(1).map(str).set_exception((ValueError, ValueError(), None))


def test_the_error_being_handled_is_set_by_default() -> None:
    future: LoopFuture[None] = LoopFuture()
    try:
        raise ValueError("handled")
    except ValueError:
        future.set_exception()
    with pytest.raises(ValueError, match="handled") as caught:
        future.get()
    assert [entry.name for entry in caught.traceback][-1].startswith("test_the_error")


def test_an_error_may_be_given_by_its_class_or_with_another_traceback() -> None:
    future: LoopFuture[None] = LoopFuture()
    future.set_exception((KeyError, None, None))
    with pytest.raises(KeyError):
        future.get()
    try:
        raise ValueError("handled")
    except ValueError as error:
        traceback = error.__traceback__
    future = LoopFuture()
    future.set_exception((LookupError, LookupError(), traceback))
    with pytest.raises(LookupError) as caught:
        future.get()
    assert caught.traceback[-1].name.startswith("test_an_error_may")
    with pytest.raises(ValueError, match="no exception to set"):
        LoopFuture[None]().set_exception((None, None, None))


def test_reading_an_error_often_does_not_grow_its_traceback() -> None:
    future = failed(ValueError("x"))
    depths: list[int] = []
    for _ in range(3):
        with pytest.raises(ValueError, match="x") as caught:
            future.get()
        depths.append(len(caught.traceback))
    assert depths[0] == depths[1] == depths[2]


class Picky(Exception):
    """Cannot be copied the usual way: its constructor takes what ``args`` does not hold."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.detail = detail


class Uncopyable(Exception):
    def __copy__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    "error",
    [ValueError("a", 1), OSError(2, "gone", "file"), SystemExit(3), Picky(7, detail="d")],
    ids=lambda error: type(error).__name__,
)
def test_a_copied_error_says_the_same(error: BaseException) -> None:
    cause = KeyError("cause")
    error.__cause__ = cause
    error.add_note("a note")
    twin = copy_error(error)
    assert twin is not error
    assert type(twin) is type(error)
    assert (str(twin), twin.args) == (str(error), error.args)
    assert vars(twin) == vars(error)
    assert twin.__cause__ is cause
    assert getattr(twin, "errno", None) == getattr(error, "errno", None)


class Stubborn(Exception):
    """Whatever is done to copy it fails, with an error of its own."""

    def __new__(cls, *words: str) -> Stubborn:
        if not words:
            raise LookupError
        return super().__new__(cls)

    def __init__(self, _word: str) -> None:
        super().__init__()

    def __copy__(self) -> Stubborn:
        raise SystemExit(3)


class Frozen(Exception):
    def __setattr__(self, _name: str, _value: object) -> None:
        raise LookupError


@pytest.mark.parametrize(
    "error",
    [Uncopyable(), Stubborn("a"), Frozen()],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_cannot_be_copied_is_handed_out_itself(error: Exception) -> None:
    assert copy_error(error) is error


def test_a_thread_waits_for_the_value() -> None:
    future: LoopFuture[str] = LoopFuture(ManualDriver())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(future.get, timeout=10)
        while not future._callbacks:
            time.sleep(0)
        future.set("value")
        assert waiting.result() == "value"


def test_waiting_ends_after_the_timeout() -> None:
    future: LoopFuture[None] = LoopFuture()
    with pytest.raises(Timeout, match=r"0\.01 seconds"):
        future.get(timeout=0.01)
    assert future._callbacks == []
    with pytest.raises(Timeout):
        LoopFuture[None]().get(timeout=0)


def test_the_loops_own_thread_never_waits() -> None:
    with pytest.raises(WouldBlockLoop, match="would wait forever"):
        LoopFuture[None](ManualDriver()).get()


def test_a_thread_does_not_wait_for_a_loop_that_is_closed() -> None:
    loop = asyncio.new_event_loop()
    future: LoopFuture[None] = LoopFuture(AsyncioDriver(loop))
    loop.close()
    with pytest.raises(ActorDeadError, match="loop was closed"):
        future.get()


def test_a_timeout_on_a_loop_that_is_closed_is_a_dead_actor() -> None:
    loop = asyncio.new_event_loop()
    future: LoopFuture[None] = LoopFuture(AsyncioDriver(loop))
    loop.close()
    future.expire_after(2.0)
    with pytest.raises(ActorDeadError, match="loop was closed"):
        future.get()


def test_a_future_settled_in_time_does_not_expire_and_drops_its_timer() -> None:
    driver = ManualDriver()
    future: LoopFuture[str] = LoopFuture(driver)
    future.expire_after(2.0)
    future.set("in time")
    assert driver.next_timer() is None
    assert future.get() == "in time"


def test_a_future_can_be_made_to_expire_from_another_thread() -> None:
    driver = ManualDriver()
    future: LoopFuture[str] = LoopFuture(driver)
    thread = threading.Thread(target=future.expire_after, args=(1.0,))
    thread.start()
    thread.join()
    driver.run_until_idle()
    driver.advance(1.0)
    with pytest.raises(Timeout):
        future.get()


def test_callbacks_run_once_and_their_errors_do_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future: LoopFuture[int] = LoopFuture()
    got: list[int] = []

    def raising(_: object) -> None:
        raise SystemExit

    def note(done: LoopFuture[int]) -> None:
        got.append(done.get())

    future.add_done_callback(raising)
    future.add_done_callback(note)
    future.add_done_callback(lambda _: future.remove_done_callback(note))
    future.set(1)
    future.add_done_callback(note)
    assert got == [1, 1]
    assert [record.message for record in caplog.records] == ["future.callback_failed"]


def test_map_filter_reduce_and_join_derive_from_values() -> None:
    numbers = settled([3, 1, 2])
    assert numbers.map(sorted).get() == [1, 2, 3]
    assert numbers.filter(lambda number: number > 1).get() == [3, 2]
    assert numbers.reduce(lambda total, number: total + number).get() == 6
    assert numbers.reduce(lambda total, number: total + number, 10).get() == 16
    assert settled([]).reduce(lambda total, number: total + number, 5).get() == 5
    assert settled("a").join(settled("b"), settled("c")).get() == ["a", "b", "c"]


def test_derived_futures_pass_errors_on_and_raise_their_own() -> None:
    with pytest.raises(ValueError, match="input"):
        failed(ValueError("input")).map(str).get()
    with pytest.raises(ZeroDivisionError):
        settled(0).map(lambda number: 1 // number).get()
    with pytest.raises(TypeError):
        settled(1).filter(bool).get()
    with pytest.raises(ValueError, match="second"):
        settled(1).join(failed(ValueError("second"))).get()


def test_a_derived_value_is_computed_once_and_only_when_read() -> None:
    calls: list[int] = []
    source: LoopFuture[int] = LoopFuture()

    def compute(number: int) -> int:
        calls.append(number)
        return number + 1

    derived = source.map(compute)
    source.set(1)
    assert calls == []
    assert [derived.get(), derived.get()] == [2, 2]
    assert calls == [1]


def test_deriving_never_waits_on_the_loops_thread() -> None:
    source: LoopFuture[int] = LoopFuture(ManualDriver())
    derived = source.map(str)
    with pytest.raises(WouldBlockLoop):
        derived.get()
    source.set(1)
    assert derived.get() == "1"


def test_a_get_hook_computes_the_value_on_reading() -> None:
    future: LoopFuture[str] = LoopFuture()
    future.set_get_hook(lambda timeout: f"within {timeout}")
    assert future.get(timeout=3) == "within 3"
    assert future.get() == "within 3"


async def test_awaiting_derived_futures_lets_the_loop_run() -> None:
    first: LoopFuture[int] = LoopFuture()
    second: LoopFuture[int] = LoopFuture()
    asyncio.get_running_loop().call_soon(first.set, 1)
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, second.set, 2)
    assert await first.join(second).map(sum) == 3
    assert await first.map(str) == "1"


async def test_awaiting_a_derived_future_computes_it_on_the_loops_own_thread() -> None:
    threads: set[int] = set()

    def note(*_: object) -> bool:
        threads.add(threading.get_ident())
        return True

    numbers: LoopFuture[Any] = LoopFuture()
    derived = (numbers.map(note), numbers.filter(note), numbers.reduce(note, 0))
    asyncio.get_running_loop().call_soon(numbers.set, [1, 2])
    assert [await each for each in derived] == [True, [1, 2], True]
    assert threads == {threading.get_ident()}


async def test_awaiting_an_error_raises_it() -> None:
    future: LoopFuture[None] = LoopFuture()
    asyncio.get_running_loop().call_soon(future.settle_error, ValueError("late"))
    with pytest.raises(ValueError, match="late"):
        await future
    with pytest.raises(ValueError, match="late"):
        await future


async def test_a_value_set_by_another_thread_wakes_the_task() -> None:
    # In debug mode the loop complains about callbacks that another thread hands it unsafely.
    asyncio.get_running_loop().set_debug(True)
    future: LoopFuture[str] = LoopFuture()
    thread = threading.Thread(target=future.set, args=("from a thread",))
    asyncio.get_running_loop().call_soon(thread.start)
    assert await future == "from a thread"
    thread.join()


async def test_futures_of_other_actors_can_be_joined_without_stalling_the_loop() -> None:
    foreign: pykka.ThreadingFuture[int] = pykka.ThreadingFuture()
    asyncio.get_running_loop().call_soon(foreign.set, 2)
    assert await settled(1).join(foreign) == [1, 2]


async def test_a_cancelled_task_leaves_no_callback_behind() -> None:
    future: LoopFuture[None] = LoopFuture()

    async def wait() -> None:
        await future

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert future._callbacks
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future._callbacks == []
    future.set(None)
