"""Actors on a real event loop, among tasks and threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from pykka import ActorDeadError, ActorRegistry, Timeout

from exai_actors.runtime import (
    ActorSystem,
    AsyncioDriver,
    DeadLetterReason,
    Exit,
    ExitReason,
    LoopActor,
    ManualDriver,
    WouldBlockLoop,
)
from exai_actors.runtime.driver import Callback
from tests.runtime.probes import Doing, Recorder, actor_of


async def test_a_task_awaits_an_answer(live_system: ActorSystem) -> None:
    ref = live_system.spawn(Recorder, path="/a")
    assert await ref.ask("hello", block=False) == "hello"


async def test_an_unanswered_ask_times_out_by_itself(live_system: ActorSystem) -> None:
    never_started = Recorder().actor_ref
    with pytest.raises(Timeout, match=r"0\.01 seconds"):
        await never_started.ask("hello", block=False, timeout=0.01)


async def test_threads_ask_tell_and_stop_as_in_pykka(live_system: ActorSystem) -> None:
    ref = live_system.spawn(Recorder, path="/a")
    actor = actor_of(ref)

    def on_a_thread() -> list[Any]:
        ref.tell("told")
        return [ref.ask("asked"), ref.ask("in time", timeout=10), ref.stop(), ref.stop()]

    assert await asyncio.to_thread(on_a_thread) == ["asked", "in time", True, False]
    assert actor.seen == ["told", "asked", "in time"]


async def test_a_thread_that_asks_the_dead_gets_an_error(live_system: ActorSystem) -> None:
    ref = live_system.spawn(Recorder, path="/a")
    assert await ref.stop(block=False) is True
    with pytest.raises(ActorDeadError):
        await asyncio.to_thread(ref.ask, "hello")
    with pytest.raises(ActorDeadError):
        ref.ask("the dead answer at once, even on the loop's thread")


async def test_handlers_run_on_the_loop_in_the_systems_own_context(
    live_system: ActorSystem,
) -> None:
    name = contextvars.ContextVar("name", default="nobody's")
    found: list[Any] = []

    def look(actor: Doing, message: Any) -> None:
        found.append((name.get(), asyncio.get_running_loop()))

    ref = live_system.spawn(Doing, on_receive=look, path="/a")
    await ref.ask("the turn that spawning asked for is over", block=False)
    name.set("the teller's")
    await ref.ask("look", block=False)
    await asyncio.to_thread(ref.ask, "look")
    assert found == [("nobody's", asyncio.get_running_loop())] * 3


async def test_a_scheduled_message_comes_by_the_loops_clock(live_system: ActorSystem) -> None:
    came: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def handle(actor: Doing, message: str) -> None:
        came.set_result(message)

    live_system.spawn(
        Doing,
        on_start=lambda actor: actor.schedule(0.001, "later"),
        on_receive=handle,
        path="/a",
    )
    assert await came == "later"


async def test_a_backlog_does_not_keep_the_loop_from_its_other_work() -> None:
    system = ActorSystem(AsyncioDriver(asyncio.get_running_loop()), turn_messages=10)
    order: list[Any] = []
    ref = system.spawn(Doing, on_receive=lambda actor, message: order.append(message), path="/a")
    for number in range(500):
        ref.tell(number)
    while len(order) < 500:
        order.append("loop") if "loop" not in order else None
        await asyncio.sleep(0)
    assert order.index("loop") < 100
    await system.stop_all()


async def test_stop_all_stops_the_last_started_first(live_system: ActorSystem) -> None:
    order: list[str] = []
    for path in ("/a", "/b", "/c"):
        live_system.spawn(Doing, on_stop=lambda actor: order.append(actor.path), path=path)
    assert await live_system.stop_all() == ()
    assert order == ["/c", "/b", "/a"]
    assert live_system.stopping
    assert live_system.paths() == []
    assert ActorRegistry.get_all() == []


def test_stopping_leaves_no_timer_behind() -> None:
    driver = ManualDriver()
    system = ActorSystem(driver)
    system.spawn(Recorder, path="/a")
    stopped = system.begin_stop()
    driver.run_until_idle()
    assert stopped.get() == ()
    assert driver.next_timer() is None


def test_stopping_names_those_that_did_not_stop_in_time() -> None:
    class StuckDriver(ManualDriver):
        def call_soon(self, callback: Callback, /) -> None:
            """Never run it: the loop is busy with something else."""

    driver = StuckDriver()
    system = ActorSystem(driver)
    system.spawn(Recorder, path="/stuck")
    stopped = system.begin_stop(timeout_s=5.0)
    driver.advance(5.0)
    assert stopped.get() == ("/stuck",)


async def test_stop_all_from_a_handler_and_from_a_thread(live_system: ActorSystem) -> None:
    ref = live_system.spawn(
        Doing, on_receive=lambda actor, message: live_system.begin_stop(), path="/a"
    )
    await ref.ask("stop everything", block=False)
    assert await asyncio.to_thread(lambda: live_system.begin_stop().get(timeout=10)) == ()
    assert live_system.paths() == []


async def test_a_supervisor_hears_of_children_that_stop_all_stopped(
    live_system: ActorSystem,
) -> None:
    boss = live_system.spawn(Recorder, path="/boss")
    actor = actor_of(boss)
    live_system.spawn(Recorder, path="/child", supervisor=boss)
    await live_system.stop_all()
    assert [(told.path, told.reason) for told in actor.seen if isinstance(told, Exit)] == [
        ("/child", ExitReason.NORMAL)
    ]


def test_a_loop_closed_before_its_actors_ran_leaves_nobody_waiting() -> None:
    loop = asyncio.new_event_loop()
    system = ActorSystem(AsyncioDriver(loop))
    ref = system.spawn(LoopActor, path="/a")
    unanswered = ref.ask("never handled", block=False)
    loop.close()
    with pytest.raises(ActorDeadError, match="loop was closed"):
        unanswered.get()
    with pytest.raises(ActorDeadError, match="loop was closed"):
        ref.ask("too late")
    assert system.begin_stop().get() == ()
    assert system.paths() == []
    assert not ref.is_alive()


def test_a_closed_loop_turns_told_messages_into_dead_letters() -> None:
    async def leave_behind() -> tuple[ActorSystem, Any]:
        system = ActorSystem(AsyncioDriver(asyncio.get_running_loop()))
        idle = system.spawn(LoopActor, path="/idle")
        await idle.ask("running", block=False)
        return system, idle

    system, idle = asyncio.run(leave_behind())
    idle.tell("first")
    idle.tell("second")
    assert not idle.is_alive()
    assert len(system.dead_letters) == 2
    assert system.dead_letters.counts[DeadLetterReason.DEAD] == 1


async def test_many_threads_and_tasks_all_get_their_own_answers(live_system: ActorSystem) -> None:
    ref = live_system.spawn(Recorder, path="/a")

    def asks(thread: int) -> bool:
        return all(ref.ask((thread, number)) == (thread, number) for number in range(200))

    async def awaits(task: int) -> bool:
        for number in range(200):
            if await ref.ask((task, number), block=False) != (task, number):
                return False
        return True

    answers = await asyncio.gather(
        *(asyncio.to_thread(asks, number) for number in range(4)),
        *(awaits(number) for number in range(4)),
    )
    assert answers == [True] * 8


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


async def test_another_loop_in_another_thread_can_await_an_answer(
    live_system: ActorSystem,
) -> None:
    ref = live_system.spawn(Recorder, path="/a")

    async def ask() -> str:
        answer: str = await ref.ask("from another loop", block=False)
        return answer

    assert await asyncio.to_thread(asyncio.run, ask()) == "from another loop"


async def test_waiting_for_an_ask_is_refused_before_it_is_sent(live_system: ActorSystem) -> None:
    ref = live_system.spawn(Recorder, path="/a")
    actor = actor_of(ref)
    with pytest.raises(WouldBlockLoop, match=r"ask\(block=True\).*/a; use block=False"):
        ref.ask("never sent")
    await ref.ask("sent", block=False)
    assert actor.seen == ["sent"]
