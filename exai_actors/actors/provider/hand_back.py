"""The last acts of a failed provider actor: it gives back the requests that were not sent.

Its state may be half-changed, so it decides nothing any more. It reads which calls never reached
the service, and passes on the answers that had arrived. Whatever this misses, or raises, the
sessions end themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog

from exai_actors.actors.provider.call import ProviderCall
from exai_actors.core import error_bodies
from exai_actors.core.calls import Completion
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.suspects import Suspects
from exai_actors.ids import ProviderName
from exai_actors.messages.provider import RunCall, UpstreamEnded
from exai_actors.messages.session import Completed, Returned

log = structlog.get_logger()


def accuse(
    name: ProviderName,
    dispatcher: Dispatcher[ProviderCall],
    suspects: Suspects,
    message: Any,
    settling: ProviderCall | None,
    now: float,
) -> None:
    """Note the call that the actor had in hand when it failed on ``message``.

    ``settling`` is the call that was being settled.
    """
    granted = next(_granted_only(dispatcher), None)
    if granted is not None:
        call = granted.run.call
    elif isinstance(message, RunCall):
        call = message.call
    elif settling is not None:
        call = settling.run.call
    else:
        return
    if suspects.accuse(hash(call), now):
        log.error("provider.poison_found", provider=name, model=call.model)


def give_back(
    name: ProviderName,
    dispatcher: Dispatcher[ProviderCall],
    suspects: Suspects,
    messages: tuple[Any, ...],
    now: float,
) -> None:
    """Give each session its unsent requests back, in the order of service.

    ``messages`` are those that were not handled, the one on which the actor failed first.
    """
    given: set[tuple[str, object]] = set()
    for run in _unsent(dispatcher, messages):
        key = run.session, run.request
        if key not in given:
            given.add(key)
            poison = suspects.is_poison(hash(run.call), now)
            error = error_bodies.poison(name) if poison else None
            run.reply_to.tell(Returned(run.request, error))


def pass_on(
    dispatcher: Dispatcher[ProviderCall], settling: ProviderCall | None, messages: tuple[Any, ...]
) -> None:
    """Pass on the answers that are complete."""
    for message in messages:
        if not (isinstance(message, UpstreamEnded) and isinstance(message.result, Completion)):
            continue
        call = dispatcher.find(message.permit)
        if call is None and settling is not None and settling.permit == message.permit:
            call = settling
        if call is None or not call.live:
            continue
        for run in call.runs:
            run.reply_to.tell(
                Completed(run.request, message.result, call.granted_at, call.attempts)
            )


def _granted_only(dispatcher: Dispatcher[ProviderCall]) -> Iterator[ProviderCall]:
    """The call that has its permit and was not started, which is the one in hand."""
    for pool in dispatcher.pools:
        for call in pool.ledger.held.values():
            if call.live and call.upstream_call is None:
                yield call


def _unsent(dispatcher: Dispatcher[ProviderCall], messages: tuple[Any, ...]) -> Iterator[RunCall]:
    calls = [*_granted_only(dispatcher), *dispatcher.retries]
    for pool in dispatcher.pools:
        calls += pool.queue.in_service_order()
    for call in calls:
        if call.live:
            yield from call.runs
    for message in messages:
        if isinstance(message, RunCall):
            yield message
