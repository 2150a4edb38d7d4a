"""The sessions with their connections, and the expiry of those without."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exai_actors.core.session.table import AttachResult, SessionTable
from exai_actors.ids import ConnectionId, SessionId, TenantName
from tests.leftovers import leftovers

SESSIONS = [SessionId(name) for name in "abcd"]
CONNECTIONS = [ConnectionId(f"conn-{number}") for number in range(3)]
A, B, C = SESSIONS[:3]
FIRST, SECOND = CONNECTIONS[:2]


def test_a_session_is_new_for_its_first_connection_and_known_for_the_next() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    assert table.attach(A, FIRST) == (AttachResult.NEW, None)
    assert table.attach(A, SECOND) == (AttachResult.KNOWN, None)
    assert len(table) == 1
    assert A in table


def test_a_session_expires_some_time_after_its_last_connection() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    table.attach(A, FIRST)
    table.attach(A, SECOND)
    table.detach(A, FIRST, now=0.0)
    assert table.next_expiry() is None
    table.detach(A, SECOND, now=10.0)
    assert table.next_expiry() == 70.0
    assert table.expired(69.9) == ()
    assert table.expired(70.0) == (A,)
    assert A not in table


def test_a_session_that_finishes_requests_expires_after_them() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    table.attach(A, FIRST)
    table.detach(A, FIRST, now=0.0)
    table.finishes(A)
    assert table.next_expiry() is None
    assert table.expired(1000.0) == ()
    table.finished(A, now=1000.0)
    assert table.next_expiry() == 1060.0
    assert table.expired(1060.0) == (A,)


def test_a_session_in_use_does_not_expire_when_it_has_finished_requests() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    table.attach(A, FIRST)
    table.finishes(A)
    table.finished(A, now=0.0)
    assert table.next_expiry() is None
    table.detach(A, FIRST, now=1.0)
    table.finishes(A)
    table.attach(A, SECOND)
    table.finished(A, now=2.0)
    assert table.next_expiry() is None


def test_a_session_that_finishes_requests_is_evicted_last() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    for session in (A, B):
        table.attach(session, FIRST)
        table.detach(session, FIRST, now=0.0)
    table.finishes(A)
    assert table.attach(C, FIRST) == (AttachResult.NEW, B)
    assert table.attach(SESSIONS[3], FIRST) == (AttachResult.NEW, A)
    assert A not in table


def test_a_session_can_be_resumed_in_time() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    table.attach(A, FIRST)
    table.detach(A, FIRST, now=0.0)
    assert table.attach(A, SECOND) == (AttachResult.KNOWN, None)
    assert table.next_expiry() is None
    assert table.expired(1000.0) == ()


def test_a_session_with_no_time_to_resume_expires_immediately() -> None:
    table = SessionTable(limit=2, resume_s=0.0)
    table.attach(A, FIRST)
    table.detach(A, FIRST, now=5.0)
    assert table.expired(5.0) == (A,)


def test_a_new_session_evicts_the_one_deserted_first() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    for session in (A, B):
        table.attach(session, FIRST)
    for now, session in enumerate((B, A)):
        table.detach(session, FIRST, float(now))
    assert table.attach(C, FIRST) == (AttachResult.NEW, B)
    assert B not in table
    assert A in table


def test_no_session_in_use_makes_room() -> None:
    table = SessionTable(limit=1, resume_s=60.0)
    table.attach(A, FIRST)
    assert table.attach(B, SECOND) == (AttachResult.FULL, None)
    assert B not in table


def test_a_connection_that_was_never_attached_ends_no_session() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    table.attach(A, FIRST)
    table.detach(A, SECOND, now=0.0)
    table.detach(B, FIRST, now=0.0)
    assert table.next_expiry() is None


def test_detaching_a_connection_twice_does_not_delay_the_expiry() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    table.attach(A, FIRST)
    table.detach(A, FIRST, now=0.0)
    table.detach(A, FIRST, now=30.0)
    assert table.next_expiry() == 60.0


def test_a_removed_session_is_gone() -> None:
    table = SessionTable(limit=2, resume_s=60.0)
    table.attach(A, FIRST)
    table.attach(B, FIRST)
    table.detach(B, FIRST, now=0.0)
    for session in (A, B, C):
        table.remove(session)
    assert len(table) == 0
    assert table.next_expiry() is None


X, Y, Z = (TenantName(name) for name in "xyz")


def filled(limit: int, weights: dict[TenantName, float] | None = None) -> SessionTable:
    """A table full of deserted sessions of the tenant x, after one of y."""
    table = SessionTable(limit, resume_s=60.0, weights=weights)
    desert(table, "outcomes of y", Y)
    for number in range(limit - 1):
        desert(table, f"x{number}", X)
    return table


def desert(table: SessionTable, name: str, tenant: TenantName) -> SessionId | None:
    """Attach to a session and leave it; returns the session that was evicted."""
    result, evicted = table.attach(SessionId(name), FIRST, tenant)
    assert result is not AttachResult.FULL
    table.detach(SessionId(name), FIRST, now=0.0)
    return evicted


@pytest.mark.parametrize("weight", [0.001, 1.0, 1000.0])
def test_a_tenant_that_opens_many_sessions_evicts_its_own(weight: float) -> None:
    table = filled(20, {X: weight})
    gone = [desert(table, f"more {number}", X) for number in range(100)]
    assert gone[:19] == [f"x{number}" for number in range(19)]
    assert SessionId("outcomes of y") in table


def test_a_tenant_that_finishes_requests_keeps_its_sessions_too() -> None:
    table = filled(5)
    table.finishes(SessionId("outcomes of y"))
    for number in range(20):
        desert(table, f"more {number}", X)
    assert SessionId("outcomes of y") in table


def test_a_tenant_with_fewer_sessions_evicts_those_of_the_one_with_the_most() -> None:
    table = filled(10)
    assert desert(table, "z0", Z) == "x0"
    assert desert(table, "y1", Y) == "x1"


def test_sessions_in_use_of_the_largest_tenant_make_others_evict_their_own() -> None:
    table = SessionTable(4, resume_s=60.0)
    for number in range(3):
        table.attach(SessionId(f"x{number}"), FIRST, X)
    desert(table, "y0", Y)
    assert table.attach(SessionId("x3"), FIRST, X) == (AttachResult.FULL, None)
    assert desert(table, "y1", Y) == "y0"
    assert table.attach(SessionId("z"), FIRST, Z) == (AttachResult.FULL, None)


def test_weights_share_out_a_full_table() -> None:
    table = SessionTable(30, resume_s=60.0, weights={X: 2.0})
    for number in range(200):
        desert(table, f"x{number}", X)
        desert(table, f"y{number}", Y)
    kept = sum(SessionId(f"x{number}") in table for number in range(200))
    assert (len(table), kept) == (30, 20)


def test_sessions_of_all_tenants_expire_in_order() -> None:
    table = SessionTable(10, resume_s=60.0)
    for now, (session, tenant) in enumerate(((A, X), (B, Y), (C, X))):
        table.attach(session, FIRST, tenant)
        table.detach(session, FIRST, now=float(now))
    assert table.next_expiry() == 60.0
    assert table.expired(61.0, 1) == (A,)
    assert table.expired(61.0) == (B,)
    assert table.expired(62.0) == (C,)


def test_the_connections_of_a_session_are_known() -> None:
    table = SessionTable(10, resume_s=60.0)
    table.attach(A, FIRST)
    table.attach(A, SECOND)
    assert sorted(table.connections(A)) == [FIRST, SECOND]
    assert table.connections(B) == ()


class TableMachine(RuleBasedStateMachine):
    """The table beside plain dictionaries."""

    TENANTS: ClassVar = dict(zip(SESSIONS, (X, X, Y, Z), strict=True))

    RESUME_S = 10.0

    @initialize(limit=st.integers(0, 3))
    def open(self, limit: int) -> None:
        self.table = SessionTable(limit, self.RESUME_S)
        self.members: dict[SessionId, set[ConnectionId]] = {}
        self.unused: list[tuple[float, SessionId]] = []
        self.deserted: list[tuple[float, SessionId]] = []
        self.finishing: list[SessionId] = []
        self.now = 0.0

    def end(self, session: SessionId) -> None:
        self.members.pop(session, None)
        self.come_back(session)

    def come_back(self, session: SessionId) -> None:
        self.unused = [each for each in self.unused if each[1] != session]
        self.deserted = [each for each in self.deserted if each[1] != session]
        self.finishing = [each for each in self.finishing if each != session]

    def to_evict(self, mine: TenantName) -> SessionId | None:
        counts = Counter(self.TENANTS[each] for each in self.members)
        counts[mine] += 1
        most: list[tuple[bool, int, SessionId]] = []
        for tenant, number in counts.items():
            leaves = [each for _, each in self.unused + self.deserted] + self.finishing
            leaves = [each for each in leaves if self.TENANTS[each] == tenant]
            if leaves and number >= counts[mine]:
                most.append((tenant == mine, number, leaves[0]))
        others = [each for each in most if not each[0] and each[1] > counts[mine]]
        if others:
            return max(others, key=lambda each: each[1])[2]
        return next((each[2] for each in most if each[0]), None)

    @rule(session=st.sampled_from(SESSIONS), connection=st.sampled_from(CONNECTIONS))
    def attach(self, session: SessionId, connection: ConnectionId) -> None:
        mine = self.TENANTS[session]
        place, evicted = self.table.attach(session, connection, mine)
        if session in self.members:
            assert (place, evicted) == (AttachResult.KNOWN, None)
            self.members[session].add(connection)
            self.come_back(session)
        elif len(self.members) < self.table.limit:
            assert (place, evicted) == (AttachResult.NEW, None)
            self.members[session] = {connection}
        elif leaver := self.to_evict(mine):
            assert (place, evicted) == (AttachResult.NEW, leaver)
            self.end(leaver)
            self.members[session] = {connection}
        else:
            assert (place, evicted) == (AttachResult.FULL, None)

    @rule(
        session=st.sampled_from(SESSIONS),
        connection=st.sampled_from(CONNECTIONS),
        has_begun=st.booleans(),
    )
    def detach(self, session: SessionId, connection: ConnectionId, *, has_begun: bool) -> None:
        self.now += 1
        self.table.detach(session, connection, self.now, has_begun=has_begun)
        members = self.members.get(session, set())
        if connection in members:
            members.discard(connection)
            if not members:
                waiting = self.deserted if has_begun else self.unused
                waiting.append((self.now + self.RESUME_S, session))

    @rule(session=st.sampled_from(SESSIONS))
    def finishes(self, session: SessionId) -> None:
        self.table.finishes(session)
        if any(each == session for _, each in self.deserted):
            self.come_back(session)
            self.finishing.append(session)

    @rule(session=st.sampled_from(SESSIONS))
    def finished(self, session: SessionId) -> None:
        self.table.finished(session, self.now)
        if session in self.finishing:
            self.come_back(session)
            self.deserted.append((self.now + self.RESUME_S, session))

    @rule(session=st.sampled_from(SESSIONS))
    def remove(self, session: SessionId) -> None:
        self.table.remove(session)
        self.end(session)

    @rule(seconds=st.integers(0, 8))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        waiting = sorted(self.unused + self.deserted)
        over = {session: expiry for expiry, session in waiting if expiry <= self.now}
        expired = self.table.expired(self.now)
        assert sorted(expired) == sorted(over)
        # Those of the same instant come in any order.
        assert [over[session] for session in expired] == list(over.values())
        for session in over:
            self.end(session)

    @invariant()
    def the_table_equals_the_dictionaries_and_keeps_its_limit(self) -> None:
        assert len(self.table) == len(self.members) <= self.table.limit
        assert all((session in self.table) is (session in self.members) for session in SESSIONS)
        earliest = min((expiry for expiry, _ in self.unused + self.deserted), default=None)
        assert self.table.next_expiry() == earliest

    def teardown(self) -> None:
        for session in SESSIONS:
            self.table.remove(session)
        assert leftovers(self.table) == {}


TestTable = TableMachine.TestCase
