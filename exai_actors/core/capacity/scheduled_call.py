"""One request at its provider, from its arrival to its end, through all its tries."""

from __future__ import annotations

from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from exai_actors.core.calls import IfBusy
from exai_actors.ids import PermitId, RequestKey

if TYPE_CHECKING:
    from exai_actors.core.capacity.flows import Flow
    from exai_actors.core.capacity.pools import Pool
    from exai_actors.core.capacity.rate_gates import Charge

NOT_GRANTED = PermitId(0)


class ScheduledCall(msgspec.Struct, gc=False, eq=False):
    """What the dispatcher knows of a request; its owner adds what it needs to run it.

    ``prompt_tokens`` and ``completion_tokens`` are an estimate until the call has ended, ``cost``
    is what its session is charged for it. ``since`` is its arrival, ``granted_at`` its latest
    grant, ``inverse_weight`` its tenant's at that moment, ``attempts`` the number of grants.
    ``fallback_reasons`` are the reasons for which the session prefers a refusal here and a try at
    another provider.
    """

    flow: Flow
    request: RequestKey
    pool: Pool[Any]
    prompt_tokens: float
    completion_tokens: float
    cost: float
    since: float
    deadline: float = inf
    if_busy: IfBusy = IfBusy.WAIT_IN_TIME
    priority: int = 0
    fallback_reasons: frozenset[str] = frozenset()
    permit: PermitId = NOT_GRANTED
    granted_at: float = 0.0
    inverse_weight: float = 1.0
    attempts: int = 0
    charge: Charge | None = None
    probe: bool = False
    reported: float | None = None


class RefusalCause(StrEnum):
    """Why a request is not taken."""

    FULL = "full"
    """As many wait as may."""
    TOO_LATE = "too_late"
    """It would wait beyond its deadline."""
    NO_WAITING = "no_waiting"
    """Its client wants no waiting, and no permit is free."""
    CLOSED = "closed"
    """The provider takes no calls for the time being."""
    DRAINING = "draining"
    """Its operator lets it run empty."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A request that is not taken, and when to come back.

    ``reason`` is the word that routes go by. ``position`` is where it would have waited, counted
    from 1, and ``wait_s`` how long, if that is known.
    """

    cause: RefusalCause
    reason: str
    retry_after: float
    queued: int
    position: int
    wait_s: float | None = None
