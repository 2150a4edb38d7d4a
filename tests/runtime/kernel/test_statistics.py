"""Actors as seen from outside, without sending them a message."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from exai_actors.runtime.kernel.statistics import ActorStatistics
from tests.runtime.kernel.probes import Doing, ManualSystem, ask


def seen(system: ManualSystem, path: str = "/a") -> ActorStatistics:
    statistics = system.statistics_of(path)
    assert statistics is not None
    return statistics


def test_an_idle_actor(system: ManualSystem) -> None:
    system.recorder("/a", limit=7)
    assert seen(system) == ActorStatistics(
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


def test_lane_depths_and_the_age_of_the_oldest_message(system: ManualSystem) -> None:
    ref = system.recorder("/a", limit=2).ref
    system.manual.pass_time(1.0)
    ref.tell("one")
    ref.tell("two")
    ref.tell("refused")
    ref.tell_system("three")
    system.manual.pass_time(3.0)
    statistics = seen(system)
    assert (statistics.user_depth, statistics.system_depth) == (2, 1)
    assert statistics.oldest_age_s == 3.0
    assert statistics.refused == 1
    assert statistics.state == "ready"


def test_the_age_is_that_of_the_backlog_and_not_of_the_actor(system: ManualSystem) -> None:
    def work(message: Any) -> None:
        system.manual.pass_time(1.0)
        if message:
            actor.ref.tell(message - 1)

    system.manual.pass_time(100.0)
    actor = system.spawn(Doing, "/a", do_receive=work)
    ages: list[float] = []

    def look() -> None:
        ages.append(seen(system).oldest_age_s)
        if len(ages) < 40:
            system.manual.call_soon(look)

    actor.ref.tell(40)
    actor.ref.tell(40)
    system.manual.call_soon(look)
    system.run()
    assert 1.0 <= max(ages) <= 5.0


@pytest.mark.parametrize("send", [lambda ref, message: ref.tell(message), ask])
def test_the_message_being_handled_and_its_time_so_far(system: ManualSystem, send: Any) -> None:
    found: list[ActorStatistics] = []

    def handle(message: Any) -> None:
        system.manual.pass_time(0.5)
        found.append(seen(system))

    actor = system.spawn(Doing, "/a", do_receive=handle)
    system.run()
    for message in (b"bytes", None):
        send(actor.ref, message)
        system.run()
    assert [(each.state, each.current_message, each.current_for_s) for each in found] == [
        ("busy", "bytes", 0.5),
        ("busy", "NoneType", 0.5),
    ]
    assert (seen(system).state, seen(system).current_message) == ("idle", None)


def test_a_stuck_actor_can_be_observed_from_another_thread(system: ManualSystem) -> None:
    found: list[ActorStatistics] = []

    def stuck(message: Any) -> None:
        observer = threading.Thread(target=lambda: found.extend(system.statistics()))
        observer.start()
        observer.join()

    system.recorder("/b")
    system.spawn(Doing, "/a", do_receive=stuck).ref.tell("poison")
    system.run()
    assert [(each.path, each.current_message) for each in found] == [("/b", None), ("/a", "str")]


def test_counts_of_messages_and_failures_and_handler_times(system: ManualSystem) -> None:
    def handle(message: float) -> None:
        system.manual.pass_time(message)
        if message == 3.0:
            raise ValueError

    for _ in range(2):
        system.spawn(Doing, "/a", do_receive=handle).ref.tell(3.0)
        system.run()
    ref = system.spawn(Doing, "/a", do_receive=handle).ref
    for seconds in (1.0, 2.0):
        ref.tell(seconds)
        system.run()
    statistics = seen(system)
    assert (statistics.incarnation, statistics.failed, statistics.processed) == (3, 2, 2)
    assert statistics.handler_s_total == pytest.approx(3.0)
    assert statistics.handler_s_max == pytest.approx(2.0)


def test_the_longest_handler_is_never_claimed_to_be_longer_than_is_known(
    system: ManualSystem,
) -> None:
    ref = system.spawn(Doing, "/a", do_receive=system.manual.pass_time).ref
    for _ in range(100):
        ref.tell(0.0)
    system.run()
    for _ in range(4):
        ref.tell(0.0004)
    system.run()
    statistics = seen(system)
    assert statistics.handler_s_total == pytest.approx(0.0016)
    assert statistics.handler_s_max == pytest.approx(0.0004)
    ref.tell(0.0009)
    system.run()
    assert seen(system).handler_s_max == pytest.approx(0.0009)


@pytest.mark.parametrize(
    ("times", "p50", "p99"),
    [
        ([0.001] * 100, 0.001, 0.001),
        ([0.00001] * 90 + [0.5] * 10, 0.00001, 0.5),
        ([0.001] * 2_000 + [0.25] * 2_000, 0.25, 0.25),
        ([0.0] * 50, 0.000001, 0.000001),
        ([1000.0] * 20, 16.0, 16.0),
    ],
    ids=["equal", "a slow tenth", "slower now", "too quick to tell", "beyond the last bucket"],
)
def test_the_quantiles_of_handler_times(
    system: ManualSystem, times: list[float], p50: float, p99: float
) -> None:
    ref = system.spawn(Doing, "/a", do_receive=system.manual.pass_time).ref
    for seconds in times:
        ref.tell(seconds)
        system.run()
    statistics = seen(system)
    assert statistics.handler_quantile_s(0.5) == pytest.approx(p50, rel=0.42)
    assert statistics.handler_quantile_s(0.99) == pytest.approx(p99, rel=0.42)


def test_an_actor_that_handled_little_has_no_quantiles(system: ManualSystem) -> None:
    ref = system.spawn(Doing, "/a", do_receive=system.manual.pass_time).ref
    for _ in range(5):
        ref.tell(1.0)
        system.run()
    assert seen(system).handler_quantile_s(0.5) is None


def test_the_states_of_a_life(system: ManualSystem) -> None:
    states: list[str] = []

    def note() -> None:
        states.append(seen(system).state)

    actor = system.spawn(Doing, "/a", do_stop=note)
    note()
    system.run()
    note()
    actor.ref.tell("hello")
    note()
    system.stop(actor.ref)
    assert states == ["starting", "idle", "ready", "stopping"]
    assert system.statistics_of("/a") is None


def test_the_mailboxes_of_all_actors_are_read_together(system: ManualSystem) -> None:
    full = system.recorder("/full", limit=4).ref
    system.recorder("/empty", limit=2)
    assert system.fullest_mailbox() == (0.0, "")
    system.manual.pass_time(1.0)
    for _ in range(3):
        full.tell("wait")
    full.tell_system("first")
    system.manual.pass_time(2.0)
    assert list(system.mailboxes()) == [("/full", 4, 0.75, 2.0), ("/empty", 0, 0.0, 0.0)]
    assert system.fullest_mailbox() == (0.75, "/full")
