"""No request is out of time too early, none is forgotten, and nothing stale stays."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exai_actors.core.deadlines import Deadlines
from exai_actors.ids import RequestKey

A, B, C = (RequestKey(name) for name in "abc")


def test_nothing_is_due_while_nothing_is_kept() -> None:
    deadlines = Deadlines()
    assert deadlines.next() is None
    assert deadlines.due(1e9) == ()


def test_a_deadline_is_due_at_its_instant_and_not_before() -> None:
    deadlines = Deadlines()
    deadlines.add(A, 5.0)
    assert deadlines.due(4.999999) == ()
    assert deadlines.due(5.0) == (A,)
    assert deadlines.due(5.0) == ()


def test_the_earliest_deadlines_are_given_first_and_the_later_ones_kept() -> None:
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


def test_a_request_has_one_deadline_the_last_that_was_set() -> None:
    deadlines = Deadlines()
    deadlines.add(A, 1.0)
    deadlines.add(A, 9.0)
    assert deadlines.due(8.0) == ()
    assert deadlines.due(9.0) == (A,)
    assert deadlines.next() is None


class DeadlinesMachine(RuleBasedStateMachine):
    """The deadlines beside a plain list of requests with their instants."""

    REQUESTS = st.sampled_from([RequestKey(str(number)) for number in range(6)])

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.kept: list[tuple[float, RequestKey]] = []
        self.now = 0.0

    def forget(self, request: RequestKey) -> None:
        self.kept = [each for each in self.kept if each[1] != request]

    @rule(request=REQUESTS, after_s=st.floats(-2, 20))
    def add(self, request: RequestKey, after_s: float) -> None:
        self.forget(request)
        self.kept.append((self.now + after_s, request))
        self.deadlines.discard(request)
        self.deadlines.add(request, self.now + after_s)

    @rule(request=REQUESTS)
    def discard(self, request: RequestKey) -> None:
        self.forget(request)
        self.deadlines.discard(request)

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        passed = [each for each in self.kept if each[0] <= self.now]
        passed.sort(key=lambda each: each[0])
        assert self.deadlines.due(self.now) == tuple(request for _, request in passed)
        self.kept = [each for each in self.kept if each[0] > self.now]

    @rule()
    def an_alarm_set_for_the_next_is_never_for_nothing(self) -> None:
        alarm = self.deadlines.next()
        if alarm is not None:
            self.now = max(self.now, alarm)
            earliest = min(self.kept)[0]
            assert earliest == alarm
            due = self.deadlines.due(self.now)
            assert due
            for request in due:
                self.forget(request)

    @invariant()
    def exactly_what_is_kept_is_there(self) -> None:
        assert len(self.deadlines) == len(self.kept)
        assert self.deadlines.next() == min((each[0] for each in self.kept), default=None)


TestDeadlines = DeadlinesMachine.TestCase
