"""Stable paths, incarnation numbers, and who may take a path."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.runtime.kernel.cell import ActorCell
from exai_actors.runtime.kernel.errors import InvalidPath, PathTaken, SystemStopping
from exai_actors.runtime.kernel.path_ref import PathRef
from exai_actors.runtime.kernel.paths import PathHistory
from exai_actors.runtime.kernel.ref import Ref
from tests.runtime.kernel.probes import Doing, ManualSystem, Recorder


def test_a_path_belongs_to_one_living_actor(system: ManualSystem) -> None:
    system.recorder("/a")
    with pytest.raises(PathTaken, match="/a is taken by Recorder /a"):
        system.recorder("/a")


def test_a_path_is_free_again_when_its_actor_has_ended(system: ManualSystem) -> None:
    first = system.ended("/a")
    assert system.resolve("/a") is None
    second = system.recorder("/a").ref
    assert (first.incarnation, second.incarnation) == (1, 2)
    assert system.resolve("/a") is second
    first.tell("for the first")
    assert len(system.dead_letters) == 1


def test_the_path_of_a_stopping_actor_resolves_to_none(system: ManualSystem) -> None:
    found: list[Ref | None] = []
    actor = system.spawn(Doing, "/a", do_stop=lambda: found.append(system.resolve("/a")))
    system.run()
    system.stop(actor.ref)
    assert found == [None]


def test_the_constructor_may_take_the_path_first(system: ManualSystem) -> None:
    class Rival(Recorder):
        def __init__(self, cell: ActorCell) -> None:
            super().__init__(cell)
            system.recorder("/a")

    with pytest.raises(PathTaken, match="in the meantime"):
        system.spawn(Rival, "/a")
    assert system.paths() == ["/a"]


def test_no_incarnation_number_repeats_when_others_used_the_path_in_the_meantime(
    system: ManualSystem,
) -> None:
    class Slow(Recorder):
        def __init__(self, cell: ActorCell) -> None:
            super().__init__(cell)
            for _ in range(2):
                system.ended("/a")

    with pytest.raises(PathTaken, match="left by others in the meantime"):
        system.spawn(Slow, "/a")
    assert system.recorder("/a").ref.incarnation == 3


@pytest.mark.parametrize("path", ["", "a", "a/b", "//", "/a/", "/a//b"])
def test_an_invalid_path_is_refused(system: ManualSystem, path: str) -> None:
    with pytest.raises(InvalidPath, match="write names after slashes"):
        system.recorder(path)


def test_the_root_is_a_path(system: ManualSystem) -> None:
    assert system.resolve("/") is None
    assert system.recorder("/").ref is system.resolve("/")


def test_paths_are_listed_in_the_order_of_starting(system: ManualSystem) -> None:
    for path in ("/b", "/a", "/c"):
        system.recorder(path)
    assert system.paths() == ["/b", "/a", "/c"]


def test_a_path_reference_resolves_to_the_present_incarnation(system: ManualSystem) -> None:
    stable = PathRef(system, "/a")
    assert stable.resolve() is None
    first = system.recorder("/a")
    assert stable.resolve() is first.ref
    system.stop(first.ref)
    second = system.recorder("/a")
    stable.tell_system("hello")
    system.run()
    assert (first.seen, second.seen) == ([], ["hello"])


def test_nothing_is_started_once_the_system_stops(system: ManualSystem) -> None:
    system.begin_shutdown(10.0, lambda alive: None)
    with pytest.raises(SystemStopping, match="/late was not started"):
        system.recorder("/late")


def test_an_actor_under_construction_when_the_system_stops_is_not_started(
    system: ManualSystem,
) -> None:
    class Ending(Recorder):
        def __init__(self, cell: ActorCell) -> None:
            super().__init__(cell)
            system.begin_shutdown(10.0, lambda alive: None)

    with pytest.raises(SystemStopping):
        system.spawn(Ending, "/late")
    assert system.paths() == []


def test_an_actor_started_from_another_thread_runs_on_the_loop_thread(
    system: ManualSystem,
) -> None:
    threads: list[int] = []
    spawner = threading.Thread(
        target=lambda: system.spawn(
            Doing, "/a", do_start=lambda: threads.append(threading.get_ident())
        )
    )
    spawner.start()
    spawner.join()
    system.run()
    assert threads == [threading.get_ident()]


@given(paths=st.lists(st.sampled_from("abcdefgh"), max_size=60))
def test_incarnation_numbers_only_grow_however_little_is_remembered(paths: list[str]) -> None:
    history = PathHistory(capacity=3)
    last: dict[str, int] = {}
    for path in paths:
        incarnation, failed = history.next_incarnation(path)
        assert incarnation > last.get(path, 0)
        last[path] = incarnation
        history.remember(path, incarnation, failed)


def test_the_path_that_ended_longest_ago_is_forgotten_first() -> None:
    history = PathHistory(capacity=2)
    for path, incarnation in (("/a", 1), ("/b", 1), ("/a", 2), ("/c", 1)):
        history.remember(path, incarnation, failed=incarnation)
    assert history.next_incarnation("/a") == (3, 2)
    assert history.next_incarnation("/b") == (2, 0)


def test_a_remembered_path_continues_with_the_next_number() -> None:
    history = PathHistory(capacity=3)
    assert history.next_incarnation("/a") == (1, 0)
    history.remember("/a", 1, 1)
    assert history.next_incarnation("/a") == (2, 1)
