"""Death watch: Down comes exactly once, for the living and the dead alike."""

from __future__ import annotations

from typing import Any

import pykka
import pytest

from exai_actors.runtime import Down, ExitReason, PathRef
from tests.runtime.probes import ManualSystem, Recorder


def watcher_is_slow(system: ManualSystem) -> None:
    """Have turns so short that the watcher's comes after what else happens."""
    system.scheduler._turn_messages = 1


def downs(actor: Recorder) -> list[Down]:
    return [message for message in actor.seen if isinstance(message, Down)]


def test_a_watcher_is_told_once_that_the_watched_has_ended(system: ManualSystem) -> None:
    _, watcher = system.recorder("/watcher")
    ref, _ = system.recorder("/target")
    watcher.watch(ref, tag="holder 7")
    system.run()
    assert downs(watcher) == []
    ref.tell(ValueError("crash"))
    system.run()
    assert downs(watcher) == [Down("/target", 1, ExitReason.FAILED, "holder 7")]


def test_down_goes_before_what_was_told(system: ManualSystem) -> None:
    watcher_ref, watcher = system.recorder("/watcher")
    ref, _ = system.recorder("/target")
    watcher.watch(ref)
    ref.stop(block=False)
    system.run()
    watcher.seen.clear()
    watcher_ref.tell("told")
    watcher.watch(ref)
    system.run()
    assert watcher.seen == [Down("/target", 1, ExitReason.NORMAL), "told"]


def test_watching_the_dead_tells_at_once_how_it_ended(system: ManualSystem) -> None:
    _, watcher = system.recorder("/watcher")
    ref, _ = system.recorder("/target")
    ref.tell(ValueError("crash"))
    system.run()
    watcher.watch(ref)
    system.run()
    assert downs(watcher) == [Down("/target", 1, ExitReason.FAILED)]


def test_watching_twice_tells_once_with_the_latest_tag(system: ManualSystem) -> None:
    _, watcher = system.recorder("/watcher")
    ref, _ = system.recorder("/target")
    watcher.watch(ref, tag=1)
    watcher.watch(ref, tag=2)
    ref.stop(block=False)
    system.run()
    watcher.watch(ref, tag=3)
    watcher.watch(ref, tag=4)
    system.run()
    assert [down.tag for down in downs(watcher)] == [2, 4]


def test_unwatching_keeps_even_a_notice_on_its_way_from_coming(system: ManualSystem) -> None:
    _, watcher = system.recorder("/watcher")
    dead, _ = system.recorder("/dead")
    dead.stop(block=False)
    system.run()
    living, _ = system.recorder("/living")
    watcher.watch(dead)
    watcher.watch(living)
    watcher.unwatch(dead)
    watcher.unwatch(living)
    watcher.unwatch(living)
    living.stop(block=False)
    system.run()
    assert downs(watcher) == []


def test_several_watchers_are_told_each(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target")
    watchers = [system.recorder(f"/watcher-{number}")[1] for number in range(3)]
    for watcher in watchers:
        watcher.watch(ref)
    ref.stop(block=False)
    system.run()
    assert [len(downs(watcher)) for watcher in watchers] == [1, 1, 1]


def test_a_path_is_watched_for_its_present_incarnation(system: ManualSystem) -> None:
    _, watcher = system.recorder("/watcher")
    ref, _ = system.recorder("/target")
    watcher.watch(ref, tag="by reference")
    watcher.watch(PathRef(system, "/target"), tag="by path")
    ref.stop(block=False)
    system.run()
    assert downs(watcher) == [Down("/target", 1, ExitReason.NORMAL, "by path")]


def test_unwatching_a_path_ends_the_watch_of_every_incarnation_there(
    system: ManualSystem,
) -> None:
    _, watcher = system.recorder("/watcher")
    first, _ = system.recorder("/target")
    watcher.watch(first)
    watcher.watch(PathRef(system, "/nobody"))
    watcher.unwatch(PathRef(system, "/target"))
    watcher.unwatch(PathRef(system, "/nobody"))
    first.stop(block=False)
    system.run()
    assert downs(watcher) == []


def test_a_path_where_nobody_lives_is_down_at_once(system: ManualSystem) -> None:
    _, watcher = system.recorder("/watcher")
    watcher.watch(PathRef(system, "/nobody"), tag="t")
    system.run()
    assert downs(watcher) == [Down("/nobody", 0, ExitReason.NOT_FOUND, "t")]


def test_each_watched_incarnation_of_a_path_is_told_of_once(
    system: ManualSystem,
) -> None:
    stable = PathRef(system, "/target")
    _, watcher = system.recorder("/watcher")

    class LastWish(Recorder):
        def on_stop(self) -> None:
            system.manual.call_soon(restart_and_watch_again)

    def restart_and_watch_again() -> None:
        second = system.spawn(Recorder, path="/target")
        watcher.watch(stable, tag="second")
        second.stop(block=False)

    first = system.spawn(LastWish, path="/target")
    watcher.watch(stable, tag="first")
    watcher_is_slow(system)
    first.stop(block=False)
    system.run()
    assert [(down.incarnation, down.tag) for down in downs(watcher)] == [
        (1, "first"),
        (2, "second"),
    ]


def test_a_watcher_that_has_ended_is_forgotten_by_the_watched(system: ManualSystem) -> None:
    watcher_ref, watcher = system.recorder("/watcher")
    ref, _ = system.recorder("/target")
    watcher.watch(ref)
    watcher_ref.stop(block=False)
    system.run()
    mailbox: Any = ref.actor_inbox
    assert mailbox.watchers == set()
    ref.stop(block=False)
    system.run()
    assert len(system.dead_letters) == 0


def test_an_actor_on_a_thread_or_of_another_system_cannot_be_watched(system: ManualSystem) -> None:
    _, watcher = system.recorder("/watcher")
    elsewhere, _ = ManualSystem().recorder("/elsewhere")
    with pytest.raises(ValueError, match="belongs to another actor system"):
        watcher.watch(elsewhere)
    on_a_thread: Any = pykka.ThreadingActor.start()
    on_a_thread.stop()
    with pytest.raises(TypeError, match="only actors of an actor system"):
        watcher.watch(on_a_thread)
