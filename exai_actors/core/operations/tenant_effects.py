"""The effects of new weights on tenants and sessions."""

from __future__ import annotations

from collections.abc import Iterable

from exai_actors.core.observe.parts import SessionState
from exai_actors.core.operations.action import ActionError, Effect, Undo, counted
from exai_actors.core.statistics import TenantStatistics


def session_weight_effect(
    before: float, weight: float, session: SessionState, tenants: Iterable[TenantStatistics]
) -> Effect:
    """The effect of the weight on a session's part of its tenant's share."""
    if weight == before:
        raise ActionError(f"its weight is {weight:g} already")
    with_requests = next((each.sessions for each in tenants if each.name == session.tenant), ())
    others = sum(each.session != session.session for each in with_requests)
    text = (
        f"weight {before:g} -> {weight:g}, until the session ends: while it has requests queued, "
        f"it gets {weight:g} times as much as a session of weight 1; of its tenant "
        f"{counted(others, 'other session')} {'has' if others == 1 else 'have'} requests now"
    )
    return Effect(text, f"weight {before:g}", Undo("session.weight", {"weight": before}))


def weight_effect(name: str, weight: float, tenants: Iterable[TenantStatistics]) -> Effect:
    """The effect of the weight on the tenant's share among the tenants that have requests now."""
    all_tenants = tuple(tenants)
    before = next((each.weight for each in all_tenants if each.name == name), 1.0)
    if weight == before:
        raise ActionError(f"the weight of {name or 'default'} is {weight:g} already")
    others = sum(
        each.weight for each in all_tenants if each.name != name and each.in_flight + each.queued
    )
    text = f"weight {before:g} -> {weight:g}: "
    if others:
        share, later = before / (before + others), weight / (weight + others)
        text += (
            f"its share among the tenants that have requests goes from {share:.0%} to {later:.0%}"
        )
    else:
        text += "no other tenant has requests, so it has all permits as before"
    undo = Undo("tenant.weight", {"weight": before})
    return Effect(text, f"weight {before:g}", undo)
