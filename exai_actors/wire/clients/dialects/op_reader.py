"""Reads frames of the op dialect: ``{"op": ..., "request_id": ...}``."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from exai_actors.core.calls import CallOptions
from exai_actors.core.trace_context import trace_context
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import RequestKey
from exai_actors.wire.clients.dialects.fields import (
    Incoming,
    InvalidField,
    check_arguments,
    check_deadline,
    check_id,
    check_idempotency_key,
    check_if_busy,
    check_priority,
    check_stream,
    check_stream_reasoning,
    check_tool,
    echo_id,
    invalid_request,
    json_type,
)
from exai_actors.wire.clients.frames import (
    CallTool,
    Cancel,
    ClientFrame,
    Health,
    Hello,
    ListTools,
    Malformed,
    Ping,
    ReplyTo,
    RotateToken,
)
from exai_actors.wire.json_encoding import to_json

CALL_ANSWER = "call_tool_res"
ERROR_ANSWER = "error"
ANSWERS = {
    "call_tool": CALL_ANSWER,
    "tool_call": CALL_ANSWER,
    "list_tools": "list_tools_res",
    "ping": "pong",
    "health": "health_res",
    "rotate_token": "rotate_token_res",
    "cancel": "cancelled",
    "hello": ERROR_ANSWER,
}
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{3,64}")


def read(incoming: Incoming) -> ClientFrame:
    """The frame in ``incoming``, which has an ``op``."""
    op = incoming.op
    try:
        if op in ("call_tool", "tool_call"):
            return _call(incoming)
        return _other(incoming)
    except InvalidField as error:
        return malformed(incoming, invalid_request(str(error)))


def malformed(incoming: Incoming, error: ErrorBody) -> Malformed:
    """A frame with ``error``; ``incoming`` may have only some of its members."""
    reply = reply_to(incoming)
    request = None
    if reply.op == CALL_ANSWER:
        with suppress(InvalidField):
            request = _key(incoming)
    return Malformed(reply, error, request)


def reply_to(incoming: Incoming) -> ReplyTo:
    """How to answer a frame with these members."""
    op = incoming.op
    answer = ANSWERS.get(op, ERROR_ANSWER) if type(op) is str else ERROR_ANSWER
    ids = _ids(incoming)
    if answer == CALL_ANSWER:
        acks = op == "call_tool" and bool(incoming.request_id)
        return ReplyTo("op", answer, ids or b',"request_id":null', acks)
    return ReplyTo("op", answer, ids)


def _ids(incoming: Incoming) -> bytes:
    """The id under the client's own names for it, and always as ``request_id``."""
    request_id, req_id, id_ = incoming.request_id, incoming.req_id, incoming.id
    members = b""
    if request_id is not None:
        members = b',"request_id":' + echo_id(request_id)
    elif req_id is not None or id_ is not None:
        first = req_id if req_id is not None else id_
        text = first if type(first) is str else echo_id(first).decode()
        members = b',"request_id":' + to_json(text)
    if req_id is not None:
        members += b',"req_id":' + echo_id(req_id)
    if id_ is not None:
        members += b',"id":' + echo_id(id_)
    return members


def _key(incoming: Incoming) -> RequestKey | None:
    """The name that ``request_id`` gives the request; None if it is missing or empty."""
    request_id = incoming.request_id
    if request_id is None:
        return None
    if type(request_id) is not str:
        raise InvalidField(f"request_id must be a string, got {json_type(request_id)}")
    text = check_id(request_id, "request_id")
    return RequestKey(text) if text else None


def _other_id(incoming: Incoming) -> RequestKey | None:
    """The id under another name; None if it is missing or empty."""
    if incoming.req_id is not None:
        text = check_id(incoming.req_id, "req_id")
    elif incoming.id is not None:
        text = check_id(incoming.id, "id")
    else:
        return None
    return RequestKey(text) if text else None


def _call(incoming: Incoming) -> CallTool:
    request = _key(incoming)
    other_id = _other_id(incoming) if request is None else None
    reply = reply_to(incoming)
    name, arguments = incoming.name, incoming.arguments
    if name is None:
        name, arguments = _other_spelling(incoming)
    return CallTool(
        reply=reply,
        request=request,
        tool=check_tool(name, "name"),
        arguments=check_arguments(arguments),
        options=CallOptions(
            stream=check_stream(incoming.stream),
            deadline_ms=check_deadline(incoming.deadline_ms),
            priority=check_priority(incoming.priority),
            if_busy=check_if_busy(incoming.if_busy),
            reports_progress=reply.acks,
            idempotency_key=check_idempotency_key(incoming.idempotency_key),
            trace=trace_context(incoming.traceparent, incoming.tracestate),
            stream_reasoning=check_stream_reasoning(incoming.stream_reasoning),
        ),
        other_id=other_id,
    )


def _other_spelling(incoming: Incoming) -> tuple[str, Any]:
    """The tool and the arguments of a call that has no ``name``."""
    arguments, tool = incoming.arguments, incoming.tool
    if incoming.tool_name is not None:
        return check_tool(incoming.tool_name, "tool_name"), arguments
    if type(tool) is dict:
        if arguments is None:
            arguments = tool.get("arguments")
        return check_tool(tool.get("name"), "tool.name"), arguments
    if tool is not None:
        return check_tool(tool, "tool"), arguments
    raise InvalidField("name is missing: the tool to call, a non-empty string")


def _other(incoming: Incoming) -> ClientFrame:
    op = incoming.op
    if type(op) is not str:
        raise InvalidField(f"op must be a string, got {json_type(op)}")
    reply = reply_to(incoming)
    if op == "hello":
        token, session_id = incoming.token, incoming.session_id
        is_valid = type(session_id) is str and _SESSION_ID.fullmatch(session_id)
        return Hello(
            token if type(token) is str else "",
            session_id if is_valid else None,
            reply,
            incoming.resume if type(incoming.resume) is str else None,
        )
    if op not in ANSWERS:
        name = op if len(op) <= 80 else op[:80] + "…"
        return Malformed(
            reply,
            ErrorBody(ErrorCode.PROTOCOL_ERROR, f"Unknown operation: {name}", {"operation": name}),
        )
    key = _key(incoming) or _other_id(incoming)
    match op:
        case "list_tools":
            return ListTools(reply)
        case "ping":
            return Ping(reply)
        case "health":
            return Health(reply)
        case "rotate_token":
            return RotateToken(reply, _token(incoming.old, "old"), _token(incoming.new, "new"))
        case _:
            if key is None:
                raise InvalidField("request_id is missing: the request to cancel")
            return Cancel(reply, key)


def _token(value: object, field: str) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise InvalidField(f"{field} must be a string, got {json_type(value)}")
    return value
