"""Stopping a whole system, and loops that are closed or stuck."""

from __future__ import annotations

import asyncio

import pytest

from exai_actors.runtime.kernel.driver import AsyncioDriver, Callback
from exai_actors.runtime.kernel.events import ActorStopped, DeadLetterReason
from exai_actors.runtime.kernel.manual_driver import ManualDriver
from exai_actors.runtime.kernel.ref import Ref
from exai_actors.runtime.kernel.signals import ExitReason
from exai_actors.runtime.kernel.system import System
from tests.runtime.kernel.probes import Doing, ManualSystem, Recorder, ask


def spawn(system: System[Ref], path: str) -> Ref:
    return system.start(Recorder, Recorder, path=path, mailbox_limit=10)


def test_the_last_started_actor_stops_first(system: ManualSystem) -> None:
    order: list[str] = []
    for path in ("/a", "/b", "/c"):
        system.spawn(Doing, path, do_stop=lambda path=path: order.append(path))
    alive: list[tuple[str, ...]] = []
    system.begin_shutdown(10.0, alive.append)
    assert system.stopping
    system.run()
    assert (order, alive) == (["/c", "/b", "/a"], [()])
    assert system.manual.next_timer() is None


def test_an_actor_that_stopped_by_itself_is_passed_over(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    child = system.recorder("/child", supervisor=boss.ref)
    other = system.recorder("/other")
    alive: list[tuple[str, ...]] = []
    other.ref.tell_system(lambda: child.ref.tell_system(ValueError("crash")))
    system.begin_shutdown(10.0, alive.append)
    system.run()
    assert alive == [()]
    assert len(boss.seen) == 1


def test_actors_that_did_not_stop_in_time_are_named() -> None:
    class StuckDriver(ManualDriver):
        def call_soon(self, callback: Callback, /) -> None:
            """Never run it: the loop is busy with something else."""

    driver = StuckDriver()
    system = System(driver, Ref)
    spawn(system, "/stuck")
    alive: list[tuple[str, ...]] = []
    system.begin_shutdown(5.0, alive.append)
    driver.advance(5.0)
    assert alive == [("/stuck",)]


@pytest.mark.parametrize("closed_before", ["the start", "the next message"])
def test_a_closed_loop_abandons_its_actors(closed_before: str) -> None:
    loop = asyncio.new_event_loop()
    system = System(AsyncioDriver(loop), Ref)
    events: list[object] = []
    system.on_event(events.append)
    ref = spawn(system, "/a")
    answers = [ask(ref, "waiting")]
    if closed_before == "the next message":
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    answers.append(ask(ref, "too late"))
    ref.tell("too late")
    alive: list[tuple[str, ...]] = []
    system.begin_shutdown(10.0, alive.append)
    assert alive == [()]
    assert not ref.is_alive()
    assert answers[1].kind == "dead"
    assert answers[0].kind == ("dead" if closed_before == "the start" else "value")
    assert system.paths() == []
    assert system.dead_letters.counts[DeadLetterReason.FULL] == 0
    assert len(system.dead_letters) == 1
    if closed_before == "the next message":
        assert ref._cell.exit_reason is ExitReason.ABANDONED
    assert [type(event) for event in events].count(ActorStopped) == 0
