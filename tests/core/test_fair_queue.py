"""What holds of the queue whatever its order across sessions; round robin has its own file."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exai_actors.core.fair_queue import FairQueue
from exai_actors.ids import RequestKey, SessionId

LIMIT = 6
SESSIONS = [SessionId(name) for name in "abcd"]
REQUESTS = [RequestKey(name) for name in "1234"]


def test_a_queue_of_limit_zero_takes_nothing() -> None:
    queue: FairQueue[str] = FairQueue(0)
    assert not queue.put(SESSIONS[0], REQUESTS[0], "entry")
    assert queue.take() is None


def test_a_request_that_already_waits_is_an_error_also_when_the_queue_is_full() -> None:
    queue: FairQueue[str] = FairQueue(1)
    queue.put(SESSIONS[0], REQUESTS[0], "entry")
    with pytest.raises(ValueError, match="request '1' of session 'a' already waits"):
        queue.put(SESSIONS[0], REQUESTS[0], "again")
    assert list(queue.in_service_order()) == ["entry"]


def test_two_sessions_may_use_the_same_request_id() -> None:
    queue: FairQueue[str] = FairQueue(LIMIT)
    queue.put(SESSIONS[0], REQUESTS[0], "of a")
    queue.put(SESSIONS[1], REQUESTS[0], "of b")
    assert queue.remove(SESSIONS[1], REQUESTS[0]) == "of b"
    assert queue.take() == "of a"


def test_removing_what_does_not_wait_changes_nothing() -> None:
    queue: FairQueue[str] = FairQueue(LIMIT)
    queue.put(SESSIONS[0], REQUESTS[0], "entry")
    assert queue.remove(SESSIONS[0], REQUESTS[1]) is None
    assert queue.remove(SESSIONS[1], REQUESTS[0]) is None
    assert queue.remove_session(SESSIONS[1]) == ()
    assert list(queue.in_service_order()) == ["entry"]


class QueueMachine(RuleBasedStateMachine):
    """The queue beside one plain list of all entries in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[tuple[SessionId, RequestKey]] = FairQueue(LIMIT)
        self.waiting: list[tuple[SessionId, RequestKey]] = []

    def of(self, session: SessionId) -> list[tuple[SessionId, RequestKey]]:
        return [entry for entry in self.waiting if entry[0] == session]

    @rule(session=st.sampled_from(SESSIONS), request=st.sampled_from(REQUESTS))
    def put(self, session: SessionId, request: RequestKey) -> None:
        entry = (session, request)
        if entry in self.waiting:
            with pytest.raises(ValueError, match="already waits"):
                self.queue.put(session, request, entry)
            return
        had_room = len(self.waiting) < LIMIT
        assert self.queue.put(session, request, entry) is had_room
        if had_room:
            self.waiting.append(entry)

    @precondition(lambda self: self.waiting)
    @rule()
    def take_gives_the_first_of_some_session(self) -> None:
        entry = self.queue.take()
        assert entry is not None
        assert entry == self.of(entry[0])[0]
        self.waiting.remove(entry)

    @precondition(lambda self: not self.waiting)
    @rule()
    def nothing_is_taken_when_nothing_waits(self) -> None:
        assert self.queue.take() is None

    @rule(session=st.sampled_from(SESSIONS), request=st.sampled_from(REQUESTS))
    def remove(self, session: SessionId, request: RequestKey) -> None:
        entry = (session, request)
        if entry in self.waiting:
            assert self.queue.remove(session, request) == entry
            self.waiting.remove(entry)
        else:
            assert self.queue.remove(session, request) is None

    @rule(session=st.sampled_from(SESSIONS))
    def remove_session(self, session: SessionId) -> None:
        assert self.queue.remove_session(session) == tuple(self.of(session))
        self.waiting = [entry for entry in self.waiting if entry[0] != session]

    @rule()
    def positions_are_the_order_in_which_entries_are_then_taken(self) -> None:
        announced = list(self.queue.in_service_order())
        taken = [self.queue.take() for _ in announced]
        assert taken == announced
        assert self.queue.take() is None
        self.waiting.clear()

    @invariant()
    def the_size_is_the_number_of_those_who_wait_and_never_above_the_limit(self) -> None:
        assert len(self.queue) == len(self.waiting) <= LIMIT
        assert bool(self.queue) is bool(self.waiting)

    @invariant()
    def each_entry_has_one_position_behind_its_sessions_earlier_ones(self) -> None:
        positions = list(self.queue.in_service_order())
        assert sorted(positions) == sorted(self.waiting)
        for session in SESSIONS:
            assert [entry for entry in positions if entry[0] == session] == self.of(session)

    @invariant()
    def the_count_by_session_names_exactly_those_who_wait(self) -> None:
        counted = {session: len(self.of(session)) for session in SESSIONS if self.of(session)}
        assert self.queue.waiting_by_session() == counted


TestQueue = QueueMachine.TestCase


def test_within_a_session_a_higher_priority_goes_first_and_equals_in_order() -> None:
    queue: FairQueue[str] = FairQueue(9)
    session = SessionId("s")
    for name, priority in (("a", 0), ("b", 2), ("c", 0), ("d", 2), ("e", -1)):
        queue.put(session, RequestKey(name), name, priority)
    assert [queue.take() for _ in range(5)] == ["b", "d", "a", "c", "e"]
