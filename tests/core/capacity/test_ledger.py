"""The ledger of permits adds up after every operation."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exai_actors.core.capacity.ledger import CapacityLedger
from exai_actors.ids import PermitId


def test_no_permit_is_granted_above_the_limit() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(2)
    assert ledger.grant("first") is not None
    assert ledger.grant("second") is not None
    assert ledger.grant("third") is None
    assert (ledger.in_flight, ledger.free, ledger.over) == (2, 0, 0)


def test_a_permit_names_its_record() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(1)
    permit = ledger.grant("mine")
    assert permit is not None
    assert ledger.held == {permit: "mine"}


def test_a_second_release_changes_nothing_and_is_counted() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(1)
    permit = ledger.grant("mine")
    assert permit is not None
    assert ledger.release(permit) == "mine"
    assert ledger.release(permit) is None
    assert (ledger.free, ledger.in_flight, ledger.anomalies) == (1, 0, 1)


def test_releasing_an_unknown_permit_frees_nothing() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(1)
    ledger.grant("mine")
    assert ledger.release(PermitId(99)) is None
    assert ledger.grant("yours") is None
    assert ledger.anomalies == 1


def test_a_shrink_revokes_nothing_and_grants_nothing_until_enough_are_released() -> None:
    ledger: CapacityLedger[int] = CapacityLedger(3)
    permits = [ledger.grant(n) for n in range(3)]
    ledger.resize(1)
    assert (ledger.in_flight, ledger.free, ledger.over) == (3, 0, 2)
    for permit in permits[:2]:
        assert permit is not None
        ledger.release(permit)
    assert (ledger.in_flight, ledger.free, ledger.over) == (1, 0, 0)
    assert ledger.grant(4) is None


def test_a_limit_of_zero_grants_nothing_until_it_grows() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(0)
    assert ledger.grant("mine") is None
    ledger.resize(1)
    assert ledger.grant("mine") is not None


def test_a_quarantined_permit_is_neither_held_nor_free_until_its_release() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(1)
    permit = ledger.grant("mine")
    assert permit is not None
    assert ledger.quarantine(permit) == "mine"
    assert (ledger.in_flight, ledger.free) == (0, 0)
    assert ledger.grant("yours") is None
    assert ledger.release(permit) == "mine"
    assert ledger.free == 1
    assert ledger.anomalies == 0


def test_a_permit_adopted_in_quarantine_is_released_with_its_record() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(1)
    ledger.adopt_quarantined(PermitId(7), "of before")
    assert (ledger.free, ledger.in_flight) == (0, 0)
    assert ledger.release(PermitId(7)) == "of before"
    assert (ledger.free, ledger.anomalies) == (1, 0)


def test_only_held_permits_can_be_quarantined() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(1)
    assert ledger.quarantine(PermitId(7)) is None
    assert (ledger.free, ledger.anomalies) == (1, 1)


def test_reserved_permits_are_not_granted_here() -> None:
    ledger: CapacityLedger[str] = CapacityLedger(3)
    ledger.reserve(2)
    assert ledger.grant("mine") is not None
    assert ledger.grant("yours") is None
    ledger.reserve(0)
    assert ledger.grant("yours") is not None


def test_ledgers_that_count_in_steps_never_grant_the_same_permit() -> None:
    one: CapacityLedger[str] = CapacityLedger(50, last=0, step=2)
    other: CapacityLedger[str] = CapacityLedger(50, last=1, step=2)
    assert not {one.grant("x") for _ in range(50)} & {other.grant("x") for _ in range(50)}


@pytest.mark.parametrize("make", [CapacityLedger, CapacityLedger(1).resize])
def test_a_limit_below_zero_is_refused(make: type[CapacityLedger[str]]) -> None:
    with pytest.raises(ValueError, match="cannot be negative, got -1"):
        make(-1)


def test_a_negative_reserve_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 0"):
        CapacityLedger(1).reserve(-1)


class LedgerMachine(RuleBasedStateMachine):
    """The ledger beside plain dictionaries of the permits out."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: CapacityLedger[object] = CapacityLedger(2)
        self.limit = 2
        self.reserved = 0
        self.out: dict[PermitId, object] = {}
        self.aside: dict[PermitId, object] = {}
        self.ever: set[PermitId] = set()
        self.wrong = 0
        self.highest_over = 0

    def taken(self) -> int:
        return len(self.out) + len(self.aside) + self.reserved

    def let_over_fall(self) -> None:
        self.highest_over = min(self.highest_over, max(0, self.taken() - self.limit))

    def let_over_rise(self) -> None:
        self.highest_over = max(0, self.taken() - self.limit)

    @rule()
    def grant(self) -> None:
        had_room = self.taken() < self.limit
        record = object()
        permit = self.ledger.grant(record)
        assert (permit is not None) is had_room
        if permit is not None:
            assert permit not in self.ever
            self.ever.add(permit)
            self.out[permit] = record

    @precondition(lambda self: self.out or self.aside)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(sorted({**self.out, **self.aside})))
        record = self.out.pop(permit, None) or self.aside.pop(permit, None)
        assert self.ledger.release(permit) is record
        self.let_over_fall()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def quarantine(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(sorted(self.out)))
        record = self.aside[permit] = self.out.pop(permit)
        assert self.ledger.quarantine(permit) is record

    @rule(permit=st.integers(-1, 30), aside=st.booleans())
    def return_an_unknown_permit(self, permit: int, aside: bool) -> None:
        known = PermitId(permit)
        if known not in self.out and (aside or known not in self.aside):
            give = self.ledger.quarantine if aside else self.ledger.release
            assert give(known) is None
            self.wrong += 1

    @rule(limit=st.integers(0, 5))
    def resize(self, limit: int) -> None:
        self.ledger.resize(limit)
        self.limit = limit
        self.let_over_rise()

    @rule(permits=st.integers(0, 3))
    def reserve(self, permits: int) -> None:
        self.ledger.reserve(permits)
        self.reserved = permits
        self.let_over_rise()

    @invariant()
    def all_parts_make_up_the_limit_and_its_excess(self) -> None:
        ledger = self.ledger
        parts = ledger.free + ledger.in_flight + len(ledger.quarantined) + ledger.reserved
        assert ledger.limit == self.limit
        assert parts == ledger.limit + ledger.over
        assert ledger.free >= 0
        assert ledger.over >= 0
        assert not (ledger.free and ledger.over)

    @invariant()
    def the_excess_only_falls_until_the_next_shrink(self) -> None:
        assert self.ledger.over <= self.highest_over

    @invariant()
    def every_permit_out_has_its_record(self) -> None:
        assert self.ledger.held == self.out
        assert self.ledger.quarantined == self.aside

    @invariant()
    def each_wrong_return_is_counted(self) -> None:
        assert self.ledger.anomalies == self.wrong


TestLedger = LedgerMachine.TestCase
