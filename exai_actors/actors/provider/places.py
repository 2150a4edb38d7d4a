"""The place of each call at its provider: running, queued, or waiting for its next attempt."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from exai_actors.actors.provider.call import ProviderCall
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.explain_wait import WaitExplainer
from exai_actors.core.wait_reasons import WaitReason


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a call is; the other fields are those of ``RequestState``."""

    call: ProviderCall
    state: str
    position: int | None = None
    reason: WaitReason | None = None
    starts_in_s: float | None = None
    running_s: float | None = None


def places(dispatcher: Dispatcher[ProviderCall], now: float) -> Iterator[Place]:
    """All calls in the order of service: running ones, those in line, those to be tried again."""
    pools = dispatcher.pools
    for pool in pools:
        for call in tuple(pool.ledger.held.values()):
            yield Place(call, "running", running_s=now - call.granted_at)
    explainer = WaitExplainer(dispatcher.guards, now)
    for pool in pools:
        for position, wait_s, call in dispatcher.waits.in_line(pool, now):
            yield Place(call, "queued", position, explainer.reason(call), wait_s)
    for due, _, call in tuple(dispatcher.retries.waiting):
        reason = explainer.retry(due, call)
        yield Place(call, "retrying", None, reason, max(0.0, due - now))
