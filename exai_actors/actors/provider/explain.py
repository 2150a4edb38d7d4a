"""Where one call is at its provider, and the calls before it."""

from __future__ import annotations

import msgspec

from exai_actors.actors.provider.call import ProviderCall
from exai_actors.actors.provider.places import Place
from exai_actors.core.capacity.ahead import Because, first_running, line_before
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.explain_wait import WaitExplainer
from exai_actors.core.wait_reasons import WaitCode, WaitReason


class Explained(msgspec.Struct, frozen=True, gc=False):
    """``also`` are the other limits that the call waits for; ``ahead`` are the next calls before
    it, ``running`` those that have the permits. ``is_estimate``: the position is one.
    """

    place: Place
    also: list[WaitReason] = []
    ahead: list[tuple[ProviderCall, Because]] = []
    running: list[ProviderCall] = []
    queued: int = 0
    is_estimate: bool = False


def explain(dispatcher: Dispatcher[ProviderCall], call: ProviderCall, now: float) -> Explained:
    """Explain a call that has not ended."""
    pool = call.pool
    if call.permit in pool.ledger.held:
        return Explained(Place(call, "running", running_s=now - call.granted_at))
    explainer = WaitExplainer(dispatcher.guards, now)
    running = list(first_running(pool))
    if pool.queue.get(call.flow.session, call.request) is not call:
        due = next((due for due, _, each in dispatcher.retries.waiting if each is call), now)
        reason = explainer.retry(due, call)
        place = Place(call, "retrying", None, reason, max(0.0, due - now))
        return Explained(place, running=running, queued=len(pool.queue))
    line = line_before(pool, dispatcher.waits, call, now)
    reason, *also = explainer.reasons(call)
    if pool.ledger.free:
        # A permit is free: that other requests go first is no further limit.
        also = [each for each in also if each.code is not WaitCode.TURN]
    return Explained(
        Place(call, "queued", line.position, reason, line.wait_s),
        also,
        line.ahead,
        running,
        len(pool.queue),
        line.is_estimate,
    )
