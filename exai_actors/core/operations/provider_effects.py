"""The effect of a change on a provider, as its figures predict it."""

from __future__ import annotations

from typing import assert_never

from exai_actors.core.capacity.changes import (
    DrainProvider,
    LiftHold,
    Pause,
    ResetCircuit,
    Resume,
    SetGate,
    SetLimit,
)
from exai_actors.core.capacity.rate_gates import GateStatistics
from exai_actors.core.durations import format_seconds
from exai_actors.core.operations.action import ActionError, Effect, Undo, counted
from exai_actors.core.statistics import ProviderStatistics

ProviderChange = Pause | DrainProvider | Resume | SetLimit | SetGate | LiftHold | ResetCircuit
"""The changes of one provider that an operator can make at a console."""

_MODE_ACTIONS = {
    "open": "provider.resume",
    "paused": "provider.pause",
    "draining": "provider.drain",
}


def effect_of(change: ProviderChange, provider: ProviderStatistics, leaving: int) -> Effect:
    """The effect if the provider makes this change now.

    ``leaving`` queued requests would rather go elsewhere than wait for a closed provider. Raises
    ActionError if there is nothing to change.
    """
    match change:
        case Pause():
            return _mode(provider, "paused", _paused(provider, leaving))
        case DrainProvider():
            queued = counted(provider.queued, "queued request")
            text = f"{_in_flight(provider)} and {queued} are finished; new requests are refused"
            return _mode(provider, "draining", text)
        case Resume():
            return _mode(provider, "open", f"{_starting(provider)}; new requests are admitted")
        case SetLimit():
            return _limited(change, provider)
        case SetGate():
            return _gated(change, provider)
        case LiftHold(model):
            return _lifted(provider, model)
        case ResetCircuit():
            if provider.circuit == "closed":
                raise ActionError(f"the circuit of {provider.name} is closed already")
            text = f"the circuit, now {provider.circuit.replace('_', '-')}, closes"
            return Effect(f"{text}: {_starting(provider)}", f"circuit {provider.circuit}")
        case _:
            assert_never(change)


def _mode(provider: ProviderStatistics, mode: str, text: str) -> Effect:
    if provider.mode not in _MODE_ACTIONS:
        raise ActionError(f"{provider.name} is {provider.mode}: {provider.trouble}")
    if provider.mode == mode:
        raise ActionError(f"{provider.name} is {mode} already")
    before = f"{provider.mode}, {_in_flight(provider)}, {provider.queued} queued"
    return Effect(text, before, Undo(_MODE_ACTIONS[provider.mode]))


def _paused(provider: ProviderStatistics, leaving: int) -> str:
    waiting = provider.queued - leaving
    text = counted(provider.in_flight, "call in flight continues", "calls in flight continue")
    text += f"; {counted(waiting, 'queued request')} and new ones wait until it is resumed"
    if leaving:
        leave = counted(leaving, "queued request leaves", "queued requests leave")
        text += f"; {leave} for another provider"
    return text


def _starting(provider: ProviderStatistics, free: int | None = None) -> str:
    """How many queued requests can start with so many free permits, by default the present ones."""
    starting = min(provider.queued, provider.free if free is None else free)
    return f"{starting} of {counted(provider.queued, 'queued request')} can start"


def _limited(change: SetLimit, provider: ProviderStatistics) -> Effect:
    limit, in_flight = _own_limit(provider), provider.in_flight
    undo: dict[str, int | str] = {}
    subject = "limit"
    if change.model is not None:
        found = next((each for each in provider.model_limits if each.model == change.model), None)
        if found is None:
            known = ", ".join(each.model for each in provider.model_limits) or "none"
            raise ActionError(
                f"model '{change.model}' has no limit of its own at {provider.name}; those that "
                f"have: {known}"
            )
        limit, in_flight, subject = found.limit, found.in_flight, f"limit of {found.model}"
        undo["model"] = change.model
    else:
        in_flight -= sum(each.in_flight for each in provider.model_limits)
    if change.limit == limit:
        raise ActionError(f"the {subject} of {provider.name} is {limit} already")
    over = in_flight - change.limit
    text = f"{subject} {limit} -> {change.limit}: "
    if over > 0:
        text += (
            f"{over} of {counted(in_flight, 'call')} in flight must end before the next is granted"
        )
    elif change.limit < limit:
        within = counted(in_flight, "call in flight is", "calls in flight are")
        text += f"{within} within it"
    else:
        text += _starting(provider, provider.free + change.limit - limit)
    return Effect(text, f"{subject} {limit}", Undo("provider.limit", {"limit": limit, **undo}))


def _own_limit(provider: ProviderStatistics) -> int:
    """The limit that the models without one of their own share."""
    return provider.configured_limit - sum(each.limit for each in provider.model_limits)


def _gated(change: SetGate, provider: ProviderStatistics) -> Effect:
    gate: GateStatistics | None = next(
        (each for each in provider.gates if each.name == change.gate), None
    )
    before = 0 if gate is None else gate.limit
    after = change.limit or 0
    if before == after:
        raise ActionError(f"{change.gate} of {provider.name} is {_shown(before)} already")
    text = f"{change.gate} {_shown(before)} -> {_shown(after)}: "
    if not after:
        text += f"the gate opens; {_starting(provider)}"
    elif gate is None:
        text += "counts from now on"
    elif gate.used >= after:
        window = format_seconds(gate.length_s)
        text += f"{gate.used:,.0f} used within {window}, so calls wait until earlier ones are past"
    else:
        text += f"{gate.used:,.0f} used, {after - gate.used:,.0f} remain"
    undo = Undo("provider.gate", {"gate": change.gate, "limit": before})
    return Effect(text, f"{change.gate} {_shown(before)}", undo)


def _shown(limit: int) -> str:
    return f"{limit:,}" if limit else "unlimited"


def _lifted(provider: ProviderStatistics, model: str | None) -> Effect:
    holds = [(each.model, each.held_for_s, each.because) for each in provider.model_holds]
    if provider.held_for_s > 0:
        holds.insert(0, ("", provider.held_for_s, provider.held_because))
    lifted = [each for each in holds if model in (None, each[0])]
    if not lifted:
        of = f"model '{model}' of " if model else ""
        raise ActionError(f"{of}{provider.name} is not held")
    before = "; ".join(
        f"{name or 'account'} held for {format_seconds(seconds)}: {because}"
        for name, seconds, because in lifted
    )
    text = f"{counted(len(lifted), 'hold ends', 'holds end')} ({before}); {_starting(provider)}"
    return Effect(text, before)


def _in_flight(provider: ProviderStatistics) -> str:
    return counted(provider.in_flight, "call in flight", "calls in flight")
