"""pykka actors on a real event loop, among tasks and threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pykka import ActorDeadError, ActorRegistry, Timeout

from exai_actors.runtime import ActorSystem, Callback, ManualDriver
from tests.runtime.pykka_api.probes import Recorder, actor_of


async def test_threads_ask_tell_and_stop_as_in_pykka(live_system: ActorSystem) -> None:
    ref = live_system.spawn(Recorder, path="/a")
    actor = actor_of(ref)

    def on_a_thread() -> list[Any]:
        ref.tell("told")
        return [ref.ask("asked"), ref.ask("in time", timeout=10), ref.stop(), ref.stop()]

    assert await asyncio.to_thread(on_a_thread) == ["asked", "in time", True, False]
    assert actor.seen == ["told", "asked", "in time"]


def test_an_unanswered_ask_times_out_by_itself() -> None:
    class StuckDriver(ManualDriver):
        def call_soon(self, callback: Callback, /) -> None:
            """Never run it: the loop is busy with something else."""

    driver = StuckDriver()
    ref = ActorSystem(driver).spawn(Recorder, path="/a")
    unanswered = ref.ask("hello", block=False, timeout=2.0)
    driver.advance(1.9)
    assert not unanswered.done()
    driver.advance(0.1)
    with pytest.raises(Timeout, match=r"2\.0 seconds"):
        unanswered.get()
    with ThreadPoolExecutor(1) as pool, pytest.raises(Timeout):
        pool.submit(ref.ask, "hello", timeout=0.01).result()


async def test_an_ask_of_an_ended_actor_is_an_error_immediately(live_system: ActorSystem) -> None:
    ref = live_system.spawn(Recorder, path="/a")
    assert await ref.stop(block=False) is True
    with pytest.raises(ActorDeadError, match=r"Recorder /a \(incarnation 1\) takes no messages"):
        await asyncio.to_thread(ref.ask, "hello")
    with pytest.raises(ActorDeadError):
        ref.ask("on the loop's own thread as well")


async def test_handlers_run_on_the_loop_in_the_systems_own_context(
    live_system: ActorSystem,
) -> None:
    name = contextvars.ContextVar("name", default="default")
    ref = live_system.spawn(Recorder, path="/a")
    await ref.ask("end the turn that spawning asked for", block=False)
    name.set("the sender's")

    def look() -> tuple[str, Any]:
        return name.get(), asyncio.get_running_loop()

    expected = ("default", asyncio.get_running_loop())
    assert await ref.ask(look, block=False) == expected
    assert await asyncio.to_thread(ref.ask, look) == expected
    came: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    actor_of(ref).schedule(0.001, lambda: came.set_result(look()))
    assert await came == expected


async def test_all_actors_stop_on_the_loop_from_a_handler_and_from_a_thread(
    live_system: ActorSystem,
) -> None:
    ref = live_system.spawn(Recorder, path="/a")
    await ref.ask(live_system.stop_all_nowait, block=False)
    assert await asyncio.to_thread(lambda: live_system.stop_all_nowait().get(timeout=10)) == ()
    assert live_system.paths() == []
    assert ActorRegistry.get_all() == []


async def test_one_wake_up_serves_a_whole_batch_from_another_thread(
    live_system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = live_system.spawn(Recorder, path="/a")
    actor = actor_of(ref)
    await ref.ask("warm", block=False)
    loop = asyncio.get_running_loop()
    wakes: list[object] = []
    threadsafe = loop.call_soon_threadsafe

    def counted(callback: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
        wakes.append(callback)
        return threadsafe(callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)

    def flood() -> None:
        for number in range(1000):
            ref.tell(number)

    sender = threading.Thread(target=flood)
    sender.start()
    sender.join()
    assert len(wakes) == 1
    assert await ref.ask("last", block=False) == "last"
    assert actor.seen == ["warm", *range(1000), "last"]


async def test_a_task_on_another_loop_in_another_thread_can_await_an_answer(
    live_system: ActorSystem,
) -> None:
    ref = live_system.spawn(Recorder, path="/a")

    async def ask() -> str:
        answer: str = await ref.ask("from another loop", block=False)
        return answer

    assert await asyncio.to_thread(asyncio.run, ask()) == "from another loop"
