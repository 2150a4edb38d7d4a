"""The order in which actors run: batches, turns, the simulator's choice, slow handlers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pytest

from exai_actors.runtime.kernel.cell import ActorCell
from exai_actors.runtime.kernel.events import SlowHandler
from exai_actors.runtime.kernel.pace import Pace
from exai_actors.runtime.kernel.ref import Ref
from tests.runtime.kernel.probes import Doing, ManualSystem


def flooded(system: ManualSystem, order: list[str], name: str, messages: int) -> Ref:
    """An actor with a backlog that records its name for each message."""
    actor = system.spawn(Doing, f"/{name}", do_receive=lambda message: order.append(name))
    for _ in range(messages):
        actor.ref.tell("flood")
    return actor.ref


def test_a_greedy_actor_does_not_starve_a_small_one() -> None:
    system = ManualSystem(pace=Pace(batch_messages=8))
    order: list[str] = []
    flooded(system, order, "greedy", 500)
    flooded(system, order, "small", 20)
    system.run()
    until_small_is_done = order[: len(order) - order[::-1].index("small")]
    runs = [(name, len(list(run))) for name, run in groupby(until_small_is_done)]
    assert max(length for name, length in runs if name == "greedy") == 8


def test_an_actor_with_a_backlog_has_one_place_in_the_queue() -> None:
    system = ManualSystem(pace=Pace(batch_messages=1))
    order: list[str] = []
    first = flooded(system, order, "first", 2)

    def tell_the_first(_message: Any) -> None:
        order.append("second")
        first.tell("more")

    second = system.spawn(Doing, "/second", do_receive=tell_the_first)
    second.ref.tell("go")
    second.ref.tell("go")
    system.run()
    assert order == ["first", "second", "first", "second", "first", "first"]


def test_a_turn_ends_after_its_batches() -> None:
    system = ManualSystem(pace=Pace(batch_messages=4, turn_batches=10))
    order: list[str] = []
    flooded(system, order, "actor", 50)
    system.manual.call_soon(lambda: order.append("socket"))
    system.run()
    assert order.index("socket") == 1 + 2 + 8 * 4
    assert len(order) == 51


def test_a_turn_ends_after_its_time() -> None:
    system = ManualSystem(pace=Pace(turn_seconds=0.002))
    order: list[str] = []

    def work(message: Any) -> None:
        order.append("actor")
        system.manual.pass_time(0.0015)

    actor = system.spawn(Doing, "/actor", do_receive=work)
    for _ in range(50):
        actor.ref.tell("work")
    system.manual.call_soon(lambda: order.append("socket"))
    system.run()
    assert order.index("socket") == 3
    assert len(order) == 51


@pytest.mark.parametrize(("socket_ticks", "expected"), [(1, 3), (6, 6), (1000, 20)])
def test_actors_that_always_have_work_get_half_the_time_within_a_bound(
    socket_ticks: int, expected: int
) -> None:
    # Times are multiples of it, which a float holds exactly.
    tick = 1 / 1024
    pace = Pace(batch_messages=1, turn_seconds=3 * tick, longest_turn_seconds=20 * tick)
    system = ManualSystem(pace=pace)
    order: list[str] = []

    def work(message: Any) -> None:
        order.append("actor")
        system.manual.pass_time(tick)

    def read_sockets() -> None:
        order.append("socket")
        system.manual.pass_time(socket_ticks * tick)
        if len(order) < 200:
            system.manual.call_soon(read_sockets)

    actor = system.spawn(Doing, "/actor", do_receive=work)
    for _ in range(300):
        actor.ref.tell("work")
    system.manual.call_soon(read_sockets)
    system.run()
    turns = [len(list(run)) for name, run in groupby(order) if name == "actor"]
    assert turns[0] == 3
    assert set(turns[1:-1]) == {expected}


def test_actors_that_run_early_get_half_the_time_once() -> None:
    tick = 1 / 1024
    pace = Pace(batch_messages=1, turn_seconds=3 * tick, longest_turn_seconds=20 * tick)
    system = ManualSystem(pace=pace)
    handled = 0

    def work(message: Any) -> None:
        nonlocal handled
        handled += 1
        system.manual.pass_time(tick)

    early: list[int] = []

    def read_sockets() -> None:
        system.manual.pass_time(10 * tick)
        for _ in range(3):
            before = handled
            system.scheduler.run_early()
            early.append(handled - before)

    actor = system.spawn(Doing, "/actor", do_receive=work)
    for _ in range(100):
        actor.ref.tell("work")
    system.manual.call_soon(read_sockets)
    system.run()
    assert early == [10, 3, 3]


def test_a_source_of_messages_has_them_handled_before_the_next_turn(system: ManualSystem) -> None:
    actor = system.recorder("/actor")
    system.run()
    actor.ref.tell("first")
    system.scheduler.run_early()
    assert actor.seen == ["first"]
    system.scheduler.run_early()
    actor.ref.tell("second")
    system.run()
    assert actor.seen == ["first", "second"]


def test_running_early_leaves_what_exceeds_a_turn_to_one_later_turn() -> None:
    system = ManualSystem(pace=Pace(batch_messages=4, turn_batches=10))
    order: list[str] = []
    flooded(system, order, "actor", 400)
    for _ in range(5):
        system.scheduler.run_early()
    handled = len(order)
    assert 0 < handled < 400
    system.manual.call_soon(lambda: order.append("socket"))
    system.run()
    # Were five turns to come, the socket would wait for all of them.
    assert order.index("socket") <= handled + 10 * 4
    assert order.count("actor") == 400


def test_running_early_within_a_turn_has_no_effect(system: ManualSystem) -> None:
    other = system.recorder("/other")
    seen_within: list[int] = []

    def run_early() -> None:
        other.ref.tell("behind")
        system.scheduler.run_early()
        seen_within.append(len(other.seen))

    system.recorder("/actor").ref.tell(run_early)
    system.run()
    assert seen_within == [0]
    assert other.seen == ["behind"]


def test_a_simulator_picks_the_ready_actor_that_runs_next() -> None:
    system = ManualSystem(pace=Pace(batch_messages=1))
    order: list[str] = []
    for name in ("a", "b", "c"):
        flooded(system, order, name, 2)
    offered: list[list[str]] = []

    def pick_last(ready: Sequence[ActorCell]) -> int:
        offered.append([cell.path for cell in ready])
        return len(ready) - 1

    system.scheduler.pick = pick_last
    system.run()
    assert order == ["c", "c", "b", "b", "a", "a"]
    assert offered[0] == ["/a", "/b", "/c"]


def test_ctrl_c_in_a_handler_reaches_the_loop_before_the_next_actor_runs(
    system: ManualSystem,
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    actor, other = system.recorder("/a"), system.recorder("/other")
    actor.ref.tell(interrupted)
    other.ref.tell("behind")
    with pytest.raises(KeyboardInterrupt):
        system.run()
    assert other.seen == []
    system.run()
    assert other.seen == ["behind"]
    assert not actor.ref.is_alive()


@pytest.fixture
def slow(system: ManualSystem) -> Callable[..., None]:
    """Send messages to one actor that takes as many seconds as a number says, and run."""

    def compute(message: Any) -> None:
        if isinstance(message, float):
            system.manual.pass_time(message)

    actor = system.spawn(Doing, "/slow", do_receive=compute)

    def send(*messages: Any) -> None:
        for message in messages:
            actor.ref.tell(message)
        system.run()

    return send


def reports(system: ManualSystem) -> list[tuple[str | None, int]]:
    return [(event.message_type, event.messages) for event in system.events_of(SlowHandler)]


def test_a_slow_handler_is_an_event_that_names_actor_and_message(
    system: ManualSystem, slow: Callable[..., None]
) -> None:
    slow(0.049)
    slow(0.06)
    (event,) = system.events_of(SlowHandler)
    assert (event.path, event.incarnation, event.message_type) == ("/slow", 1, "float")
    assert (event.seconds, event.messages) == (pytest.approx(0.06), 1)


def test_a_slow_message_among_quick_ones_is_reported_with_all_candidates(
    system: ManualSystem, slow: Callable[..., None]
) -> None:
    slow(*["quick"] * 200)
    slow("quick", 0.06, b"quick")
    (event,) = system.events_of(SlowHandler)
    assert event.message_type is None
    assert event.candidates == ("str", "float", "bytes")
    assert event.messages == 3
    slow("quick", 0.06, b"quick")
    assert reports(system)[1:] == [("float", 1)]


def test_a_slow_handler_is_also_reported_after_a_slower_one(
    system: ManualSystem, slow: Callable[..., None]
) -> None:
    slow(0.2, *["quick"] * 300)
    slow(0.06)
    seconds = [event.seconds for event in system.events_of(SlowHandler)]
    assert seconds == [pytest.approx(0.2), pytest.approx(0.06)]


def test_an_actor_slower_than_a_turn_goes_back_to_batches_of_one(
    system: ManualSystem, slow: Callable[..., None]
) -> None:
    slow(0.01, *["quick"] * 200)
    slow(0.003)
    slow(0.06, b"quick")
    assert reports(system) == [("float", 1)]


def test_the_messages_after_a_slow_one_are_measured_one_by_one(
    system: ManualSystem, slow: Callable[..., None]
) -> None:
    slow(0.06)
    slow(*["quick"] * 62, 0.07, b"quick")
    assert reports(system) == [("float", 1), ("float", 1)]


def test_a_slow_hook_is_named_as_well(system: ManualSystem) -> None:
    actor = system.spawn(
        Doing,
        "/slow",
        do_start=lambda: system.manual.pass_time(0.1),
        do_stop=lambda: system.manual.pass_time(0.2),
    )
    actor.ref.tell("quick")
    system.run()
    system.stop(actor.ref)
    assert [name for name, _ in reports(system)] == ["on_start", "stop"]
