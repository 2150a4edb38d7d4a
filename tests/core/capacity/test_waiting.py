"""The place of a waiting call, in lines of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from exai_actors.core.capacity.ahead import MAX_WALK
from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.ids import RequestKey, SessionId
from tests.core.capacity.dispatching import Bench


def line(count: int, sessions: int = 10) -> Bench:
    bench = Bench(limit=1, queue=100_000, session_queue=100_000)
    bench.admit("runs")
    for number in range(count):
        session = f"s{number % sessions}"
        bench.dispatcher.admit(bench.call(f"c{number}", session), bench.now)
    return bench


def place(bench: Bench, number: int, sessions: int = 10) -> int | None:
    session = SessionId(f"s{number % sessions}")
    found = bench.dispatcher.waiting(session, RequestKey(f"c{number}"), bench.now)
    assert found is not None
    return found.position


def test_places_of_a_short_line_are_exact() -> None:
    bench = line(50)
    assert [place(bench, number) for number in range(50)] == list(range(1, 51))


def test_the_place_of_a_call_that_has_no_turn_is_behind_the_others() -> None:
    bench = line(20)
    bench.dispatcher.arrange(SessionId("s0"), RequestKey("c0"), "hold", bench.now)
    assert place(bench, 0) == 20


@pytest.mark.parametrize(("sessions", "number"), [(10, 2_999), (10, 1_500), (1, 2_900), (3_000, 7)])
def test_a_long_line_is_not_walked_to_its_end(
    sessions: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = line(3_000, sessions)
    walked = 0
    in_service_order = FairQueue.in_service_order

    def counting(self: FairQueue[Any]) -> Iterator[Any]:
        nonlocal walked
        for value in in_service_order(self):
            walked += 1
            yield value

    monkeypatch.setattr(FairQueue, "in_service_order", counting)
    found = place(bench, number, sessions)
    assert walked <= MAX_WALK
    assert found is not None
    assert abs(found - (number + 1)) <= max(20, (number + 1) * 0.02) or found == MAX_WALK + 1
    assert found <= 3_000
