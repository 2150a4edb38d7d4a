"""Observers: told on the loop thread, never able to hurt anyone, limited in number."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from exai_actors.runtime import (
    ActorFailed,
    ActorStarted,
    DeadLetter,
    Event,
    Exit,
    PathRef,
    TooManyListeners,
)
from exai_actors.runtime.events import FOREIGN_EVENT_LIMIT, LISTENER_LIMIT
from tests.runtime.probes import ManualSystem, Recorder, actor_of


def test_a_listener_can_be_removed(system: ManualSystem) -> None:
    told: list[Any] = []
    remove = system.on_event(told.append)
    system.recorder("/a")
    remove()
    remove()
    system.recorder("/b")
    assert [event.path for event in told] == ["/a"]


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1)])
def test_a_listener_that_raises_hurts_nobody_and_is_logged_once(
    system: ManualSystem, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def raising(event: object) -> None:
        raise error

    told: list[Any] = []
    system.on_event(raising)
    system.on_event(told.append)
    with caplog.at_level(logging.ERROR):
        for path in ("/a", "/b"):
            system.recorder(path)
    assert [event.path for event in told] == ["/a", "/b"]
    assert len([record for record in caplog.records if "listener" in record.message]) == 1


def test_the_number_of_listeners_is_limited() -> None:
    system = ManualSystem()
    listeners: list[Any] = [[].append for _ in range(LISTENER_LIMIT - 1)]
    for listener in listeners:
        system.on_event(listener)
    with pytest.raises(TooManyListeners, match=f"{LISTENER_LIMIT} event listeners"):
        system.on_event(print)
    system.on_event(listeners[0])


def test_events_of_other_threads_are_told_on_the_loop_thread(system: ManualSystem) -> None:
    threads: list[int] = []
    system.on_event(lambda event: threads.append(threading.get_ident()))
    ref, _ = system.recorder("/a")
    ref.stop(block=False)
    system.run()
    threads.clear()

    def flood() -> None:
        for _ in range(FOREIGN_EVENT_LIMIT + 10):
            ref.tell("late")

    sender = threading.Thread(target=flood)
    sender.start()
    sender.join()
    assert threads == []
    system.run()
    assert set(threads) == {threading.get_ident()}
    assert len(threads) == FOREIGN_EVENT_LIMIT
    assert len(system.events_of(DeadLetter)) == FOREIGN_EVENT_LIMIT
    assert len(system.dead_letters) == FOREIGN_EVENT_LIMIT + 10


def test_a_listener_may_tell_and_spawn(system: ManualSystem) -> None:
    _, actor = system.recorder("/log")

    def react(event: object) -> None:
        if isinstance(event, ActorFailed):
            actor.actor_ref.tell(event)
            system.spawn(type(actor), path="/replacement")

    system.on_event(react)
    ref, _ = system.recorder("/a")
    ref.tell(ValueError("crash"))
    system.run()
    assert [type(message) for message in actor.seen] == [ActorFailed]
    assert "/replacement" in {event.path for event in system.events_of(ActorStarted)}


def test_ctrl_c_in_a_listener_reaches_the_loop_and_harms_no_actor(system: ManualSystem) -> None:
    def struck(_event: Event) -> None:
        remove()
        raise KeyboardInterrupt

    boss_ref, boss = system.recorder("/boss")
    remove = system.on_event(struck)
    ref = system.spawn(Recorder, path="/child", supervisor=boss_ref)
    child = actor_of(ref)
    with pytest.raises(KeyboardInterrupt):
        system.run()
    system.run()
    assert child.hooks == ["start"]
    remove = system.on_event(struck)
    ref.tell(ValueError("crash"))
    with pytest.raises(KeyboardInterrupt):
        system.run()
    system.run()
    assert [type(told) for told in boss.seen] == [Exit]


def test_ctrl_c_in_a_listener_of_another_threads_event_stops_no_turns(
    system: ManualSystem,
) -> None:
    def struck(_event: Event) -> None:
        remove()
        raise KeyboardInterrupt

    ref, actor = system.recorder("/a")
    remove = system.on_event(struck)
    thread = threading.Thread(target=PathRef(system, "/nobody").tell, args=("lost",))
    thread.start()
    thread.join()
    with pytest.raises(KeyboardInterrupt):
        system.run()
    ref.tell("after")
    system.run()
    assert actor.seen == ["after"]
