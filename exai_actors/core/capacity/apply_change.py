"""Applies a change while the provider runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, assert_never

from exai_actors.core.capacity.account import Account, Mode
from exai_actors.core.capacity.changes import (
    GATES,
    MAX_SESSION_WEIGHTS,
    Change,
    DrainProvider,
    LiftHold,
    Pause,
    Reopen,
    ResetCircuit,
    Resume,
    SetGate,
    SetGates,
    SetLimit,
    SetReserve,
    SetSessionWeight,
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
        case SetSessionWeight():
            what = _set_session_weight(dispatcher, change)
        case SetGate() | SetGates():
            what = _set_gates(account, change, now)
        case SetReserve(permits):
            what = f"reserved permits {account.reserved} -> {permits}"
            account.reserved = permits
            dispatcher.pools[0].ledger.reserve(permits)
        case Pause() | DrainProvider() | Resume() | LiftHold() | ResetCircuit() | Reopen():
            what = _close_or_open(dispatcher, change, cause, now)
        case _:
            assert_never(change)
    dispatcher.guards.record(now, what, cause)
    return None


def _close_or_open(
    dispatcher: Dispatcher[C],
    change: Pause | DrainProvider | Resume | LiftHold | ResetCircuit | Reopen,
    cause: str,
    now: float,
) -> str:
    account = dispatcher.account
    match change:
        case Pause():
            account.mode = Mode.PAUSED
            return "paused"
        case DrainProvider():
            account.mode = Mode.DRAINING
            return "draining"
        case Resume():
            account.mode = Mode.OPEN
            return "resumed"
        case LiftHold(model):
            dispatcher.guards.end_holds(now, cause, model)
            dispatcher.retries.hasten(now, model)
            return f"hold of model {model} lifted" if model else "holds lifted"
        case ResetCircuit():
            before = account.circuit.state
            account.circuit.reset()
            return f"circuit closed, was {before}"
        case Reopen():
            account.mode = Mode.OPEN
            dispatcher.guards.end_holds(now, cause)
            dispatcher.retries.hasten(now)
            return "open again"
        case _:
            assert_never(change)


def _set_session_weight(dispatcher: Dispatcher[C], change: SetSessionWeight) -> str:
    weights, session = dispatcher.account.session_weights, change.session
    before = weights.pop(session, 1.0)
    while len(weights) >= MAX_SESSION_WEIGHTS:
        # That of a session that never came here is never forgotten.
        del weights[next(iter(weights))]
    for pool in dispatcher.pools:
        pool.queue.set_session_weight(session, change.weight)
    return f"weight of session '{change.shown}' {before:g} -> {change.weight:g}"


def _set_gates(account: Account, change: SetGate | SetGates, now: float) -> str:
    if isinstance(change, SetGate):
        gates = account.gates.with_limit(change.gate, change.limit, now)
    else:
        gates = change.gates
    what = _gates_changed(_limits(account, now), gates)
    account.gates.change(gates)
    return what


def _limits(account: Account, now: float) -> dict[str, int]:
    return {each.name: each.limit for each in account.gates.statistics(now)}


def _gates_changed(before: Mapping[str, int], gates: GateSettings) -> str:
    changed = (
        f"{name} {before.get(name) or 'unlimited'} -> {getattr(gates, name) or 'unlimited'}"
        for name in GATES
        if before.get(name) != getattr(gates, name)
    )
    return ", ".join(changed) or "rate gates as they were"
