"""The effects of actions on requests, sessions and connections."""

from __future__ import annotations

from exai_actors.core.capacity.changes import Arrangement
from exai_actors.core.observe.parts import ConnectionState, RequestState, SessionState
from exai_actors.core.operations.action import ActionError, Effect, Undo, counted

_PLACES = {
    "waiting": "it waits in its session and is not yet at {provider}",
    "sent": "it is on its way to {provider}",
    "running": "it runs at {provider}",
    "retrying": "it waits at {provider} for its next attempt",
}


def cancelled(request: RequestState) -> Effect:
    """Its clients get an error; a call that runs is aborted."""
    if request.state == "running":
        text = f"its call at {request.provider} is aborted after {_pieces(request)}"
    elif request.state == "waiting":
        text = "it leaves its session"
    else:
        text = f"it leaves the queue of {request.provider}"
    return Effect(f"{text}; its clients get CANCELLED", _before(request))


def arranged(how: Arrangement, request: RequestState) -> Effect:
    """Raises ActionError for a request that is not queued at a provider, or is as wanted."""
    if request.state not in ("queued", "held"):
        where = _PLACES.get(request.state, "it is {state}").format(
            provider=request.provider, state=request.state
        )
        raise ActionError(f"{where}; only a request in a provider's queue can be moved or held")
    provider, before = request.provider, _before(request)
    if how == "front":
        text = f"it is the next at {provider} after those moved before it"
        return Effect(f"{text}; it is charged to its tenant as always", before)
    if how == "hold":
        if request.state == "held":
            raise ActionError("it is held already")
        text = f"it waits at {provider} until it is released, or its deadline is over"
        return Effect(text, before, Undo("request.release"))
    if request.state != "held":
        raise ActionError("it is not held")
    return Effect(f"it has its turn at {provider} again", before, Undo("request.hold"))


def session_ended(session: SessionState) -> Effect:
    """Requests are cancelled, connections closed, and all that it keeps is dropped."""
    requests = counted(session.at_providers + session.waiting, "request")
    connections = counted(session.connections, "connection")
    talks = counted(session.conversations, "conversation")
    before = f"{requests}, {connections}, {talks}, {session.kept_bytes} bytes kept"
    verbs = f"{requests} cancelled, {connections} closed, {talks} dropped"
    return Effect(f"{verbs}; its client can begin another session", before)


def disconnected(connection: ConnectionState) -> Effect:
    """As if the client had gone."""
    calls = counted(connection.calls, "call")
    before = f"{connection.address}, open for {connection.open_s:.0f} s, {calls} without an answer"
    if not connection.calls:
        return Effect("it is closed; none of its calls is open", before)
    text = f"it is closed, and {calls} without an answer given up as if its client had gone"
    return Effect(text, before)


def _before(request: RequestState) -> str:
    return f"{request.state} at {request.provider}, {request.waited_s:.0f} s old"


def _pieces(request: RequestState) -> str:
    return counted(request.pieces, "piece of its answer", "pieces of its answer")
