"""The client's side of the ``op`` protocol as bytes: frames out, frames in.

Small on purpose: it knows the frames this client sends and reads a broker's leniently, so that
newer brokers may add fields.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
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
    """Raises UsageError when token or session id is no text that JSON can say."""
    for name, value in (("token", token), ("session_id", session_id)):
        if value is not None:
            _check_text(name, value)
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
    """Raises UsageError when the request id is no text or JSON cannot say the rest.

    Numbers that are none, which the encoder would write as null, are refused like anything else.
    """
    _check_text("request_id", request_id)
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
        written = orjson.dumps(frame)
    except TypeError as error:
        culprit = _unwritable(arguments)
        reason = f"{culprit}: {error}" if culprit else str(error)
        raise UsageError(f"the call of {name!r} cannot be written as JSON: {reason}") from error
    if b"null" in written:
        for path, number in _odd_numbers(frame, ""):
            reason = f"{path.removeprefix('arguments.')} is {number}"
            raise UsageError(f"the call of {name!r} cannot be written as JSON: {reason}")
    return written


def simple(op: str, request_id: str) -> bytes:
    """``cancel``, ``ping``, ``health`` and ``list_tools`` hold nothing but the request id.

    Raises UsageError when that is no text.
    """
    _check_text("request_id", request_id)
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


def _check_text(name: str, value: object) -> None:
    # Also at run time: the broker would send another type back, which no frame of it may hold.
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name} holds half a character (a lone surrogate)") from None


def _unwritable(arguments: Mapping[str, Any]) -> str:
    """The name of the first argument that JSON cannot say, empty when it is none of them."""
    for name, value in arguments.items():
        try:
            orjson.dumps({name: value})
        except TypeError:
            return ascii(name)
    return ""


def _odd_numbers(value: object, path: str) -> Iterator[tuple[str, float]]:
    """Each NaN and infinity in what orjson writes, with where it stands."""
    inner: Iterator[tuple[str, object]] = iter(())
    if isinstance(value, float):
        if not math.isfinite(value):
            yield path, value
    elif isinstance(value, dict):
        inner = ((f"{path}.{key}" if path else key, each) for key, each in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{path}[{index}]", each) for index, each in enumerate(value))
    elif dataclasses.is_dataclass(value):
        inner = (
            (f"{path}.{field.name}", getattr(value, field.name))
            for field in dataclasses.fields(value)
        )
    for name, each in inner:
        yield from _odd_numbers(each, name)
