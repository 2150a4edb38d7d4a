"""The ledger of permits keeps its books whatever is done to it."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exai_actors.core.capacity import CapacityLedger, Permit
from exai_actors.ids import PermitId, RequestKey, SessionId

SESSION = SessionId("desk")
SESSIONS = st.sampled_from([SessionId("a"), SessionId("b")])


def test_no_permit_is_granted_above_the_limit() -> None:
    ledger = CapacityLedger(2)
    assert ledger.grant(SESSION, RequestKey("1"), 0.0) is not None
    assert ledger.grant(SESSION, RequestKey("2"), 0.0) is not None
    assert ledger.grant(SESSION, RequestKey("3"), 0.0) is None
    assert (ledger.in_flight, ledger.free, ledger.over) == (2, 0, 0)


def test_a_permit_names_its_holder_and_the_instant_of_its_grant() -> None:
    ledger = CapacityLedger(1)
    permit = ledger.grant(SESSION, RequestKey("1"), 7.5)
    assert permit == Permit(PermitId(1), SESSION, RequestKey("1"), since=7.5)
    assert ledger.find(PermitId(1)) is permit


def test_a_second_release_changes_nothing_and_is_counted() -> None:
    ledger = CapacityLedger(1)
    permit = ledger.grant(SESSION, RequestKey("1"), 0.0)
    assert permit is not None
    assert ledger.release(permit.id) is permit
    assert ledger.release(permit.id) is None
    assert (ledger.free, ledger.in_flight, ledger.anomalies) == (1, 0, 1)


def test_a_permit_that_was_never_granted_frees_nobody_elses() -> None:
    ledger = CapacityLedger(1)
    ledger.grant(SESSION, RequestKey("1"), 0.0)
    assert ledger.release(PermitId(99)) is None
    assert ledger.grant(SESSION, RequestKey("2"), 0.0) is None
    assert ledger.anomalies == 1


def test_a_shrink_revokes_nothing_and_grants_nothing_until_enough_came_back() -> None:
    ledger = CapacityLedger(3)
    permits = [ledger.grant(SESSION, RequestKey(str(n)), 0.0) for n in range(3)]
    ledger.resize(1)
    assert (ledger.in_flight, ledger.free, ledger.over) == (3, 0, 2)
    for permit in permits[:2]:
        assert permit is not None
        ledger.release(permit.id)
    assert (ledger.in_flight, ledger.free, ledger.over) == (1, 0, 0)
    assert ledger.grant(SESSION, RequestKey("4"), 0.0) is None


def test_a_limit_of_zero_grants_nothing_until_it_grows() -> None:
    ledger = CapacityLedger(0)
    assert ledger.grant(SESSION, RequestKey("1"), 0.0) is None
    ledger.resize(1)
    assert ledger.grant(SESSION, RequestKey("1"), 0.0) is not None


@pytest.mark.parametrize("make", [CapacityLedger, CapacityLedger(1).resize])
def test_a_limit_below_zero_is_refused(make: type[CapacityLedger]) -> None:
    with pytest.raises(ValueError, match="cannot be negative, got -1"):
        make(-1)


class LedgerMachine(RuleBasedStateMachine):
    """The ledger beside a plain dictionary of what is out."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = CapacityLedger(2)
        self.limit = 2
        self.out: dict[PermitId, Permit] = {}
        self.ever: set[PermitId] = set()
        self.wrong_releases = 0
        self.highest_over = 0
        self.now = 0.0

    @rule(session=SESSIONS, request=st.sampled_from("xyz"))
    def grant(self, session: SessionId, request: str) -> None:
        self.now += 1
        had_room = len(self.out) < self.limit
        permit = self.ledger.grant(session, RequestKey(request), self.now)
        assert (permit is not None) is had_room
        if permit is not None:
            assert permit.id not in self.ever
            assert (permit.session, permit.request, permit.since) == (session, request, self.now)
            self.ever.add(permit.id)
            self.out[permit.id] = permit
            assert len(self.out) <= self.limit

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(sorted(self.out)))
        assert self.ledger.release(permit) is self.out.pop(permit)
        self.highest_over = min(self.highest_over, max(0, len(self.out) - self.limit))

    @rule(permit=st.integers(-1, 30))
    def release_what_is_not_held(self, permit: int) -> None:
        if permit not in self.out:
            assert self.ledger.release(PermitId(permit)) is None
            self.wrong_releases += 1

    @rule(limit=st.integers(0, 5))
    def resize(self, limit: int) -> None:
        self.ledger.resize(limit)
        self.limit = limit
        self.highest_over = max(0, len(self.out) - limit)

    @invariant()
    def free_and_held_make_up_the_limit_and_what_is_over_it(self) -> None:
        ledger = self.ledger
        assert ledger.limit == self.limit
        assert ledger.in_flight == len(self.out)
        assert ledger.free + ledger.in_flight == ledger.limit + ledger.over
        assert ledger.free >= 0
        assert ledger.over >= 0
        assert not (ledger.free and ledger.over)

    @invariant()
    def what_is_over_the_limit_only_falls_until_the_next_shrink(self) -> None:
        assert self.ledger.over <= self.highest_over

    @invariant()
    def what_is_held_is_known_by_name(self) -> None:
        assert self.ledger.held() == tuple(self.out.values())
        assert all(self.ledger.find(permit.id) is permit for permit in self.out.values())

    @invariant()
    def each_wrong_release_is_counted(self) -> None:
        assert self.ledger.anomalies == self.wrong_releases


TestLedger = LedgerMachine.TestCase
