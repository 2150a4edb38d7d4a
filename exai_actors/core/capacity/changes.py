"""The changes of a provider that an operator can make while it runs, and the record of each."""

from __future__ import annotations

from typing import Literal

import msgspec

from exai_actors.core.capacity.settings import GateSettings
from exai_actors.ids import DEFAULT_TENANT, SessionId, TenantName

MAX_LIMIT = 1_000_000
MAX_TOKENS = 1_000_000_000_000
MIN_WEIGHT = 0.001
MAX_WEIGHT = 1000
MAX_MARGIN_S = 60
MAX_SESSION_WEIGHTS = 1_000
GATES = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")


class SetLimit(msgspec.Struct, frozen=True, tag="limit"):
    """Set the limit of the provider, or of a ``model`` with its own; revokes no permit."""

    limit: int
    model: str | None = None


class SetWeight(msgspec.Struct, frozen=True, tag="weight"):
    """Set a tenant's weight; DEFAULT_TENANT has the sessions of no configured tenant."""

    tenant: TenantName
    weight: float


class SetSessionWeight(msgspec.Struct, frozen=True, tag="session_weight"):
    """Set a session's weight among those of its tenant, until it ends; ``shown`` is for people."""

    session: SessionId
    shown: str
    weight: float


class SetGate(msgspec.Struct, frozen=True, tag="gate"):
    """Set one rate gate, a member of GATES, or remove it with None; earlier usage counts."""

    gate: str
    limit: int | None


class SetGates(msgspec.Struct, frozen=True, tag="gates"):
    """Set the rate gates; earlier usage counts against them."""

    gates: GateSettings


class SetReserve(msgspec.Struct, frozen=True, tag="reserve"):
    """Set the number of reserved permits."""

    permits: int


class Pause(msgspec.Struct, frozen=True, tag="pause"):
    """Grant nothing; new requests wait."""


class DrainProvider(msgspec.Struct, frozen=True, tag="drain"):
    """Refuse new requests; finish the queued ones and those in flight."""


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """End a pause or a drain. Holds by the service's word stay."""


class LiftHold(msgspec.Struct, frozen=True, tag="lift_hold"):
    """End the hold of one model, or with None all holds."""

    model: str | None = None


class ResetCircuit(msgspec.Struct, frozen=True, tag="reset_circuit"):
    """Close the circuit, and forget the failures that count for it."""


class Reopen(msgspec.Struct, frozen=True, tag="reopen"):
    """End a pause, a drain and all holds."""


Change = (
    SetLimit
    | SetWeight
    | SetSessionWeight
    | SetGate
    | SetGates
    | SetReserve
    | Pause
    | DrainProvider
    | Resume
    | LiftHold
    | ResetCircuit
    | Reopen
)


Arrangement = Literal["front", "hold", "release"]
"""The actions on one queued call."""


ChangeKind = Literal[
    "held", "hold_ended", "circuit_opened", "circuit_closed", "limit_adapted", "changed"
]


class CapacityEvent(msgspec.Struct, frozen=True, gc=False):
    """A change made at ``at``, in seconds of the driver's clock, and its cause.

    ``kind`` is the kind of change, ``what`` its description. ``model`` is the held model, empty for
    the account, and ``seconds`` how long a hold or an open circuit will last.
    """

    at: float
    what: str
    cause: str
    kind: ChangeKind = "changed"
    model: str = ""
    seconds: float | None = None


def problem_of(
    change: Change, models: frozenset[str], tenants: frozenset[TenantName]
) -> str | None:
    """Why a change cannot be made; None if it can. ``models`` are those with their own limits."""
    match change:
        case SetLimit(limit, model):
            if not _is_whole(limit, 0, MAX_LIMIT):
                return f"a limit is 0 to {MAX_LIMIT}, got {limit}"
            if model is not None and model not in models:
                known = ", ".join(sorted(models)) or "none"
                return f"model '{model}' has no limit of its own; those that have: {known}"
        case SetWeight(tenant, weight):
            return _weight_problem(tenant, weight, tenants)
        case SetSessionWeight(weight=weight):
            return _weight_problem(DEFAULT_TENANT, weight, tenants)
        case SetGate(gate, limit):
            if gate not in GATES:
                return f"there is no rate gate '{gate}'; choose from {', '.join(GATES)}"
            return _gate_problem(gate, limit)
        case SetGates(gates):
            return _gates_problem(gates)
        case SetReserve(permits):
            if not _is_whole(permits, 0, MAX_LIMIT):
                return f"0 to {MAX_LIMIT} permits can be reserved, got {permits}"
        case Pause() | DrainProvider() | Resume() | LiftHold() | ResetCircuit() | Reopen():
            pass
    return None


def _weight_problem(
    tenant: TenantName, weight: float, tenants: frozenset[TenantName]
) -> str | None:
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        return f"a weight is {MIN_WEIGHT} to {MAX_WEIGHT}, got {weight}"
    if tenant != DEFAULT_TENANT and tenant not in tenants:
        known = ", ".join(sorted(tenants)) or "none"
        return f"there is no tenant '{tenant}'; those with tokens of their own: {known}"
    return None


def _gates_problem(gates: GateSettings) -> str | None:
    for name in GATES:
        if problem := _gate_problem(name, getattr(gates, name)):
            return problem
    if not 0 <= gates.margin_s <= MAX_MARGIN_S:
        return f"margin_s is 0 to {MAX_MARGIN_S}, got {gates.margin_s}"
    return None


def _gate_problem(name: str, limit: int | None) -> str | None:
    max_value = MAX_TOKENS if name.startswith("tokens") else MAX_LIMIT
    if limit is not None and not _is_whole(limit, 1, max_value):
        return f"{name} is at least 1 and at most {max_value}, got {limit}"
    return None


def _is_whole(value: object, min_value: int, max_value: int) -> bool:
    return type(value) is int and min_value <= value <= max_value
