"""The invariants of a provider's capacity between two messages, checked now and then.

Only a bug of the broker violates one. Found by a check, it becomes an event with a name instead of
a provider that is used less and less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.pool import Pool

TIMER_SLACK_S = 1.0
"""How late a timer may be that makes a call grantable."""


def invariant_violations(
    dispatcher: Dispatcher[Any], now: float, longest_call_s: float
) -> Iterator[str]:
    """Each violation in words. Walks over all calls that wait or run.

    No upstream call takes more than ``longest_call_s``.
    """
    for pool in dispatcher.pools:
        where = "" if pool.model is None else f" of model {pool.model}"
        for violation in (*_of_permits(pool, now, longest_call_s), *pool.queue.violations()):
            yield violation + where
    # Before a rate gate, calls also wait behind a larger one that does not pass.
    if not dispatcher.account.gates.active:
        for pool in dispatcher.pools:
            if dispatcher.could_grant(pool, now - TIMER_SLACK_S):
                where = "" if pool.model is None else f" for model {pool.model}"
                yield "a request waits though a permit is free and nothing keeps it" + where


def _of_permits(pool: Pool[Any], now: float, longest_call_s: float) -> Iterator[str]:
    ledger = pool.ledger
    for permit, call in ledger.held.items():
        if call.permit != permit:
            yield f"permit {permit} is held for a request that has permit {call.permit}"
        if now - call.granted_at > longest_call_s:
            yield f"permit {permit} is out for longer than any call can take"
        if pool.queue.get(call.flow.session, call.request) is call:
            yield f"a request that holds permit {permit} waits as well"
    for permit in ledger.quarantined:
        if permit in ledger.held:
            yield f"permit {permit} is both held and in quarantine"
