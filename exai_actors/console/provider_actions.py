"""The actions that change the capacity of providers, and the weights of tenants at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from exai_actors.console.actions import Actions, Cause, Plan, Replies, ask
from exai_actors.console.parts import Parts
from exai_actors.core.capacity.changes import (
    GATES,
    Change,
    DrainProvider,
    LiftHold,
    Pause,
    ResetCircuit,
    Resume,
    SetGate,
    SetLimit,
    SetSessionWeight,
    SetWeight,
    problem_of,
)
from exai_actors.core.operations.action import Action, ActionError, Argument, ArgumentKind
from exai_actors.core.operations.provider_effects import ProviderChange, effect_of
from exai_actors.core.operations.tenant_effects import session_weight_effect, weight_effect
from exai_actors.core.operators import Role
from exai_actors.core.statistics import ProviderStatistics
from exai_actors.ids import DEFAULT_TENANT, DEFAULT_TENANT_SHOWN, ProviderName, TenantName
from exai_actors.messages.provider import ChangeProvider
from exai_actors.runtime import PathRef

Arguments = Mapping[str, Any]

_LIMIT = Argument("limit", ArgumentKind.COUNT, "calls that may run at the same time")
_MODEL = Argument("model", ArgumentKind.TEXT, "a model with a limit of its own", required=False)
_HELD_MODEL = Argument("model", ArgumentKind.TEXT, "only the hold of this model", required=False)
_GATE = Argument("gate", ArgumentKind.TEXT, ", ".join(GATES))
_GATE_LIMIT = Argument("limit", ArgumentKind.COUNT, "its new limit; 0 removes the gate")
_WEIGHT = Argument("weight", ArgumentKind.NUMBER, "from 0.001 to 1000")


def _action(name: str, title: str, role: Role, help_: str, *arguments: Argument) -> Action:
    return Action(f"provider.{name}", title, "providers", role, help_, arguments)


_CHANGES: tuple[tuple[Action, Callable[[Arguments], ProviderChange]], ...] = (
    (
        _action("pause", "Pause", Role.OPERATOR, "Grant no call until it is resumed."),
        lambda _: Pause(),
    ),
    (
        _action("resume", "Resume", Role.OPERATOR, "End a pause or a drain; holds stay."),
        lambda _: Resume(),
    ),
    (
        _action("drain", "Drain", Role.OPERATOR, "Refuse new requests and finish the others."),
        lambda _: DrainProvider(),
    ),
    (
        _action("limit", "Set limit", Role.ADMIN, "Set its limit.", _LIMIT, _MODEL),
        lambda given: SetLimit(given["limit"], given.get("model")),
    ),
    (
        _action("gate", "Set gate", Role.ADMIN, "Set or remove a rate gate.", _GATE, _GATE_LIMIT),
        lambda given: SetGate(given["gate"], given["limit"] or None),
    ),
    (
        _action("lift_hold", "Lift hold", Role.OPERATOR, "End its holds now.", _HELD_MODEL),
        lambda given: LiftHold(given.get("model")),
    ),
    (
        _action("reset_circuit", "Reset circuit", Role.OPERATOR, "Close its circuit now."),
        lambda _: ResetCircuit(),
    ),
)

_TENANT_WEIGHT = Action(
    "tenant.weight",
    "Set weight",
    "tenants",
    Role.ADMIN,
    "Set its weight at all providers.",
    (_WEIGHT,),
)


_SESSION_WEIGHT = Action(
    "session.weight",
    "Set weight",
    "sessions",
    Role.ADMIN,
    "Set its weight among the sessions of its tenant, at all providers.",
    (_WEIGHT,),
)


class ProviderActions:
    """Makes changes of providers by message."""

    def __init__(self, providers: Mapping[ProviderName, PathRef], parts: Parts) -> None:
        self._providers = providers
        self._parts = parts

    def register(self, actions: Actions) -> None:
        for action, change_of in _CHANGES:
            actions.add(action, partial(self._plan, change_of))
        actions.add(_TENANT_WEIGHT, self._plan_weight)
        actions.add(_SESSION_WEIGHT, self._plan_session_weight)

    def _plan(
        self, change_of: Callable[[Arguments], ProviderChange], target: str, arguments: Arguments
    ) -> Plan:
        provider = self._find(target)
        change = change_of(arguments)
        models = frozenset(each.model for each in provider.model_limits)
        _check(change, models, frozenset())
        effect = effect_of(change, provider, self._parts.leaving(target))
        return Plan(effect, partial(self._send, (ProviderName(target),), change))

    def _plan_weight(self, target: str, arguments: Arguments) -> Plan:
        tenants = tuple(self._parts.tenants())
        known = frozenset(TenantName(each.name) for each in tenants) - {DEFAULT_TENANT}
        name = TenantName(target)
        if name == DEFAULT_TENANT_SHOWN and name not in known:
            name = DEFAULT_TENANT
        change = SetWeight(name, arguments["weight"])
        _check(change, frozenset(), known)
        effect = weight_effect(name, change.weight, tenants)
        return Plan(effect, partial(self._send, tuple(self._providers), change))

    def _plan_session_weight(self, target: str, arguments: Arguments) -> Plan:
        state, found = self._parts.session(target), self._parts.session_weight(target)
        if state is None or found is None:
            raise ActionError(f"there is no session '{target}'", "unknown")
        session, before = found
        change = SetSessionWeight(session, state.session, arguments["weight"])
        _check(change, frozenset(), frozenset())
        effect = session_weight_effect(before, change.weight, state, self._parts.tenants())
        return Plan(effect, partial(self._send, tuple(self._providers), change))

    def _send(self, providers: tuple[ProviderName, ...], change: Change, cause: Cause) -> Replies:
        message = ChangeProvider(change, str(cause))
        return tuple(ask(self._providers[name], message, name) for name in providers)

    def _find(self, name: str) -> ProviderStatistics:
        for provider in self._parts.statistics().providers:
            if provider.name == name:
                return provider
        known = ", ".join(self._providers)
        raise ActionError(f"there is no provider '{name}'; choose from {known}", "unknown")


def _check(change: Change, models: frozenset[str], tenants: frozenset[TenantName]) -> None:
    problem = problem_of(change, models, tenants)
    if problem is not None:
        raise ActionError(problem)
