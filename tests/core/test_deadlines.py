"""No request is out of time too early, none is forgotten, and nothing stale stays."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exai_actors.core.deadlines import Deadlines
from exai_actors.ids import RequestKey

A, B, C = (RequestKey(name) for name in "abc")
INSTANTS = st.floats(0, 1e7)


def test_nothing_is_due_while_nothing_is_kept() -> None:
    deadlines = Deadlines()
    assert deadlines.next() is None
    assert deadlines.due(1e9) == ()


def test_the_earliest_deadlines_are_given_first() -> None:
    deadlines = Deadlines()
    deadlines.add(A, 7.0)
    deadlines.add(B, 3.0)
    deadlines.add(C, 50.0)
    assert deadlines.next() == 3.0
    assert deadlines.due(10.0) == (B, A)
    assert deadlines.next() == 50.0


def test_those_of_one_instant_are_given_in_order_of_arrival() -> None:
    deadlines = Deadlines()
    requests = tuple(RequestKey(f"request-{number}") for number in range(50))
    for request in requests:
        deadlines.add(request, 5.0)
    assert deadlines.due(5.0) == requests


def test_a_discarded_deadline_is_not_given_and_leaves_no_alarm_behind() -> None:
    deadlines = Deadlines()
    deadlines.add(A, 1.0)
    deadlines.discard(A)
    assert deadlines.next() is None
    assert deadlines.due(100.0) == ()


def test_discarding_what_is_not_kept_is_harmless() -> None:
    deadlines = Deadlines()
    deadlines.add(A, 1.0)
    deadlines.discard(B)
    assert deadlines.due(2.0) == (A,)
    deadlines.discard(A)
    assert len(deadlines) == 0


@given(INSTANTS)
def test_a_deadline_is_due_at_its_alarm_and_not_before(deadline: float) -> None:
    deadlines = Deadlines()
    deadlines.add(A, deadline)
    alarm = deadlines.next()
    assert alarm == deadline
    assert deadlines.due(math.nextafter(deadline, -1)) == ()
    assert deadlines.due(alarm) == (A,)


def test_a_request_has_one_deadline_the_last_it_was_given() -> None:
    deadlines = Deadlines()
    deadlines.add(A, 1.0)
    deadlines.add(A, 2.0)
    assert deadlines.due(1.5) == ()
    assert deadlines.due(2.0) == (A,)


class DeadlinesMachine(RuleBasedStateMachine):
    """Beside a plain dictionary of instants, read the slow way."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.kept: dict[RequestKey, float] = {}
        self.now = 0.0
        self.added = 0

    @rule(after_s=st.floats(-2, 20))
    def add(self, after_s: float) -> None:
        self.added += 1
        request = RequestKey(str(self.added))
        self.kept[request] = self.now + after_s
        self.deadlines.add(request, self.kept[request])

    @rule(number=st.integers(1, 20))
    def discard(self, number: int) -> None:
        request = RequestKey(str(number))
        self.kept.pop(request, None)
        self.deadlines.discard(request)

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        given_up = self.deadlines.due(self.now)
        assert len(set(given_up)) == len(given_up)
        for request in given_up:
            assert self.kept.pop(request) <= self.now
        assert all(deadline > self.now for deadline in self.kept.values())

    @invariant()
    def the_alarm_is_set_for_the_earliest_deadline(self) -> None:
        assert self.deadlines.next() == min(self.kept.values(), default=None)


TestDeadlines = DeadlinesMachine.TestCase
