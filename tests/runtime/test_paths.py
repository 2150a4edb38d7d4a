"""Stable paths, incarnation numbers, and references by path."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pykka import ActorDeadError

from exai_actors.runtime import (
    ActorSystem,
    DeadLetterReason,
    InvalidPath,
    LoopActor,
    NoActorSystem,
    Offer,
    PathRef,
    PathTaken,
    SystemStopping,
)
from exai_actors.runtime.path_history import PathHistory
from tests.runtime.probes import Doing, ManualSystem, Recorder


def test_a_path_belongs_to_one_living_actor(system: ManualSystem) -> None:
    system.recorder("/a")
    with pytest.raises(PathTaken, match="/a is taken by Recorder /a"):
        system.recorder("/a")
    assert issubclass(PathTaken, ValueError)


def test_a_path_is_free_again_when_its_actor_has_ended(system: ManualSystem) -> None:
    first, _ = system.recorder("/a")
    first.stop(block=False)
    system.run()
    assert system.resolve("/a") is None
    second, _ = system.recorder("/a")
    assert (first.incarnation, second.incarnation) == (1, 2)
    assert system.resolve("/a") is second


def test_a_path_that_is_stopping_resolves_to_nobody(system: ManualSystem) -> None:
    found: list[Any] = []
    ref = system.spawn(Doing, on_stop=lambda actor: found.append(system.resolve("/a")), path="/a")
    system.run()
    ref.stop(block=False)
    system.run()
    assert found == [None]


def test_the_constructor_may_take_the_path_first(system: ManualSystem) -> None:
    class Rival(Recorder):
        def __init__(self) -> None:
            super().__init__()
            system.recorder("/a")

    with pytest.raises(PathTaken):
        system.spawn(Rival, path="/a")
    assert system.paths() == ["/a"]


def test_no_two_incarnations_have_one_number_though_others_lived_there_meanwhile(
    system: ManualSystem,
) -> None:
    class Slow(Recorder):
        def __init__(self) -> None:
            super().__init__()
            for _ in range(2):
                system.recorder("/a")[0].stop(block=False)
                system.run()

    with pytest.raises(PathTaken, match="left by others meanwhile"):
        system.spawn(Slow, path="/a")
    assert system.recorder("/a")[0].incarnation == 3


@pytest.mark.parametrize("path", ["", "a", "a/b", "//", "/a/", "/a//b"])
def test_what_is_not_a_path_is_refused(system: ManualSystem, path: str) -> None:
    with pytest.raises(InvalidPath, match="write names after slashes"):
        system.recorder(path)


def test_the_root_is_a_path(system: ManualSystem) -> None:
    ref, _ = system.recorder("/")
    assert system.resolve("/") is ref


def test_paths_are_listed_in_the_order_of_starting(system: ManualSystem) -> None:
    for path in ("/b", "/a", "/c"):
        system.recorder(path)
    assert system.paths() == ["/b", "/a", "/c"]


def test_a_path_reference_sends_to_whoever_lives_there(system: ManualSystem) -> None:
    stable = PathRef(system, "/a")
    _, actor = system.recorder("/a")
    stable.tell("told")
    stable.tell_system("system")
    assert stable.offer("offered") is Offer.ACCEPTED
    answer = stable.ask("asked", block=False)
    system.run()
    assert actor.seen == ["system", "told", "offered", "asked"]
    assert answer.get() == "asked"
    assert stable.is_alive()
    assert stable.resolve() is actor.actor_ref


def test_a_path_reference_to_nobody_makes_dead_letters(system: ManualSystem) -> None:
    stable = PathRef(system, "/nobody")
    stable.tell("told")
    stable.tell_system("system")
    assert stable.offer("offered") is Offer.CLOSED
    with pytest.raises(ActorDeadError, match="nobody lives at /nobody"):
        stable.ask("asked")
    assert system.dead_letters.counts[DeadLetterReason.DEAD] == 2
    assert (stable.is_alive(), stable.incarnation) == (False, 0)


def test_path_references_are_equal_by_system_and_path(system: ManualSystem) -> None:
    assert PathRef(system, "/a") == PathRef(system, "/a")
    assert hash(PathRef(system, "/a")) == hash(PathRef(system, "/a"))
    assert PathRef(system, "/a") != PathRef(system, "/b")
    assert PathRef(system, "/a") != PathRef(ManualSystem(), "/a")
    assert PathRef(system, "/a") != "/a"


def test_a_name_taken_over_between_resolving_and_sending_reaches_the_older(
    system: ManualSystem,
) -> None:
    first, _ = system.recorder("/a")
    first.stop(block=False)
    system.run()
    _, second = system.recorder("/a")
    first.tell("for the first")
    system.run()
    assert second.seen == []
    assert len(system.dead_letters) == 1


def test_an_actor_knows_where_it_lives(system: ManualSystem) -> None:
    ref, actor = system.recorder("/a/b")
    assert (actor.path, actor.incarnation) == ("/a/b", 1)
    assert actor.system is system
    assert actor.actor_ref is ref
    assert str(actor) == "Recorder /a/b (incarnation 1)"


def test_an_actor_made_by_hand_handles_messages_without_being_started() -> None:
    actor = Recorder()
    assert actor.on_receive("hello") == "hello"
    assert actor.system.paths() == []
    assert actor.actor_ref.is_alive()
    actor.actor_ref.tell("kept, as nothing runs it")
    timer = actor.schedule(1.0, "later")
    timer.cancel()


def test_an_actor_can_be_made_for_a_system_without_being_started(system: ManualSystem) -> None:
    actor = system.construct(Recorder, path="/made")
    assert (actor.system, actor.path) == (system, "/made")
    assert actor.on_receive("hello") == "hello"
    actor.schedule(1.0, "later")
    actor.watch(PathRef(system, "/nobody"))
    system.manual.advance(2.0)
    assert actor.seen == ["hello"]
    assert system.paths() == []
    system.recorder("/made")


def test_an_actor_made_by_hand_belongs_to_the_current_system(system: ManualSystem) -> None:
    system.make_current()
    assert ActorSystem.current() is system
    actor = Recorder()
    assert actor.system is system
    assert system.paths() == []


def test_pykkas_start_needs_a_current_system() -> None:
    with pytest.raises(NoActorSystem, match="make_current"):
        Recorder.start()
    with pytest.raises(NoActorSystem):
        ActorSystem.current()


def test_nothing_is_spawned_once_the_system_stops(system: ManualSystem) -> None:
    system.make_current()
    system.begin_stop()
    with pytest.raises(SystemStopping, match="/late was not started"):
        system.recorder("/late")
    with pytest.raises(NoActorSystem):
        ActorSystem.current()


def test_an_actor_under_construction_when_the_system_stops_is_not_started(
    system: ManualSystem,
) -> None:
    class Ending(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.system.begin_stop()

    with pytest.raises(SystemStopping):
        system.spawn(Ending, path="/late")
    assert system.paths() == []


def test_actors_can_be_spawned_from_another_thread(system: ManualSystem) -> None:
    class Picky(LoopActor):
        started_in = 0

        def on_start(self) -> None:
            Picky.started_in = threading.get_ident()

    spawner = threading.Thread(target=lambda: system.spawn(Picky, path="/a"))
    spawner.start()
    spawner.join()
    system.run()
    assert Picky.started_in == threading.get_ident()


@given(paths=st.lists(st.sampled_from("abcdefgh"), max_size=60))
def test_incarnations_of_a_path_only_grow_however_little_is_remembered(paths: list[str]) -> None:
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


def test_a_remembered_path_counts_on_by_one() -> None:
    history = PathHistory(capacity=3)
    assert history.next_incarnation("/a") == (1, 0)
    history.remember("/a", 1, 1)
    assert history.next_incarnation("/a") == (2, 1)
