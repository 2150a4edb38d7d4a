"""Calls whose client has left for a moment: others take their turn, and operators may hold them."""

from __future__ import annotations

from math import inf

import pytest

from exai_actors.core.calls import Presence
from exai_actors.core.capacity.changes import Arrangement
from exai_actors.ids import RequestKey, SessionId
from tests.core.capacity.dispatching import Bench

FIRST = SessionId("a"), RequestKey("first")


class Deserted(Bench):
    """One permit, and ``first`` at the head of the queue; its client has left."""

    def __init__(self) -> None:
        super().__init__()
        self.presence = Presence()
        self.admit("running", "r")
        self.admit("first", presence=self.presence)
        self.presence.is_away = True

    def arrange(self, how: Arrangement) -> None:
        assert self.dispatcher.arrange(*FIRST, how, self.now)
        self.pump()

    def come_back(self) -> None:
        self.presence.is_away = False
        self.dispatcher.client_returned(*FIRST, deadline=inf)
        self.pump()


def test_its_turn_goes_to_others_and_the_next_one_after_its_return_is_its_own() -> None:
    bench = Deserted()
    for name in ("second", "third"):
        bench.admit(name, "b")
    bench.complete("running")
    assert bench.granted == ["running", "second"]
    bench.come_back()
    bench.complete("second")
    assert bench.granted[2:] == ["first"]


def test_a_client_may_leave_again_before_its_turn() -> None:
    bench = Deserted()
    for name in ("second", "third"):
        bench.admit(name, "b")
    bench.complete("running")
    bench.come_back()
    bench.presence.is_away = True
    bench.complete("second")
    assert bench.granted[2:] == ["third"]
    bench.come_back()
    bench.complete("third")
    assert bench.granted[3:] == ["first"]


def test_for_operators_a_call_that_was_passed_over_is_queued() -> None:
    bench = Deserted()
    bench.complete("running")
    assert bench.dispatcher.state_of(*FIRST) == "queued"


@pytest.mark.parametrize("how", ["front", "release"])
def test_no_operator_starts_it_before_its_client_is_back(how: Arrangement) -> None:
    bench = Deserted()
    bench.complete("running")
    bench.arrange(how)
    assert bench.granted == ["running"]
    bench.come_back()
    assert bench.granted == ["running", "first"]


def test_an_operator_holds_it_beyond_the_return_of_its_client() -> None:
    bench = Deserted()
    bench.complete("running")
    bench.arrange("hold")
    assert bench.dispatcher.state_of(*FIRST) == "held"
    bench.come_back()
    assert bench.granted == ["running"]
    bench.arrange("release")
    assert bench.granted == ["running", "first"]
