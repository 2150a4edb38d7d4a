"""Places are reported to those who want them, in steps of bounded work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from exai_actors.core.capacity.position_reports import MAX_REPORTS, MAX_WALK
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from tests.core.capacity.dispatching import Bench

EVERY_S = 8.0


class Waiting(Bench):
    """A provider without permits, so that all calls wait; some want their places reported."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{"limit": 0, "queue": 10_000, "session_queue": 10_000} | more)

    def wait(self, name: str, session: str = "a", model: str = "m") -> ScheduledCall:
        self.admit(name, session, model=model)
        (call,) = (
            call
            for call in self.dispatcher.calls()
            if (call.request.text, call.flow.session) == (name, session)
        )
        return call

    def listen(self, name: str, session: str = "a", model: str = "m") -> ScheduledCall:
        call = self.wait(name, session, model)
        self.dispatcher.positions.add(call)
        return call

    def crowd(self, sessions: int, each: int, model: str = "m") -> None:
        """Let many wait, all of which want their places."""
        for number in range(sessions * each):
            call = self.call(f"r{number}", f"s{number % sessions}", model=model)
            assert self.dispatcher.admit(call, self.now) == "queued"
            self.dispatcher.positions.add(call)

    def report(self) -> list[tuple[str, int]]:
        positions = self.dispatcher.positions
        if not positions.any():
            return []
        return [(call.request.text, at) for at, _, call in positions.due(self.now, EVERY_S)]


def test_only_those_that_want_it_are_reported_and_each_once_in_a_while() -> None:
    bench = Waiting()
    bench.listen("a")
    bench.wait("silent")
    bench.listen("b")
    assert bench.report() == [("a", 1), ("b", 3)]
    bench.now = 4.0
    bench.listen("later")
    assert bench.report() == [("later", 4)]
    bench.now = 7.9
    assert bench.report() == []
    bench.now = 8.0
    assert bench.report() == [("a", 1), ("b", 3)]
    bench.now = 12.0
    assert bench.report() == [("later", 4)]


def test_nothing_is_looked_at_if_nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Waiting()
    bench.wait("silent")
    monkeypatch.setattr(type(bench.dispatcher.waits), "in_line", None)
    assert bench.report() == []


def test_one_that_has_started_or_left_is_reported_no_more() -> None:
    bench = Waiting()
    for name in ("first", "second", "third"):
        bench.listen(name)
    assert len(bench.report()) == 3
    bench.dispatcher.withdraw(bench.call("second").flow.session, bench.call("second").request)
    bench.dispatcher.pools[0].ledger.resize(1)
    bench.pump()
    assert bench.granted == ["first"]
    bench.dispatcher.pools[0].ledger.resize(0)
    bench.fail("first")
    bench.now = 60.0
    assert bench.report() == [("third", 1)]
    bench.dispatcher.withdraw(bench.call("third").flow.session, bench.call("third").request)
    assert not bench.dispatcher.positions.any()


def granted(bench: Waiting) -> None:
    bench.dispatcher.pools[0].ledger.resize(1)
    assert len(list(bench.dispatcher.pump(bench.now))) == 1


def expired(bench: Waiting) -> None:
    bench.dispatcher.pools[0].ledger.resize(1)
    bench.now = 1e9
    assert list(bench.dispatcher.pump(bench.now)) == []


def withdrawn(bench: Waiting) -> None:
    call = bench.call("r", "s")
    assert bench.dispatcher.withdraw(call.flow.session, call.request)


def left_by_its_session(bench: Waiting) -> None:
    assert len(bench.dispatcher.forget(bench.call("r", "s").flow.session)) == 1


def displaced(bench: Waiting) -> None:
    bench.admit("second", "s", priority=1)
    for number in range(MANY - 1):
        bench.admit(f"other{number}", f"o{number}")
    assert bench.dispatcher.displaced


MANY = 10


@pytest.mark.parametrize("leave", [granted, expired, withdrawn, left_by_its_session, displaced])
def test_a_call_that_leaves_its_queue_is_forgotten(leave: Callable[[Waiting], None]) -> None:
    bench = Waiting(queue=MANY)
    bench.admit("r", "s", deadline=100.0)
    (call,) = bench.dispatcher.calls()
    bench.dispatcher.positions.add(call)
    assert bench.dispatcher.positions.any()
    leave(bench)
    assert not bench.dispatcher.positions.any()


def test_one_step_reports_no_more_than_its_part() -> None:
    bench = Waiting()
    bench.crowd(sessions=20, each=2 * MAX_REPORTS // 20)
    places = [bench.report() for _ in range(2)]
    assert [len(each) for each in places] == [MAX_REPORTS] * 2
    assert [at for each in places for _, at in each] == list(range(1, 2 * MAX_REPORTS + 1))
    assert bench.report() == []


def test_the_places_of_those_far_behind_are_estimated_in_turn() -> None:
    bench = Waiting()
    bench.crowd(sessions=50, each=60)
    exact = {call.request.text: at for at, _, call in bench.in_line()}
    reported: dict[str, int] = {}
    times: Counter[str] = Counter()
    while (step := bench.report()) and len(reported) < 3_000:
        assert len(step) <= MAX_REPORTS
        reported.update(step)
        times.update(name for name, _ in step)
        bench.now += 0.25
    assert len(reported) == 3_000, "nobody is left out"
    assert times["r2999"] == 1
    for name, place in reported.items():
        if exact[name] <= MAX_WALK:
            assert place == exact[name]
        else:
            assert place > MAX_WALK
            assert abs(place - exact[name]) < 150


def test_new_ones_far_behind_do_not_keep_others_from_being_reported_again() -> None:
    bench = Waiting()
    bench.crowd(sessions=2, each=700)
    far, times = "r1399", 0
    for number in range(80):
        bench.wait(f"new{number}", "s0")
        bench.dispatcher.positions.add(bench.wait(f"newer{number}", "s0"))
        times += far in dict(bench.report())
        bench.now += 0.25
    assert times > 2


def test_each_pool_has_its_turn() -> None:
    bench = Waiting(model_limits={"big": 0})
    bench.crowd(sessions=20, each=100)
    bench.crowd(sessions=5, each=1, model="big")
    seen: set[int] = set()
    for _ in range(4):
        seen.update(at for _, at in bench.report() if at <= 5)
    assert bench.dispatcher.pools[1].model == "big"
    assert {1, 2, 3, 4, 5} <= seen
