"""Death watch: Down comes exactly once, whether the actor is alive or has ended."""

from __future__ import annotations

import pytest

from exai_actors.runtime.kernel.signals import Down, ExitReason
from tests.runtime.kernel.probes import ManualSystem


def test_a_watcher_gets_one_down_when_the_watched_actor_ends(system: ManualSystem) -> None:
    watcher, target = system.recorder("/watcher"), system.recorder("/target")
    watcher.watch(target.ref, tag="holder 7")
    system.run()
    assert watcher.seen == []
    target.ref.tell(ValueError("crash"))
    system.run()
    assert watcher.seen == [Down("/target", 1, ExitReason.FAILED, "holder 7")]


def test_watching_an_actor_that_has_ended_gives_its_reason_immediately(
    system: ManualSystem,
) -> None:
    watcher, target = system.recorder("/watcher"), system.recorder("/target")
    target.ref.tell(ValueError("crash"))
    system.run()
    watcher.ref.tell("user message")
    watcher.watch(target.ref)
    system.run()
    assert watcher.seen == [Down("/target", 1, ExitReason.FAILED, None), "user message"]


def test_a_path_without_an_actor_is_down_immediately(system: ManualSystem) -> None:
    watcher = system.recorder("/watcher")
    watcher.watch("/nowhere", tag="t")
    system.run()
    assert watcher.seen == [Down("/nowhere", 0, ExitReason.NOT_FOUND, "t")]


def test_watching_twice_gives_one_down_with_the_latest_tag(system: ManualSystem) -> None:
    watcher, target = system.recorder("/watcher"), system.recorder("/target")
    watcher.watch(target.ref, tag=1)
    watcher.watch(target.ref, tag=2)
    system.stop(target.ref)
    watcher.watch(target.ref, tag=3)
    watcher.watch(target.ref, tag=4)
    system.run()
    assert [down.tag for down in watcher.seen] == [2, 4]


def test_each_of_several_watchers_gets_a_down(system: ManualSystem) -> None:
    target = system.recorder("/target")
    watchers = [system.recorder(f"/watcher-{number}") for number in range(3)]
    for watcher in watchers:
        watcher.watch(target.ref)
    system.stop(target.ref)
    assert [len(watcher.seen) for watcher in watchers] == [1, 1, 1]


def test_incarnations_of_one_path_are_watched_separately(system: ManualSystem) -> None:
    watcher = system.recorder("/watcher")
    for tag in ("first", "second"):
        target = system.recorder("/target")
        watcher.watch(target.ref, tag)
        target.ref.tell_system(ValueError("crash"))
        system.run()
    assert [(down.incarnation, down.tag) for down in watcher.seen] == [(1, "first"), (2, "second")]


def test_a_watch_lets_go_of_both_sides_when_the_target_ends(system: ManualSystem) -> None:
    watcher, target = system.recorder("/watcher"), system.recorder("/target")
    watcher.watch(target.ref)
    assert target.cell.watchers
    system.stop(target.ref)
    assert not target.cell.watchers
    assert not watcher.cell.watching


@pytest.mark.parametrize("watchers", [1, 2, 3])
def test_each_of_several_watchers_gets_its_notice_unless_it_has_ended(
    watchers: int, system: ManualSystem
) -> None:
    target, gone = system.recorder("/target"), system.recorder("/gone")
    several = [system.recorder(f"/watcher-{number}") for number in range(watchers)]
    for watcher in (*several[:1], gone, *several):
        watcher.watch(target.ref)
    system.stop(gone.ref)
    system.stop(target.ref)
    assert [[down.path for down in watcher.seen] for watcher in several] == [["/target"]] * watchers
    assert gone.seen == []
    assert not target.cell.watchers


def test_a_watch_lets_go_of_both_sides_when_the_watcher_ends(system: ManualSystem) -> None:
    watcher, target = system.recorder("/watcher"), system.recorder("/target")
    watcher.watch(target.ref)
    system.stop(watcher.ref)
    assert not target.cell.watchers
    assert not watcher.cell.watching
    system.stop(target.ref)
    assert len(system.dead_letters) == 0
