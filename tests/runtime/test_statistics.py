"""What is seen of actors without asking them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from exai_actors.runtime import ActorStatistics
from tests.runtime.probes import Doing, ManualSystem


def seen(system: ManualSystem, path: str) -> ActorStatistics:
    statistics = system.statistics_of(path)
    assert statistics is not None
    return statistics


def test_an_idle_actor(system: ManualSystem) -> None:
    system.recorder("/a", mailbox_limit=7)
    assert seen(system, "/a") == ActorStatistics(
        path="/a",
        incarnation=1,
        actor_class="Recorder",
        state="idle",
        user_depth=0,
        system_depth=0,
        mailbox_limit=7,
        oldest_age_s=0.0,
        current_message=None,
        current_for_s=None,
        processed=0,
        failed=0,
        refused=0,
        handler_s_total=0.0,
        handler_s_max=0.0,
    )


def test_lane_depths_and_the_age_of_what_waits(system: ManualSystem) -> None:
    ref, _ = system.recorder("/a")
    ref.tell("one")
    ref.tell("two")
    ref.tell_system("three")
    system.manual.pass_time(3.0)
    statistics = seen(system, "/a")
    assert (statistics.user_depth, statistics.system_depth) == (2, 1)
    assert statistics.oldest_age_s == 3.0
    assert statistics.state == "ready"


def test_the_age_is_that_of_the_backlog_and_not_of_the_actor(system: ManualSystem) -> None:
    def work(actor: Doing, message: Any) -> None:
        system.manual.pass_time(1.0)
        if message:
            actor.actor_ref.tell(message - 1)

    ref = system.spawn(Doing, on_receive=work, path="/a")
    ages: list[float] = []

    def look() -> None:
        ages.append(seen(system, "/a").oldest_age_s)
        if len(ages) < 40:
            system.manual.call_soon(look)

    ref.tell(40)
    ref.tell(40)
    system.manual.call_soon(look)
    system.run()
    assert 1.0 <= max(ages) <= 5.0


def test_the_message_being_handled_and_since_when(system: ManualSystem) -> None:
    found: list[ActorStatistics] = []

    def handle(actor: Doing, message: Any) -> None:
        system.manual.pass_time(0.5)
        found.append(seen(system, "/a"))

    ref = system.spawn(Doing, on_receive=handle, path="/a")
    answer = ref.ask(b"bytes", block=False)
    system.run()
    assert answer.done()
    (statistics,) = found
    assert statistics.state == "busy"
    assert (statistics.current_message, statistics.current_for_s) == ("bytes", 0.5)


def test_none_is_a_message_like_any_other(system: ManualSystem) -> None:
    found: list[ActorStatistics] = []
    system.spawn(
        Doing, on_receive=lambda actor, message: found.append(seen(system, "/a")), path="/a"
    ).tell(None)
    system.run()
    (statistics,) = found
    assert (statistics.state, statistics.current_message) == ("busy", "NoneType")
    assert statistics.processed == 1


def test_a_stuck_actor_can_be_looked_at_from_another_thread(system: ManualSystem) -> None:
    found: list[ActorStatistics] = []

    def stuck(actor: Doing, message: Any) -> None:
        looker = threading.Thread(target=lambda: found.extend(system.statistics()))
        looker.start()
        looker.join()

    system.spawn(Doing, on_receive=stuck, path="/a").tell("poison")
    system.run()
    assert [(each.path, each.current_message) for each in found] == [("/a", "str")]


def test_what_was_processed_failed_and_took_time(system: ManualSystem) -> None:
    def handle(actor: Doing, message: float) -> None:
        system.manual.pass_time(message)
        if message == 3.0:
            raise ValueError

    for _ in range(2):
        ref = system.spawn(Doing, on_receive=handle, path="/a")
        ref.tell(3.0)
        system.run()
    ref = system.spawn(Doing, on_receive=handle, path="/a")
    for seconds in (1.0, 2.0):
        ref.tell(seconds)
        system.run()
    statistics = seen(system, "/a")
    assert (statistics.incarnation, statistics.failed, statistics.processed) == (3, 2, 2)
    assert statistics.handler_s_total == pytest.approx(3.0)
    assert statistics.handler_s_max == pytest.approx(2.0)


def test_the_longest_handler_is_never_claimed_to_be_longer_than_is_known(
    system: ManualSystem,
) -> None:
    ref = system.spawn(
        Doing, on_receive=lambda actor, message: system.manual.pass_time(message), path="/a"
    )
    for _ in range(100):
        ref.tell(0.0)
    system.run()
    for _ in range(4):
        ref.tell(0.0004)
    system.run()
    statistics = seen(system, "/a")
    assert statistics.handler_s_total == pytest.approx(0.0016)
    assert statistics.handler_s_max == pytest.approx(0.0004)


def test_the_states_of_a_life(system: ManualSystem) -> None:
    states: list[str] = []

    def note(_: object = None) -> None:
        states.append(seen(system, "/a").state)

    ref = system.spawn(Doing, on_stop=note, path="/a")
    note()
    system.run()
    note()
    ref.tell("hello")
    note()
    ref.drain()
    note()
    system.run()
    assert states == ["starting", "idle", "ready", "draining", "stopping"]
    assert system.statistics_of("/a") is None


def test_everybodys_statistics_in_the_order_of_starting(system: ManualSystem) -> None:
    for path in ("/b", "/a"):
        system.recorder(path)
    assert [each.path for each in system.statistics()] == ["/b", "/a"]
