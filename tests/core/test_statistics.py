"""The figures of tenants, added up over their sessions at all providers."""

from __future__ import annotations

import pytest

from exai_actors.core.statistics import (
    SESSIONS_SHOWN,
    FlowStatistics,
    SessionStatistics,
    tenants_of,
)


def test_flows_of_a_session_and_sessions_of_a_tenant_are_added_up() -> None:
    flows = [
        FlowStatistics("ann", "a", in_flight=1, queued=2),
        FlowStatistics("ann", "a", in_flight=1, queued=3),
        FlowStatistics("ann", "b", in_flight=0, queued=9),
        FlowStatistics("ben", "c", in_flight=1, queued=0),
    ]
    ann, ben = tenants_of(flows, {})
    assert (ann.name, ann.in_flight, ann.queued) == ("ann", 2, 14)
    assert ann.sessions == (SessionStatistics("b", 0, 9), SessionStatistics("a", 2, 5))
    assert (ben.name, ben.in_flight, ben.queued) == ("ben", 1, 0)


def test_only_tenants_with_requests_compete_for_the_capacity() -> None:
    flows = [FlowStatistics("ann", "a", 1, 0), FlowStatistics("ben", "b", 0, 1)]
    tenants = {each.name: each for each in tenants_of(flows, {"ann": 3.0, "idle": 5.0})}
    assert tenants["ann"].share == pytest.approx(0.75)
    assert tenants["ben"].share == pytest.approx(0.25)
    assert tenants["idle"].share is None
    assert (tenants["idle"].weight, tenants["idle"].sessions) == (5.0, ())


def test_the_sessions_with_the_most_requests_are_shown() -> None:
    flows = [
        FlowStatistics("ann", f"session {number:03}", 0, number)
        for number in range(SESSIONS_SHOWN + 20)
    ]
    [ann] = tenants_of(flows, {})
    assert [each.queued for each in ann.sessions] == list(range(SESSIONS_SHOWN + 19, 19, -1))
