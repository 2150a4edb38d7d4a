"""Who runs when: slices, turns, the simulator's choice, the end of a turn, slow handlers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from exai_actors.runtime import LoopRef, SlowHandler
from tests.runtime.probes import Doing, ManualSystem


def flooded(system: ManualSystem, order: list[str], name: str, messages: int) -> LoopRef[Doing]:
    """An actor with a backlog that notes its name for each message."""
    ref = system.spawn(Doing, on_receive=lambda actor, message: order.append(name), path=f"/{name}")
    for _ in range(messages):
        ref.tell("flood")
    return ref


def longest_run(order: Sequence[str], name: str) -> int:
    longest = run = 0
    for each in order:
        run = run + 1 if each == name else 0
        longest = max(longest, run)
    return longest


def test_a_greedy_actor_does_not_starve_a_small_one() -> None:
    system = ManualSystem(throughput=8)
    order: list[str] = []
    flooded(system, order, "greedy", 500)
    flooded(system, order, "small", 20)
    system.run()
    until_small_is_done = order[: len(order) - order[::-1].index("small")]
    assert longest_run(until_small_is_done, "greedy") == 8


def test_a_turn_ends_after_its_messages_so_that_other_work_gets_to_run() -> None:
    system = ManualSystem(throughput=4, turn_messages=10)
    order: list[str] = []
    flooded(system, order, "actor", 50)
    system.manual.call_soon(lambda: order.append("socket"))
    system.run()
    assert order.index("socket") <= 13
    assert len(order) == 51


def test_a_turn_ends_after_its_time_so_that_other_work_gets_to_run() -> None:
    system = ManualSystem(turn_seconds=0.002)
    order: list[str] = []

    def work(actor: Doing, message: Any) -> None:
        order.append("actor")
        system.manual.pass_time(0.0015)

    ref = system.spawn(Doing, on_receive=work, path="/actor")
    for _ in range(50):
        ref.tell("work")
    system.manual.call_soon(lambda: order.append("socket"))
    system.run()
    assert order.index("socket") <= 4
    assert len(order) == 51


def test_an_actor_that_keeps_telling_itself_leaves_room_for_others() -> None:
    system = ManualSystem(throughput=4, turn_messages=16)
    order: list[str] = []

    def again(actor: Doing, message: int) -> None:
        order.append("actor")
        if message:
            actor.actor_ref.tell(message - 1)

    system.spawn(Doing, on_receive=again, path="/actor").tell(100)
    system.manual.call_soon(lambda: order.append("socket"))
    system.run()
    assert order.index("socket") <= 20
    assert order.count("actor") == 101


def test_a_simulator_picks_which_ready_actor_runs_next() -> None:
    system = ManualSystem(throughput=1)
    order: list[str] = []
    for name in ("a", "b", "c"):
        flooded(system, order, name, 2)
    offered: list[list[str]] = []

    def pick_last(ready: Sequence[LoopRef[Any]]) -> int:
        offered.append([ref.path for ref in ready])
        return len(ready) - 1

    system.scheduler.pick = pick_last
    system.run()
    assert order == ["c", "c", "b", "b", "a", "a"]
    assert offered[0] == ["/a", "/b", "/c"]


def test_a_seeded_pick_repeats_the_same_order() -> None:
    def run(seed: int) -> list[str]:
        system = ManualSystem(throughput=1)
        order: list[str] = []
        chance = random.Random(seed)
        system.scheduler.pick = lambda ready: chance.randrange(len(ready))
        for name in ("a", "b", "c"):
            flooded(system, order, name, 10)
        system.run()
        return order

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_ctrl_c_in_a_handler_reaches_the_loop_before_the_next_actor_runs(
    system: ManualSystem,
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    ref, _ = system.recorder("/a")
    other, other_actor = system.recorder("/other")
    ref.tell(interrupted)
    other.tell("behind")
    with pytest.raises(KeyboardInterrupt):
        system.run()
    assert other_actor.seen == []
    system.run()
    assert other_actor.seen == ["behind"]


def slow(system: ManualSystem, path: str = "/slow") -> LoopRef[Doing]:
    """An actor that takes as many seconds as it is told."""

    def compute(actor: Doing, message: Any) -> None:
        if isinstance(message, float):
            system.manual.pass_time(message)

    return system.spawn(Doing, on_receive=compute, path=path)


def test_a_slow_handler_is_an_event_that_names_actor_and_message(system: ManualSystem) -> None:
    ref = slow(system)
    ref.tell(0.06)
    system.run()
    (event,) = system.events_of(SlowHandler)
    assert (event.path, event.incarnation, event.message_type) == ("/slow", 1, "float")
    assert (event.seconds, event.messages) == (pytest.approx(0.06), 1)


def test_a_handler_within_bounds_is_no_event(system: ManualSystem) -> None:
    slow(system).tell(0.049)
    system.run()
    assert system.events_of(SlowHandler) == []


def test_a_slow_message_among_quick_ones_is_told_with_its_company(system: ManualSystem) -> None:
    ref = slow(system)
    for _ in range(200):
        ref.tell("quick")
    system.run()
    for message in ("quick", 0.06, b"quick"):
        ref.tell(message)
    system.run()
    (event,) = system.events_of(SlowHandler)
    assert event.message_type is None
    assert event.candidates == ("str", "float", "bytes")
    assert event.messages == 3


def test_after_that_the_culprit_is_told_apart(system: ManualSystem) -> None:
    ref = slow(system)
    for _ in range(200):
        ref.tell("quick")
    system.run()
    for _ in range(2):
        for message in ("quick", 0.06, b"quick"):
            ref.tell(message)
        system.run()
    assert [event.message_type for event in system.events_of(SlowHandler)] == [None, "float"]


def test_a_slow_handler_is_told_also_after_a_slower_one(system: ManualSystem) -> None:
    ref = slow(system)
    ref.tell(0.2)
    for _ in range(300):
        ref.tell("quick")
    system.run()
    ref.tell(0.06)
    system.run()
    assert [event.seconds for event in system.events_of(SlowHandler)] == [
        pytest.approx(0.2),
        pytest.approx(0.06),
    ]


def test_the_messages_after_a_slow_one_are_measured_one_by_one(system: ManualSystem) -> None:
    ref = slow(system)
    ref.tell(0.06)
    system.run()
    for message in ["quick"] * 62 + [0.07, b"quick"]:
        ref.tell(message)
    system.run()
    exact = [(event.message_type, event.messages) for event in system.events_of(SlowHandler)]
    assert exact == [("float", 1), ("float", 1)]


def test_the_messages_of_a_long_slice_count_for_the_turn(system: ManualSystem) -> None:
    system.scheduler._turn_messages = 10
    order: list[str] = []
    ref = flooded(system, order, "actor", 64)
    system.run()
    other = flooded(system, order, "other", 1)
    system.run()
    order.clear()
    for _ in range(12):
        ref.tell("flood")
    system.manual.call_soon(lambda: order.append("socket"))
    other.tell("flood")
    system.run()
    assert order == ["actor"] * 12 + ["socket", "other"]


def test_a_slow_hook_is_named_as_well(system: ManualSystem) -> None:
    ref = system.spawn(
        Doing,
        on_start=lambda actor: system.manual.pass_time(0.1),
        on_stop=lambda actor: system.manual.pass_time(0.2),
        path="/slow",
    )
    ref.tell("quick")
    system.run()
    ref.stop(block=False)
    system.run()
    assert [event.message_type for event in system.events_of(SlowHandler)] == ["on_start", "stop"]
