"""Whether a provider's capacity is between two messages what it promises to be.

Nothing here is ever found unless there is a fault in the broker itself; looked at now and then,
such a fault is an event with a name instead of a service that is used less and less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.pools import Pool

WAKING_S = 1.0
"""What a timer may be late that lets somebody in."""


def faults_of(dispatcher: Dispatcher[Any], now: float, longest_call_s: float) -> Iterator[str]:
    """What contradicts the promises, in words. Walks over everything that waits or runs.

    No upstream call goes on for longer than ``longest_call_s``.
    """
    for pool in dispatcher.pools:
        where = "" if pool.model is None else f" of model {pool.model}"
        for fault in (*_of_permits(pool, now, longest_call_s), *pool.queue.faults()):
            yield fault + where
    # Before a rate gate even those wait who would pass, behind whoever does not.
    if not dispatcher.account.gates.active:
        for pool in dispatcher.pools:
            if dispatcher.could_grant(pool, now - WAKING_S):
                where = "" if pool.model is None else f" for model {pool.model}"
                yield "a request waits though a permit is free and nothing keeps it" + where


def _of_permits(pool: Pool[Any], now: float, longest_call_s: float) -> Iterator[str]:
    ledger = pool.ledger
    for permit, job in ledger.held.items():
        if job.permit != permit:
            yield f"permit {permit} is held for a request that has permit {job.permit}"
        if now - job.granted_at > longest_call_s:
            yield f"permit {permit} is out for longer than any call can take"
        if pool.queue.entries.get((job.flow.session, job.request)) is job:
            yield f"a request that holds permit {permit} waits as well"
    for permit in ledger.quarantined:
        if permit in ledger.held:
            yield f"permit {permit} is both held and in quarantine"
