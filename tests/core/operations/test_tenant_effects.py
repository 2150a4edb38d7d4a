"""The effects of new weights on the shares of tenants and sessions."""

from __future__ import annotations

import pytest

from exai_actors.core.observe.parts import SessionState
from exai_actors.core.operations.action import ActionError, Effect, Undo
from exai_actors.core.operations.tenant_effects import session_weight_effect, weight_effect
from exai_actors.core.statistics import FlowStatistics, TenantStatistics, tenants_of

MINE = SessionState("/sessions/7", "mine", "ann", 1, 0, 5, 0, 0, 0, 0)


def tenants(*flows: FlowStatistics, **weights: float) -> tuple[TenantStatistics, ...]:
    return tenants_of(flows, weights)


def test_a_share_changes_by_weight_among_the_tenants_that_have_requests() -> None:
    found = tenants(
        FlowStatistics("ann", "a", 0, 1),
        FlowStatistics("ben", "b", 1, 0),
        FlowStatistics("cem", "c", 0, 1),
        ann=1.0,
        ben=2.0,
        idle=50.0,
    )
    assert weight_effect("ann", 3.0, found) == Effect(
        "weight 1 -> 3: its share among the tenants that have requests goes from 25% to 50%",
        "weight 1",
        Undo("tenant.weight", {"weight": 1.0}),
    )


@pytest.mark.parametrize("name", ["ann", "unknown"])
def test_without_others_a_tenant_has_everything_at_any_weight(name: str) -> None:
    found = tenants(FlowStatistics("ann", "a", 1, 4), ben=2.0) if name == "ann" else ()
    effect = weight_effect(name, 0.5, found)
    assert effect.text == (
        "weight 1 -> 0.5: no other tenant has requests, so it has all permits as before"
    )


@pytest.mark.parametrize(("name", "shown"), [("ann", "ann"), ("", "default")])
def test_the_weight_that_a_tenant_has_is_no_change(name: str, shown: str) -> None:
    with pytest.raises(ActionError, match=f"^the weight of {shown} is 2 already$"):
        weight_effect(name, 2.0, tenants(**{name: 2.0}))


@pytest.mark.parametrize(
    ("sessions", "others"),
    [
        ((), "0 other sessions have"),
        (("mine",), "0 other sessions have"),
        (("mine", "a"), "1 other session has"),
        (("a", "b"), "2 other sessions have"),
    ],
)
def test_the_weight_of_a_session_counts_among_those_of_its_tenant(
    sessions: tuple[str, ...], others: str
) -> None:
    flows = [FlowStatistics("ann", name, 0, 1) for name in sessions]
    flows.append(FlowStatistics("ben", "of-another-tenant", 1, 0))
    assert session_weight_effect(1.0, 2.5, MINE, tenants(*flows)) == Effect(
        "weight 1 -> 2.5, until the session ends: while it has requests queued, it gets 2.5 times "
        f"as much as a session of weight 1; of its tenant {others} requests now",
        "weight 1",
        Undo("session.weight", {"weight": 1.0}),
    )


def test_the_weight_that_a_session_has_is_no_change() -> None:
    with pytest.raises(ActionError, match=r"^its weight is 2\.5 already$"):
        session_weight_effect(2.5, 2.5, MINE, ())
