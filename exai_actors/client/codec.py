"""The client's side of the ``op`` protocol as bytes: frames out, frames in.

Small on purpose: it knows the frames this client sends and reads a broker's leniently, so that
newer brokers may add fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from exai_actors.errors import ErrorBody, ErrorCode, UsageError

PRODUCT = "exai-actors-client"


class Frame(msgspec.Struct):
    """A frame from the broker; what it does not hold is None."""

    op: str = ""
    ok: bool | None = None
    session_id: str | None = None
    request_id: str | None = None
    error: Any = None
    chunk: str | None = None
    sequence: int | None = None
    position: int | None = None
    estimate_s: float | None = None
    note: str | None = None
    outputs: list[Any] | None = None
    text: str | None = None
    continuation_id: str | None = None
    metadata: dict[str, Any] | None = None
    tools: list[Any] | None = None
    health: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(Frame).decode


def read(data: str | bytes) -> Frame:
    """The frame in one text message. Raises ValueError for anything that is not one."""
    try:
        return _decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"the peer sent something that is not a frame: {error}") from error


def hello(token: str | None, session_id: str | None, version: str) -> bytes:
    frame = {"op": "hello", "client": PRODUCT, "client_version": version}
    if token is not None:
        frame["token"] = token
    if session_id is not None:
        frame["session_id"] = session_id
    return orjson.dumps(frame)


def call_tool(
    request_id: str,
    name: str,
    arguments: Mapping[str, Any],
    *,
    stream: bool,
    deadline_ms: float | None,
    priority: int | None,
    if_busy: str | None,
    idempotency_key: str | None,
) -> bytes:
    """Raises UsageError when the arguments cannot be said in JSON."""
    frame: dict[str, Any] = {
        "op": "call_tool",
        "request_id": request_id,
        "name": name,
        "arguments": dict(arguments),
    }
    if stream:
        frame["stream"] = True
    if deadline_ms is not None:
        frame["deadline_ms"] = deadline_ms
    if priority is not None:
        frame["priority"] = priority
    if if_busy is not None:
        frame["if_busy"] = if_busy
    if idempotency_key is not None:
        frame["idempotency_key"] = idempotency_key
    try:
        return orjson.dumps(frame)
    except TypeError as error:
        raise UsageError(f"the call of {name!r} cannot be written as JSON: {error}") from error


def simple(op: str, request_id: str) -> bytes:
    """``cancel``, ``ping``, ``health`` and ``list_tools`` hold nothing but the request id."""
    return orjson.dumps({"op": op, "request_id": request_id})


def error_body(error: object) -> ErrorBody:
    """The error of a frame. A code this client does not know becomes INTERNAL_ERROR."""
    if not isinstance(error, dict):
        return ErrorBody(ErrorCode.INTERNAL_ERROR, str(error))
    said = str(error.get("code"))
    message = str(error.get("message", ""))
    details = error.get("details")
    try:
        code = ErrorCode(said)
    except ValueError:
        code, message = ErrorCode.INTERNAL_ERROR, f"{said}: {message}"
    return ErrorBody(code, message, details if isinstance(details, dict) else None)


def output_texts(outputs: list[Any] | None) -> tuple[str, ...]:
    """The text blocks of a result."""
    return tuple(
        str(output.get("text", "")) for output in outputs or () if isinstance(output, dict)
    )
