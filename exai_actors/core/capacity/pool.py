"""A pool: permits with the queue in front of them.

A provider has one pool for all models that share its limit, and one more for each model with a
limit of its own.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.adaptive_limit import AdaptiveLimit
from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.core.capacity.ledger import CapacityLedger
from exai_actors.core.capacity.service_time import ServiceTime

C = TypeVar("C")

MAX_POOLS = 256
"""A permit's number modulo this is the index of its pool."""


class Pool(Generic[C]):
    """``model`` is None for the pool of all models without a limit of their own.

    ``hold`` holds all its calls: that of its model, or of the account.
    """

    __slots__ = (
        "adaptive",
        "hold",
        "ledger",
        "model",
        "queue",
        "service_time",
    )

    def __init__(self, model: str | None, limit: int, account: Account, last_permit: int) -> None:
        settings = account.settings
        self.model = model
        self.ledger: CapacityLedger[C] = CapacityLedger(limit, last_permit, MAX_POOLS)
        self.queue: FairQueue[C] = FairQueue(
            settings.queue,
            session_limit=settings.session_queue,
            max_wait_s=settings.max_wait_s,
            weights=account.weights,
            session_weights=account.session_weights,
        )
        self.service_time = ServiceTime()
        self.adaptive = AdaptiveLimit(limit) if settings.adaptive else None
        self.hold = account.hold if model is None else account.model_holds[model]

    def set_limit(self, limit: int) -> None:
        """Set the configured limit; an adaptive limit stays at or below it."""
        if self.adaptive is None:
            self.ledger.resize(limit)
        else:
            self.adaptive.set_ceiling(limit)
            self.ledger.resize(self.adaptive.limit)
