"""JSON-RPC 2.0 frames with the methods of MCP: ``{"jsonrpc": "2.0", "id": ..., "method": ...}``.

Kinder than the specification where old clients need it: ``jsonrpc`` may be missing, ``tools/call``
is answered without an id too, and the id may be called ``request_id`` or ``req_id``.
"""

from __future__ import annotations

from typing import Any

from exai_actors.core.calls import CallOptions
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import RequestKey
from exai_actors.wire.clients.dialects.fields import (
    MAX_ID_DEPTH,
    MAX_ID_LENGTH,
    Incoming,
    Invalid,
    check_arguments,
    check_deadline,
    check_idempotency_key,
    check_if_busy,
    check_priority,
    check_stream,
    check_tool,
    echoed,
    invalid_request,
    kind,
    nests_deeper,
)
from exai_actors.wire.clients.frames import (
    CallTool,
    Cancel,
    ClientFrame,
    Dialect,
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
_RPC = Dialect.RPC


def read(incoming: Incoming) -> ClientFrame:
    """The frame that ``incoming`` stands for, which has ``jsonrpc`` or ``method`` and no ``op``."""
    if incoming.jsonrpc is not None and incoming.jsonrpc != "2.0":
        if _is_notification(incoming):
            return Ignored()
        wrong_version = invalid_request('jsonrpc must be "2.0"')
        return Malformed(reply_to(incoming, understood=False), wrong_version)
    try:
        return _method(incoming)
    except Invalid as wrong:
        if _is_notification(incoming):
            return Ignored()
        return Malformed(reply_to(incoming), invalid_request(str(wrong)))


def reply_to(incoming: Incoming, *, understood: bool = True) -> ReplyTo:
    """How to answer. A frame that was not ``understood`` gets protocol errors only."""
    method = incoming.method
    known = understood and type(method) is str and method in METHODS
    return ReplyTo(_RPC, method if known else "", _ids(incoming))


def request_key(id_: Any) -> RequestKey:
    """The key of the request with this id, of whatever JSON type: ``1`` and ``"1"`` differ."""
    if nests_deeper(id_, MAX_ID_DEPTH):
        raise Invalid(f"id must not nest deeper than {MAX_ID_DEPTH} levels")
    text = to_json(id_).decode()
    length = _length(id_, text)
    if length > MAX_ID_LENGTH:
        raise Invalid(f"id must have at most {MAX_ID_LENGTH} characters, got {length}")
    return RequestKey(text, "rpc")


def _length(value: Any, text: str) -> int:
    """In characters: of a string without what quotes it in its JSON ``text``."""
    return len(value) if type(value) is str else len(text)


def _id(incoming: Incoming) -> Any:
    if incoming.id is not None:
        return incoming.id
    return incoming.request_id if incoming.request_id is not None else incoming.req_id


def _ids(incoming: Incoming) -> bytes:
    members = b',"id":' + echoed(_id(incoming))
    if incoming.request_id is not None:
        members += b',"request_id":' + echoed(incoming.request_id)
    if incoming.req_id is not None:
        members += b',"req_id":' + echoed(incoming.req_id)
    return members


def _is_notification(incoming: Incoming) -> bool:
    """JSON-RPC forbids answers to these; a frame without ``jsonrpc`` made no such promise."""
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
            raise Invalid("method is missing")
        raise Invalid(f"method must be a string, got {kind(method)}")
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
                raise Invalid("params.requestId is missing: the request to cancel")
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
        raise Invalid(f"params must be an object, got {kind(params)}")
    return params


def _initialize(incoming: Incoming) -> Initialize:
    params = incoming.params if type(incoming.params) is dict else {}
    version = params.get("protocolVersion")
    info = params.get("clientInfo")
    name = info.get("name") if type(info) is dict else None
    return Initialize(
        reply_to(incoming),
        version if type(version) is str else "",
        name if type(name) is str else "",
    )


def _call(incoming: Incoming) -> CallTool:
    params = _params(incoming)
    id_ = _id(incoming)
    request = None if id_ is None else request_key(id_)
    if "name" not in params:
        raise Invalid("params.name is missing: the tool to call, a non-empty string")
    token = _progress_token(params)
    progress = None if id_ is None else token
    return CallTool(
        reply=ReplyTo(_RPC, CALL, _ids(incoming), progress=progress),
        request=request,
        tool=check_tool(params["name"], "params.name"),
        arguments=check_arguments(params.get("arguments")),
        options=CallOptions(
            stream=check_stream(params.get("stream")),
            deadline_ms=check_deadline(params.get("deadline_ms")),
            priority=check_priority(params.get("priority")),
            if_busy=check_if_busy(params.get("if_busy")),
            reports_progress=progress is not None,
            idempotency_key=check_idempotency_key(params.get("idempotency_key")),
        ),
    )


def _progress_token(params: dict[str, Any]) -> ProgressToken | None:
    meta = params.get("_meta")
    token = meta.get("progressToken") if type(meta) is dict else None
    if token is None:
        return None
    if type(token) not in (str, int):
        raise Invalid(f"progressToken must be a string or an integer, got {kind(token)}")
    text = to_json(token)
    if _length(token, text.decode()) > MAX_ID_LENGTH:
        raise Invalid(f"progressToken must have at most {MAX_ID_LENGTH} characters")
    return ProgressToken(text)
