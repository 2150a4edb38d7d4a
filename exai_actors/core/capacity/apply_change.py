"""Applies a change while the provider runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, assert_never

from exai_actors.core.capacity.account import Mode
from exai_actors.core.capacity.changes import (
    GATES,
    Change,
    DrainProvider,
    Pause,
    Reopen,
    SetGates,
    SetLimit,
    SetReserve,
    SetWeight,
    problem_of,
)
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settings import GateSettings

C = TypeVar("C", bound=ScheduledCall)


def apply_change(dispatcher: Dispatcher[C], change: Change, cause: str, now: float) -> str | None:
    """Apply and record a change; returns why it cannot be made, or None when it is in force.

    Pump the dispatcher afterwards.
    """
    account = dispatcher.account
    problem = problem_of(change, frozenset(account.model_limits), frozenset(account.weights))
    if problem is not None:
        return problem
    match change:
        case SetLimit(limit, None):
            what = f"limit {account.limit} -> {limit}"
            account.limit = limit
            dispatcher.pools[0].set_limit(limit)
        case SetLimit(limit, model):
            assert model is not None
            what = f"limit of {model} {account.model_limits[model]} -> {limit}"
            account.model_limits[model] = limit
            dispatcher.pool_of(model).set_limit(limit)
        case SetWeight(tenant, weight):
            what = f"weight of tenant '{tenant}' {account.weights.get(tenant, 1.0):g} -> {weight:g}"
            account.weights[tenant] = weight
            for pool in dispatcher.pools:
                pool.queue.set_weight(tenant, weight)
        case SetGates(gates):
            before = {each.name: each.limit for each in account.gates.statistics(now)}
            what = _gates_changed(before, gates)
            account.gates.change(gates)
        case SetReserve(permits):
            what = f"reserved permits {account.reserved} -> {permits}"
            account.reserved = permits
            dispatcher.pools[0].ledger.reserve(permits)
        case Pause():
            what = "paused"
            account.mode = Mode.PAUSED
        case DrainProvider():
            what = "draining"
            account.mode = Mode.DRAINING
        case Reopen():
            what = "open again"
            account.mode = Mode.OPEN
            dispatcher.guards.end_holds(now, cause)
        case _:
            assert_never(change)
    dispatcher.guards.record(now, what, cause)
    return None


def _gates_changed(before: Mapping[str, int], gates: GateSettings) -> str:
    changed = (
        f"{name} {before.get(name) or 'unlimited'} -> {getattr(gates, name) or 'unlimited'}"
        for name in GATES
        if before.get(name) != getattr(gates, name)
    )
    return ", ".join(changed) or "rate gates as they were"
