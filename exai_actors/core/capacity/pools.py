"""Permits with the queue in front of them: a provider has one, and one more for each model that
its account limits apart from the others.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.adaptive_limit import AdaptiveLimit
from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.core.capacity.ledger import CapacityLedger
from exai_actors.core.capacity.service_time import ServiceTime

J = TypeVar("J")

# A permit's number modulo this is its pool's.
MAX_POOLS = 256


class Pool(Generic[J]):
    """``model`` is None for the pool of all models without a limit of their own."""

    __slots__ = (
        "adaptive",
        "hold",
        "ledger",
        "model",
        "queue",
        "refusals_in_a_row",
        "refused_at",
        "service_time",
    )

    def __init__(self, model: str | None, limit: int, account: Account, last_permit: int) -> None:
        settings = account.settings
        self.model = model
        self.ledger: CapacityLedger[J] = CapacityLedger(limit, last_permit, MAX_POOLS)
        self.queue: FairQueue[J] = FairQueue(
            settings.queue,
            session_limit=settings.session_queue,
            max_wait_s=settings.max_wait_s,
            weights=account.weights,
        )
        self.service_time = ServiceTime()
        self.adaptive = AdaptiveLimit(limit) if settings.adaptive else None
        self.hold = account.hold if model is None else account.model_holds[model]
        self.refusals_in_a_row = 0
        self.refused_at = -1.0

    def set_limit(self, limit: int) -> None:
        """The configured limit is now this; the adaptive one stays at or below it."""
        if self.adaptive is None:
            self.ledger.resize(limit)
        else:
            self.adaptive.set_ceiling(limit)
            self.ledger.resize(self.adaptive.limit)
