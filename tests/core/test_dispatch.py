"""The ledger and the queue as one: nobody waits while a permit is free."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exai_actors.core.capacity import Permit
from exai_actors.core.dispatch import Dispatcher
from exai_actors.ids import PermitId, RequestKey, SessionId

A, B = SessionId("a"), SessionId("b")


def key(number: int) -> RequestKey:
    return RequestKey(f"r{number}")


def test_the_first_requests_are_granted_at_once() -> None:
    dispatcher: Dispatcher[str] = Dispatcher(limit=2, queue_limit=10)
    assert dispatcher.grant_at_once(A, key(1), 0.0) is not None
    assert dispatcher.grant_at_once(A, key(2), 0.0) is not None
    assert dispatcher.grant_at_once(A, key(3), 0.0) is None


def test_nobody_is_granted_at_once_before_those_who_wait() -> None:
    dispatcher: Dispatcher[str] = Dispatcher(limit=1, queue_limit=10)
    held = dispatcher.grant_at_once(A, key(1), 0.0)
    assert held is not None
    dispatcher.enqueue(A, key(2), "waits", 0.0)
    dispatcher.release(held.id, 1.0)
    assert dispatcher.grant_at_once(B, key(1), 1.0) is None
    assert [entry for _, entry in dispatcher.pump(1.0)] == ["waits"]


def test_a_release_frees_one_place_for_one_waiting_request() -> None:
    dispatcher: Dispatcher[str] = Dispatcher(limit=1, queue_limit=10)
    held = dispatcher.grant_at_once(A, key(1), 0.0)
    assert held is not None
    dispatcher.enqueue(A, key(2), "second", 0.0)
    dispatcher.enqueue(A, key(3), "third", 0.0)
    assert list(dispatcher.pump(0.0)) == []
    dispatcher.release(held.id, 2.0)
    granted = list(dispatcher.pump(2.0))
    assert granted == [(Permit(PermitId(2), A, key(2), since=2.0), "second")]


def test_a_second_release_lets_nobody_in() -> None:
    dispatcher: Dispatcher[str] = Dispatcher(limit=1, queue_limit=10)
    held = dispatcher.grant_at_once(A, key(1), 0.0)
    assert held is not None
    dispatcher.release(held.id, 1.0)
    assert dispatcher.grant_at_once(A, key(2), 1.0) is not None
    dispatcher.enqueue(A, key(3), "third", 1.0)
    assert dispatcher.release(held.id, 1.0) is None
    assert list(dispatcher.pump(1.0)) == []
    assert dispatcher.ledger.anomalies == 1


def test_a_full_queue_takes_no_more() -> None:
    dispatcher: Dispatcher[str] = Dispatcher(limit=0, queue_limit=1)
    assert dispatcher.enqueue(A, key(1), "first", 0.0)
    assert not dispatcher.enqueue(A, key(2), "second", 0.0)


def test_positions_and_estimates_follow_from_how_long_permits_are_held() -> None:
    dispatcher: Dispatcher[str] = Dispatcher(limit=2, queue_limit=10)
    first = dispatcher.grant_at_once(A, key(1), 3.0)
    assert first is not None
    dispatcher.grant_at_once(A, key(2), 3.0)
    dispatcher.release(first.id, 7.0)
    dispatcher.grant_at_once(A, key(3), 7.0)
    dispatcher.enqueue(A, key(4), "fourth", 7.0)
    dispatcher.enqueue(B, key(1), "other", 7.0)
    told = [
        (position, wait, waiting.entry)
        for position, wait, waiting in dispatcher.positions_due(7.0, every_s=8.0)
    ]
    assert told == [(1, 2.0, "fourth"), (2, 4.0, "other")]


def test_a_position_is_told_at_first_and_then_once_in_a_while() -> None:
    dispatcher: Dispatcher[str] = Dispatcher(limit=0, queue_limit=10)
    dispatcher.enqueue(A, key(1), "early", 0.0)
    assert [each[2].entry for each in dispatcher.positions_due(0.25, every_s=8.0)] == ["early"]
    dispatcher.enqueue(A, key(2), "late", 1.0)
    assert [each[2].entry for each in dispatcher.positions_due(1.0, every_s=8.0)] == ["late"]
    assert list(dispatcher.positions_due(8.0, every_s=8.0)) == []
    assert [each[2].entry for each in dispatcher.positions_due(8.25, every_s=8.0)] == ["early"]


def test_no_wait_is_estimated_before_the_first_call_has_ended() -> None:
    dispatcher: Dispatcher[str] = Dispatcher(limit=0, queue_limit=10)
    dispatcher.enqueue(A, key(1), "entry", 0.0)
    ((position, wait, _),) = dispatcher.positions_due(0.0, every_s=1.0)
    assert (position, wait) == (1, None)


class DispatcherMachine(RuleBasedStateMachine):
    """Driven as its owner drives it: pumped after every change."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher: Dispatcher[RequestKey] = Dispatcher(limit=2, queue_limit=5)
        self.running: dict[PermitId, RequestKey] = {}
        self.waiting: set[RequestKey] = set()
        self.sent = 0
        self.now = 0.0

    def pump(self) -> None:
        for permit, entry in self.dispatcher.pump(self.now):
            assert permit.request == entry
            self.waiting.remove(entry)
            self.running[permit.id] = entry
            assert len(self.running) <= self.dispatcher.ledger.limit

    @rule(session=st.sampled_from([A, B]), seconds=st.floats(0, 10))
    def want(self, session: SessionId, seconds: float) -> None:
        self.now += seconds
        self.sent += 1
        request = key(self.sent)
        permit = self.dispatcher.grant_at_once(session, request, self.now)
        if permit is not None:
            assert not self.waiting
            self.running[permit.id] = request
        elif self.dispatcher.enqueue(session, request, request, self.now):
            self.waiting.add(request)
            with pytest.raises(ValueError, match="already waits"):
                self.dispatcher.enqueue(session, request, request, self.now)
        else:
            assert len(self.waiting) == 5

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=st.floats(0, 10))
    def end(self, data: st.DataObject, seconds: float) -> None:
        self.now += seconds
        permit = data.draw(st.sampled_from(sorted(self.running)))
        request = self.running.pop(permit)
        released = self.dispatcher.release(permit, self.now)
        assert released is not None
        assert released.request == request
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), session=st.sampled_from([A, B]))
    def cancel(self, data: st.DataObject, session: SessionId) -> None:
        request = data.draw(st.sampled_from(sorted(self.waiting)))
        if self.dispatcher.queue.remove(session, request) is not None:
            self.waiting.remove(request)

    @rule(permit=st.integers(1000, 1005))
    def release_what_is_not_held(self, permit: int) -> None:
        assert self.dispatcher.release(PermitId(permit), self.now) is None
        self.pump()

    @rule(limit=st.integers(0, 4))
    def resize(self, limit: int) -> None:
        self.dispatcher.ledger.resize(limit)
        self.pump()

    @invariant()
    def nobody_waits_while_a_permit_is_free(self) -> None:
        assert not (self.dispatcher.ledger.free and self.waiting)

    @invariant()
    def each_request_is_in_one_place(self) -> None:
        ledger, queue = self.dispatcher.ledger, self.dispatcher.queue
        held = {permit.id: permit.request for permit in ledger.held()}
        assert held == self.running
        assert {waiting.request for waiting in queue.in_service_order()} == self.waiting
        assert not set(held.values()) & self.waiting


TestDispatcher = DispatcherMachine.TestCase
