"""Whether, and when, a request gets a permit of its provider: the ledger and the queue as one.

``T`` is whatever the caller needs to run the request once it is granted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from exai_actors.core.capacity import CapacityLedger, Permit
from exai_actors.core.fair_queue import FairQueue
from exai_actors.core.service_time import ServiceTime
from exai_actors.ids import PermitId, RequestKey, SessionId

T = TypeVar("T")


class Waiting(Generic[T]):
    """One queued request; ``reported`` is when its client last heard of its position."""

    __slots__ = ("entry", "reported", "request", "session", "since")

    def __init__(self, session: SessionId, request: RequestKey, entry: T, since: float) -> None:
        self.session = session
        self.request = request
        self.entry = entry
        self.since = since
        self.reported: float | None = None


class Dispatcher(Generic[T]):
    """Work-conserving: after pump() either no permit is free or nothing waits."""

    __slots__ = ("ledger", "queue", "service_time")

    def __init__(self, limit: int, queue_limit: int, last_permit: int = 0) -> None:
        self.ledger = CapacityLedger(limit, last_permit)
        self.queue: FairQueue[Waiting[T]] = FairQueue(queue_limit)
        self.service_time = ServiceTime()

    def grant_at_once(self, session: SessionId, request: RequestKey, now: float) -> Permit | None:
        """A permit without waiting: only when nobody waits and one is free."""
        return None if self.queue.entries else self.ledger.grant(session, request, now)

    def enqueue(
        self, session: SessionId, request: RequestKey, entry: T, now: float, priority: int = 0
    ) -> bool:
        """Let a request wait; False when the queue is full. Raises ValueError if it waits here."""
        waiting = Waiting(session, request, entry, now)
        return self.queue.put(session, request, waiting, priority)

    def pump(self, now: float) -> Iterator[tuple[Permit, T]]:
        """Grant free permits to those whose turn it is. Exhaust it: each step grants one."""
        while self.ledger.free:
            waiting = self.queue.take()
            if waiting is None:
                return
            permit = self.ledger.grant(waiting.session, waiting.request, now)
            if permit is None:
                raise RuntimeError("the ledger named a free permit and granted none")
            yield permit, waiting.entry

    def release(self, permit: PermitId, now: float) -> Permit | None:
        """The upstream call has ended; None, and an anomaly, for a permit that is not held."""
        released = self.ledger.release(permit)
        if released is not None:
            self.service_time.observe(now - released.since)
        return released

    def positions_due(
        self, now: float, every_s: float
    ) -> Iterator[tuple[int, float | None, Waiting[T]]]:
        """Position from 1, estimated wait in seconds and entry of those not told for a while."""
        for position, waiting in enumerate(self.queue.in_service_order(), start=1):
            if waiting.reported is None or now - waiting.reported >= every_s:
                waiting.reported = now
                yield position, self.service_time.wait_s(position, self.ledger.limit), waiting
