"""What can be changed of a provider while it runs, and the record that is kept of each change."""

from __future__ import annotations

import msgspec

from exai_actors.core.capacity.settings import GateSettings
from exai_actors.ids import DEFAULT_TENANT, TenantName

MAX_LIMIT = 1_000_000
MAX_TOKENS = 1_000_000_000_000
MIN_WEIGHT = 0.001
MAX_WEIGHT = 1000
MAX_MARGIN_S = 60
GATES = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")


class SetLimit(msgspec.Struct, frozen=True, tag="limit"):
    """The limit is now this; of ``model``'s own permits when it names one. Nothing is revoked."""

    limit: int
    model: str | None = None


class SetWeight(msgspec.Struct, frozen=True, tag="weight"):
    """Set a tenant's weight; DEFAULT_TENANT has the sessions of no configured tenant."""

    tenant: TenantName
    weight: float


class SetGates(msgspec.Struct, frozen=True, tag="gates"):
    """The rate gates are now these; what was used counts against them."""

    gates: GateSettings


class SetReserve(msgspec.Struct, frozen=True, tag="reserve"):
    """So many of its permits are left to others."""

    permits: int


class Pause(msgspec.Struct, frozen=True, tag="pause"):
    """Grant nothing; whoever comes waits."""


class DrainProvider(msgspec.Struct, frozen=True, tag="drain"):
    """Take nothing new; what waits and what runs is finished."""


class Reopen(msgspec.Struct, frozen=True, tag="reopen"):
    """The end of a pause or a drain."""


Change = SetLimit | SetWeight | SetGates | SetReserve | Pause | DrainProvider | Reopen


class CapacityEvent(msgspec.Struct, frozen=True, gc=False):
    """One change that came into force at ``at``, in seconds of the broker's own clock."""

    at: float
    what: str
    cause: str


def problem_of(
    change: Change, models: frozenset[str], tenants: frozenset[TenantName]
) -> str | None:
    """Why a change cannot be made; None when it can. ``models`` have limits of their own."""
    match change:
        case SetLimit(limit, model):
            if not _is_whole(limit, 0, MAX_LIMIT):
                return f"a limit is 0 to {MAX_LIMIT}, got {limit}"
            if model is not None and model not in models:
                known = ", ".join(sorted(models)) or "none"
                return f"model '{model}' has no limit of its own; those that have: {known}"
        case SetWeight(tenant, weight):
            if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
                return f"a weight is {MIN_WEIGHT} to {MAX_WEIGHT}, got {weight}"
            if tenant != DEFAULT_TENANT and tenant not in tenants:
                known = ", ".join(sorted(tenants)) or "none"
                return f"there is no tenant '{tenant}'; those with tokens of their own: {known}"
        case SetGates(gates):
            return _problem_of_gates(gates)
        case SetReserve(permits):
            if not _is_whole(permits, 0, MAX_LIMIT):
                return f"0 to {MAX_LIMIT} permits can be reserved, got {permits}"
        case Pause() | DrainProvider() | Reopen():
            pass
    return None


def _problem_of_gates(gates: GateSettings) -> str | None:
    for name in GATES:
        value = getattr(gates, name)
        most = MAX_TOKENS if name.startswith("tokens") else MAX_LIMIT
        if value is not None and not _is_whole(value, 1, most):
            return f"{name} is at least 1 and at most {most}, got {value}"
    if not 0 <= gates.margin_s <= MAX_MARGIN_S:
        return f"margin_s is 0 to {MAX_MARGIN_S}, got {gates.margin_s}"
    return None


def _is_whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
