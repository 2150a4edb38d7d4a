"""The last acts of a failed session actor: it returns the requests that no provider has got.

Its state may be half-changed, so it decides nothing any more. Whatever this misses, or raises, the
connections end themselves: they send again only what was returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog

from exai_actors.actors.session.connections import SessionConnections
from exai_actors.core import error_bodies
from exai_actors.core.calls import Outcome
from exai_actors.core.session.pieces import Waiter
from exai_actors.core.session.requests import ActiveRequest, SessionRequests
from exai_actors.core.suspects import Suspects
from exai_actors.core.tools.table import ToolRequest
from exai_actors.ids import RequestKey
from exai_actors.messages.connection import RequestEnded, RequestReturned
from exai_actors.messages.session import Returned
from exai_actors.messages.session_requests import CancelRequest, Submit

log = structlog.get_logger()


def hand_back(
    requests: SessionRequests,
    connections: SessionConnections,
    suspects: Suspects,
    messages: tuple[Any, ...],
    now: float,
) -> Iterator[tuple[Submit | ActiveRequest, Outcome]]:
    """Return each unsent request to the connections that wait for it, once.

    ``messages`` are those that were not handled, the one on which the actor failed first. A request
    that was in the hands of two incarnations when they failed is refused instead. Yields those that
    end here, each once; exhaust it.
    """
    _accuse(requests, suspects, messages, now)
    cancelled = {
        (message.connection_id, message.request)
        for message in messages
        if isinstance(message, CancelRequest)
    }
    returned: set[Waiter] = set()
    ended: set[RequestKey] = set()
    for waiter, request in _unsent(requests, messages):
        if waiter in returned:
            continue
        returned.add(waiter)
        connection_id, name = waiter
        if suspects.is_poison(hash(request.arguments), now):
            outcome = Outcome("refused", error=error_bodies.session_poison())
        elif waiter in cancelled:
            outcome = Outcome("cancelled", error=error_bodies.cancelled())
        else:
            connections.tell(connection_id, RequestReturned(name))
            continue
        connections.tell(connection_id, RequestEnded(name, outcome))
        if isinstance(request, Submit):
            yield request, outcome
        elif request.run not in ended:
            ended.add(request.run)
            yield request, outcome


def _accuse(
    requests: SessionRequests, suspects: Suspects, messages: tuple[Any, ...], now: float
) -> None:
    message = messages[0] if messages else None
    if isinstance(message, Submit):
        arguments: ToolRequest = message.arguments
    else:
        run = getattr(message, "request", None)
        active = None if run is None else requests.find(run)
        if active is None:
            return
        arguments = active.arguments
    if suspects.accuse(hash(arguments), now):
        log.error("session.poison_found", tool=type(arguments).__name__)


def _unsent(
    requests: SessionRequests, messages: tuple[Any, ...]
) -> Iterator[tuple[Waiter, Submit | ActiveRequest]]:
    given_back = {
        message.request
        for message in messages
        if isinstance(message, Returned) and message.error is None
    }
    sent: set[Waiter] = set()
    for active in requests.active():
        if active.at_provider and active.run not in given_back:
            sent.update(active.waiters)
        else:
            for waiter in active.waiters:
                yield waiter, active
    for message in messages:
        if isinstance(message, Submit):
            waiter = message.connection_id, message.request
            # The one in hand may have been sent before the actor failed.
            if waiter not in sent:
                yield waiter, message
