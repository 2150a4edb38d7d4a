"""One call of a request at its provider, from its admission to its end, through all attempts."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from exai_actors.core.calls import IfBusy, Presence
from exai_actors.ids import PermitId, RequestKey

if TYPE_CHECKING:
    from exai_actors.core.capacity.flows import Flow
    from exai_actors.core.capacity.holds import Hold
    from exai_actors.core.capacity.pool import Pool
    from exai_actors.core.capacity.rate_gates import Charge

NOT_GRANTED = PermitId(0)


class ScheduledCall(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """The dispatcher's record of a call; a subclass adds what is needed to run it.

    ``prompt_tokens`` and ``completion_tokens`` are estimates, ``cost`` is the estimate that its
    session is charged. Instants are seconds of the driver's clock. ``admitted_at`` is that of its
    arrival, ``granted_at`` that of the latest grant, ``inverse_weight`` the tenant's 1 / weight at
    that moment. ``attempts`` is the number of grants, ``resends`` how many of them only sent an
    attempt again. For one of ``fallback_reasons`` the session prefers a refusal and another
    provider to waiting here. ``gate_charge``, ``is_probe`` (of the circuit) and ``probed_holds``
    belong to the attempt in flight. ``presence`` is that of its client, None if it is certain;
    ``passed_over``: the turn of the call came while its client was away.
    """

    flow: Flow
    request: RequestKey
    pool: Pool[Any]
    prompt_tokens: float
    completion_tokens: float
    cost: float
    deadline: float = inf
    if_busy: IfBusy = IfBusy.WAIT_IN_TIME
    priority: int = 0
    fallback_reasons: frozenset[str] = frozenset()
    permit: PermitId = NOT_GRANTED
    admitted_at: float = 0.0
    granted_at: float = 0.0
    inverse_weight: float = 1.0
    attempts: int = 0
    resends: int = 0
    gate_charge: Charge | None = None
    is_probe: bool = False
    probed_holds: tuple[Hold, ...] = ()
    model: str = ""
    presence: Presence | None = None
    passed_over: bool = False

    @property
    def is_deserted(self) -> bool:
        """Whether it is not to be started before its client has come back."""
        return self.presence is not None and self.presence.is_away

    @property
    def tokens(self) -> float:
        """The estimate that the token gates are charged."""
        return self.prompt_tokens + self.completion_tokens
