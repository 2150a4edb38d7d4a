"""A suspended actor: its user lane rests, its system lane does not."""

from __future__ import annotations

import pytest

from exai_actors.runtime.kernel.requests import request_stop
from exai_actors.runtime.kernel.signals import Exit, ExitReason, Started
from tests.runtime.kernel.probes import ManualSystem, Recorder


def test_a_supervisor_gets_one_started_before_anything_else(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    child = system.recorder("/child", supervisor=boss.ref)
    assert boss.started == [Started("/child", child.ref.incarnation)]


def test_a_start_that_fails_is_not_acknowledged(system: ManualSystem) -> None:
    def failing() -> None:
        raise ValueError("planted")

    boss = system.recorder("/boss")
    system.spawn(Recorder, "/child", supervisor=boss.ref, on_start=failing)
    system.run()
    assert boss.started == []
    assert [each.reason for each in boss.seen] == [ExitReason.START_FAILED]


def test_the_user_lane_rests_until_the_actor_is_resumed(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    assert system.suspend("/a") == ("/a",)
    for number in range(200):
        actor.ref.tell(number)
    actor.ref.tell_system("urgent")
    system.run()
    assert actor.seen == ["urgent"]
    statistics = system.statistics_of("/a")
    assert statistics is not None
    assert (statistics.state, statistics.user_depth) == ("suspended", 200)
    assert system.resume("/a") == ("/a",)
    system.run()
    assert actor.seen == ["urgent", *range(200)]
    assert actor.hooks == ["start", "suspend", "resume"]


def test_messages_that_came_before_the_suspension_rest_too(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    actor.ref.tell("before")
    system.suspend("/a")
    system.run()
    assert actor.seen == []
    system.resume("/a")
    system.run()
    assert actor.seen == ["before"]


def test_timers_of_a_suspended_actor_run(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    system.suspend("/a")
    system.run()
    actor.schedule(5.0, "due")
    system.manual.advance(5.0)
    assert actor.seen == ["due"]


def test_a_suspended_actor_refuses_beyond_its_limit(system: ManualSystem) -> None:
    actor = system.recorder("/a", limit=3)
    system.suspend("/a")
    system.run()
    offers = [actor.ref.offer(number) for number in range(5)]
    system.run()
    assert offers == ["accepted"] * 3 + ["full"] * 2


def test_a_suspended_actor_can_be_stopped_and_can_fail(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    first = system.recorder("/first", supervisor=boss.ref)
    second = system.recorder("/second", supervisor=boss.ref)
    system.suspend("/first")
    system.suspend("/second")
    system.run()
    request_stop(first.cell)
    second.ref.tell_system(ValueError("planted"))
    system.run()
    assert [each.reason for each in boss.seen if isinstance(each, Exit)] == [
        ExitReason.NORMAL,
        ExitReason.FAILED,
    ]


def test_a_hook_that_raises_ends_the_actor(system: ManualSystem) -> None:
    def failing() -> None:
        raise ValueError("planted")

    boss = system.recorder("/boss")
    system.spawn(Recorder, "/child", supervisor=boss.ref, on_suspend=failing)
    system.run()
    system.suspend("/child")
    system.run()
    assert [each.reason for each in boss.seen] == [ExitReason.FAILED]
    again = system.spawn(Recorder, "/child", supervisor=boss.ref, on_suspend=failing)
    system.run()
    assert [each.reason for each in boss.seen] == [ExitReason.FAILED, ExitReason.START_FAILED]
    assert again.seen == []


@pytest.mark.parametrize("root", ["/a", "/"])
def test_a_subtree_is_suspended_and_resumed_with_the_actors_that_start_in_it(
    root: str, system: ManualSystem
) -> None:
    inside = [system.recorder(path) for path in ("/a", "/a/b", "/a/b/c")]
    outside = system.recorder("/ab")
    expected = ("/a", "/a/b", "/a/b/c") + (("/ab",) if root == "/" else ())
    assert system.suspend(root, subtree=True) == expected
    system.run()
    late = system.recorder("/a/late")
    for each in (*inside, outside, late):
        each.ref.tell("x")
    system.run()
    assert [each.seen for each in (*inside, late)] == [[], [], [], []]
    assert outside.seen == ([] if root == "/" else ["x"])
    system.resume(root, subtree=True)
    system.run()
    assert [each.seen for each in (*inside, outside, late)] == [["x"]] * 5
    assert system.recorder("/a/later").hooks == ["start"]


def test_a_next_incarnation_stays_suspended_until_its_path_is_resumed(
    system: ManualSystem,
) -> None:
    first = system.recorder("/a")
    below = system.recorder("/a/below")
    system.suspend("/a")
    first.ref.tell_system(ValueError("planted"))
    system.run()
    second = system.recorder("/a")
    second.ref.tell("x")
    below.ref.tell("x")
    system.run()
    assert (second.seen, below.seen) == ([], ["x"])
    system.resume("/a")
    system.run()
    assert second.seen == ["x"]


def test_a_subtree_that_does_not_stop_is_abandoned(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    for path in ("/a", "/a/b", "/ab"):
        system.recorder(path, supervisor=boss.ref)
    system.abandon("/a")
    system.run()
    assert [(each.path, each.reason) for each in boss.seen] == [
        ("/a/b", ExitReason.ABANDONED),
        ("/a", ExitReason.ABANDONED),
    ]
    assert system.paths() == ["/boss", "/ab"]
