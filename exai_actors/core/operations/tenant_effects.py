"""The effect of a new weight on a tenant."""

from __future__ import annotations

from collections.abc import Iterable

from exai_actors.core.operations.action import ActionError, Effect, Undo
from exai_actors.core.statistics import TenantStatistics


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
