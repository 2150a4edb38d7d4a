"""What can be changed of a provider while it runs, and the record that is kept of each change."""

from __future__ import annotations

from math import inf

import msgspec

from exai_actors.core.capacity_settings import GateSettings
from exai_actors.ids import TenantName

MAX_LIMIT = 1_000_000


class SetLimit(msgspec.Struct, frozen=True, tag="limit"):
    """The limit is now this; of ``model``'s own permits when it names one. Nothing is revoked."""

    limit: int
    model: str | None = None


class SetWeight(msgspec.Struct, frozen=True, tag="weight"):
    """A tenant's share is now this much beside the others'."""

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


def problem_of(change: Change, models: frozenset[str]) -> str | None:
    """Why a change cannot be made; None when it can. ``models`` have limits of their own."""
    match change:
        case SetLimit(limit, model):
            if not 0 <= limit <= MAX_LIMIT:
                return f"a limit is 0 to {MAX_LIMIT}, got {limit}"
            if model is not None and model not in models:
                known = ", ".join(sorted(models)) or "none"
                return f"model '{model}' has no limit of its own; those that have: {known}"
        case SetWeight(_, weight):
            if not 0 < weight < inf:
                return f"a weight is a number above 0, got {weight}"
        case SetGates(gates):
            for name in _GATES:
                value = getattr(gates, name)
                if value is not None and value < 1:
                    return f"{name} is at least 1, got {value}"
        case SetReserve(permits):
            if not 0 <= permits <= MAX_LIMIT:
                return f"0 to {MAX_LIMIT} permits can be reserved, got {permits}"
        case Pause() | DrainProvider() | Reopen():
            pass
    return None


_GATES = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")
