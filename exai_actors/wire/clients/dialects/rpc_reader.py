"""Reads JSON-RPC 2.0 frames of MCP: ``{"jsonrpc": "2.0", "id": ..., "method": ...}``.

More lenient than the specification, for old clients: ``jsonrpc`` may be missing, ``tools/call`` is
answered without an id too, and the id may be named ``request_id`` or ``req_id``.
"""

from __future__ import annotations

from typing import Any

from exai_actors.core.calls import CallOptions
from exai_actors.core.trace_context import TraceContext, trace_context
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import RequestKey
from exai_actors.wire.clients.dialects.fields import (
    MAX_ID_DEPTH,
    MAX_ID_LENGTH,
    Incoming,
    InvalidField,
    check_arguments,
    check_deadline,
    check_idempotency_key,
    check_if_busy,
    check_priority,
    check_stream,
    check_stream_reasoning,
    check_tool,
    echo_id,
    invalid_request,
    json_type,
    nests_deeper,
)
from exai_actors.wire.clients.frames import (
    CallTool,
    Cancel,
    ClientFrame,
    Ignored,
    Initialize,
    ListTools,
    Malformed,
    Ping,
    ProgressToken,
    ReplyTo,
)
from exai_actors.wire.json_encoding import to_json

CALL = "tools/call"
METHODS = frozenset({"initialize", "ping", "tools/list", CALL, "notifications/cancelled"})


def read(incoming: Incoming) -> ClientFrame:
    """The frame in ``incoming``, which has ``jsonrpc`` or ``method`` but no ``op``."""
    if incoming.jsonrpc is not None and incoming.jsonrpc != "2.0":
        if _is_notification(incoming):
            return Ignored()
        error = invalid_request('jsonrpc must be "2.0"')
        return Malformed(reply_to(incoming, understood=False), error)
    try:
        return _method(incoming)
    except InvalidField as problem:
        if _is_notification(incoming):
            return Ignored()
        return Malformed(reply_to(incoming), invalid_request(str(problem)))


def reply_to(incoming: Incoming, *, understood: bool = True) -> ReplyTo:
    """How to answer a frame. One that was not ``understood`` gets protocol errors only."""
    method = incoming.method
    known = understood and type(method) is str and method in METHODS
    return ReplyTo("json-rpc", method if known else "", _ids(incoming))


def request_key(id_: Any) -> RequestKey:
    """The key of the request with this id, which may be of any JSON type."""
    if nests_deeper(id_, MAX_ID_DEPTH):
        raise InvalidField(f"id must not nest deeper than {MAX_ID_DEPTH} levels")
    text = to_json(id_).decode()
    length = _length(id_, text)
    if length > MAX_ID_LENGTH:
        raise InvalidField(f"id must have at most {MAX_ID_LENGTH} characters, got {length}")
    return RequestKey(text, "rpc")


def _length(value: Any, text: str) -> int:
    """The length in characters, without quotes and escapes; ``text`` is ``value`` as JSON."""
    return len(value) if type(value) is str else len(text)


def _id(incoming: Incoming) -> Any:
    if incoming.id is not None:
        return incoming.id
    return incoming.request_id if incoming.request_id is not None else incoming.req_id


def _ids(incoming: Incoming) -> bytes:
    members = b',"id":' + echo_id(_id(incoming))
    if incoming.request_id is not None:
        members += b',"request_id":' + echo_id(incoming.request_id)
    if incoming.req_id is not None:
        members += b',"req_id":' + echo_id(incoming.req_id)
    return members


def _is_notification(incoming: Incoming) -> bool:
    """Whether JSON-RPC forbids an answer; it does not apply to frames without ``jsonrpc``."""
    method = incoming.method
    return (
        incoming.jsonrpc is not None
        and _id(incoming) is None
        and type(method) is str
        and (method not in METHODS or method.startswith("notifications/"))
    )


def _method(incoming: Incoming) -> ClientFrame:
    method = incoming.method
    if type(method) is not str:
        if method is None:
            raise InvalidField("method is missing")
        raise InvalidField(f"method must be a string, got {json_type(method)}")
    match method:
        case "tools/call":
            return _call(incoming)
        case "tools/list":
            return ListTools(reply_to(incoming))
        case "ping":
            return Ping(reply_to(incoming))
        case "initialize":
            return _initialize(incoming)
        case "notifications/cancelled":
            target = _params(incoming).get("requestId")
            if target is None:
                raise InvalidField("params.requestId is missing: the request to cancel")
            return Cancel(reply_to(incoming), request_key(target))
    if _is_notification(incoming):
        return Ignored()
    name = method if len(method) <= 80 else method[:80] + "…"
    return Malformed(
        reply_to(incoming),
        ErrorBody(ErrorCode.PROTOCOL_ERROR, f"Unknown method: {name}", {"method": name}),
    )


def _params(incoming: Incoming) -> dict[str, Any]:
    params = incoming.params
    if params is None:
        return {}
    if type(params) is not dict:
        raise InvalidField(f"params must be an object, got {json_type(params)}")
    return params


def _initialize(incoming: Incoming) -> Initialize:
    params = incoming.params if type(incoming.params) is dict else {}
    version = params.get("protocolVersion")
    return Initialize(reply_to(incoming), version if type(version) is str else "")


def _call(incoming: Incoming) -> CallTool:
    params = _params(incoming)
    id_ = _id(incoming)
    other_id = None if id_ is None else request_key(id_)
    if "name" not in params:
        raise InvalidField("params.name is missing: the tool to call, a non-empty string")
    token = _progress_token(params)
    progress = None if id_ is None else token
    return CallTool(
        reply=ReplyTo("json-rpc", CALL, _ids(incoming), progress=progress),
        request=None,
        tool=check_tool(params["name"], "params.name"),
        arguments=check_arguments(params.get("arguments")),
        options=CallOptions(
            stream=check_stream(params.get("stream")),
            deadline_ms=check_deadline(params.get("deadline_ms")),
            priority=check_priority(params.get("priority")),
            if_busy=check_if_busy(params.get("if_busy")),
            reports_progress=progress is not None,
            idempotency_key=check_idempotency_key(params.get("idempotency_key")),
            trace=_trace(params),
            stream_reasoning=check_stream_reasoning(params.get("stream_reasoning")),
        ),
        other_id=other_id,
    )


def _trace(params: dict[str, Any]) -> TraceContext | None:
    """The context where MCP's conventions put it."""
    meta = params.get("_meta")
    if type(meta) is not dict:
        return None
    return trace_context(meta.get("traceparent"), meta.get("tracestate"))


def _progress_token(params: dict[str, Any]) -> ProgressToken | None:
    meta = params.get("_meta")
    token = meta.get("progressToken") if type(meta) is dict else None
    if token is None:
        return None
    if type(token) not in (str, int):
        raise InvalidField(f"progressToken must be a string or an integer, got {json_type(token)}")
    text = to_json(token)
    if _length(token, text.decode()) > MAX_ID_LENGTH:
        raise InvalidField(f"progressToken must have at most {MAX_ID_LENGTH} characters")
    return ProgressToken(text)
