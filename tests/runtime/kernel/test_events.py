"""Listeners: called on the loop thread, and never able to harm an actor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from exai_actors.runtime.kernel.events import (
    FOREIGN_EVENT_LIMIT,
    ActorFailed,
    ActorStarted,
    ActorStopped,
    DeadLetter,
    Event,
    Listener,
)
from tests.runtime.kernel.probes import ManualSystem, Recorder


def test_a_listener_can_be_removed(system: ManualSystem) -> None:
    got: list[Any] = []
    remove = system.on_event(got.append)
    system.recorder("/a")
    remove()
    remove()
    system.recorder("/b")
    assert [event.path for event in got] == ["/a"]


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1)])
def test_a_listener_that_raises_harms_no_other_and_is_logged_once(
    system: ManualSystem, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def raising(event: object) -> None:
        raise error

    got: list[Any] = []
    system.on_event(raising)
    system.on_event(got.append)
    for path in ("/a", "/b"):
        system.recorder(path)
    assert [event.path for event in got] == ["/a", "/b"]
    assert [record.message for record in caplog.records] == ["listener.failed"]


def test_a_listener_that_removes_itself_and_raises_is_gone(system: ManualSystem) -> None:
    calls: list[Event] = []

    def once(event: Event) -> None:
        calls.append(event)
        remove()
        raise ValueError

    remove = system.on_event(once)
    system.recorder("/a")
    system.recorder("/b")
    assert len(calls) == 1


def test_events_of_other_threads_are_published_on_the_loop_thread(system: ManualSystem) -> None:
    threads: list[int] = []
    system.on_event(lambda event: threads.append(threading.get_ident()))
    ref = system.ended("/a")
    threads.clear()

    def flood() -> None:
        for _ in range(FOREIGN_EVENT_LIMIT + 10):
            ref.tell("late")

    sender = threading.Thread(target=flood)
    sender.start()
    sender.join()
    assert threads == []
    system.run()
    assert threads == [threading.get_ident()] * FOREIGN_EVENT_LIMIT
    assert len(system.events_of(DeadLetter)) == FOREIGN_EVENT_LIMIT
    assert len(system.dead_letters) == FOREIGN_EVENT_LIMIT + 10


def test_a_listener_can_leave_out_first_starts_and_normal_ends(system: ManualSystem) -> None:
    seen: list[Event] = []
    remove = system.on_event(seen.append, ordinary=False)
    system.stop(system.recorder("/a").ref)
    system.recorder("/b").ref.tell(ValueError("crash"))
    system.run()
    assert [type(event) for event in seen] == [ActorFailed]
    system.recorder("/b")
    system.run()
    assert [type(event) for event in seen] == [ActorFailed, ActorStarted]
    remove()
    assert len(system.events_of(ActorStarted)) == 3
    assert len(system.events_of(ActorStopped)) == 1


def test_a_restart_is_no_ordinary_start() -> None:
    class Quiet(ManualSystem):
        def on_event(self, listener: Listener, *, ordinary: bool = True) -> Callable[[], None]:
            return super().on_event(listener, ordinary=False)

    system = Quiet()
    system.recorder("/a").ref.tell(ValueError("crash"))
    system.run()
    system.stop(system.recorder("/a").ref)
    assert [type(event) for event in system.published] == [ActorFailed, ActorStarted]


def test_a_listener_may_send_messages_and_start_actors(system: ManualSystem) -> None:
    log = system.recorder("/log")

    def react(event: object) -> None:
        if isinstance(event, ActorFailed):
            log.ref.tell(event)
            system.spawn(Recorder, "/replacement")

    system.on_event(react)
    system.recorder("/a").ref.tell(ValueError("crash"))
    system.run()
    assert [type(message) for message in log.seen] == [ActorFailed]
    assert "/replacement" in {event.path for event in system.events_of(ActorStarted)}


def interrupted_once(system: ManualSystem) -> Callable[[Event], None]:
    """A listener that gets a Ctrl-C and is removed."""

    def struck(_event: Event) -> None:
        remove()
        raise KeyboardInterrupt

    remove = system.on_event(struck)
    return struck


def test_ctrl_c_in_a_listener_reaches_the_loop_and_harms_no_actor(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    interrupted_once(system)
    child = system.spawn(Recorder, "/child", supervisor=boss.ref)
    with pytest.raises(KeyboardInterrupt):
        system.run()
    system.run()
    assert child.hooks == ["start"]
    interrupted_once(system)
    child.ref.tell(ValueError("crash"))
    with pytest.raises(KeyboardInterrupt):
        system.run()
    system.run()
    assert len(boss.seen) == 1


def test_ctrl_c_in_a_listener_to_another_threads_event_ends_no_turns(
    system: ManualSystem,
) -> None:
    actor, ended = system.recorder("/a"), system.ended("/b")
    interrupted_once(system)
    sender = threading.Thread(target=ended.tell, args=("lost",))
    sender.start()
    sender.join()
    with pytest.raises(KeyboardInterrupt):
        system.run()
    actor.ref.tell("after")
    system.run()
    assert actor.seen == ["after"]
