"""Observers: told on the loop thread, never able to hurt anyone, limited in number."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from exai_actors.runtime import ActorFailed, ActorStarted, DeadLetter, TooManyListeners
from exai_actors.runtime.events import FOREIGN_EVENT_LIMIT, LISTENER_LIMIT
from tests.runtime.probes import ManualSystem


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
