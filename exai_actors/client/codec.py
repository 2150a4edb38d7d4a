"""Encodes and decodes the client's frames, in the op dialect.

It knows only the frames that this client sends, and ignores unknown fields of the broker's, so that
newer brokers may add some.
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
    """A frame from the broker. Absent fields are None."""

    op: str = ""
    ok: bool | None = None
    session_id: str | None = None
    resumed: bool = False
    resume: str | None = None
    request_id: str | None = None
    error: Any = None
    chunk: str | None = None
    sequence: int | None = None
    position: int | None = None
    estimate_s: float | None = None
    note: str | None = None
    waits_for: dict[str, Any] | None = None
    outputs: list[Any] | None = None
    text: str | None = None
    continuation_id: str | None = None
    dropped_turns: int = 0
    metadata: dict[str, Any] | None = None
    tools: list[Any] | None = None
    health: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(Frame).decode


def decode(data: str | bytes) -> Frame:
    """The frame in a text message. Raises ValueError if it is not a frame."""
    try:
        return _decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"the peer sent something that is not a frame: {error}") from error


def hello(
    token: str | None, session_id: str | None, version: str, resume: str | None = None
) -> bytes:
    """Raises UsageError if a token, session id or secret is not text that UTF-8 can encode."""
    for name, value in (("token", token), ("session_id", session_id), ("resume", resume)):
        if value is not None:
            _check_text(name, value)
    frame = {"op": "hello", "client": PRODUCT, "client_version": version}
    if token is not None:
        frame["token"] = token
    if session_id is not None:
        frame["session_id"] = session_id
    if resume is not None:
        frame["resume"] = resume
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
    trace: Mapping[str, str] | None,
    stream_reasoning: bool = False,
) -> bytes:
    """Raises UsageError if JSON cannot express the call.

    That includes NaN and infinities, which the encoder would write as null.
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
    if stream_reasoning:
        frame["stream_reasoning"] = True
    if deadline_ms is not None:
        frame["deadline_ms"] = deadline_ms
    if priority is not None:
        frame["priority"] = priority
    if if_busy is not None:
        frame["if_busy"] = if_busy
    if idempotency_key is not None:
        frame["idempotency_key"] = idempotency_key
    if trace is not None:
        frame |= {name: trace[name] for name in ("traceparent", "tracestate") if name in trace}
    try:
        encoded = orjson.dumps(frame)
    except TypeError as error:
        argument = _first_unencodable(arguments)
        reason = f"{argument}: {error}" if argument else str(error)
        raise UsageError(f"JSON cannot express the call of {name!r}: {reason}") from error
    if b"null" in encoded:
        for path, number in _non_finite_numbers(frame, ""):
            reason = f"{path.removeprefix('arguments.')} is {number}"
            raise UsageError(f"JSON cannot express the call of {name!r}: {reason}")
    return encoded


def operation(op: str, request_id: str) -> bytes:
    """A frame with only a request id: ``cancel``, ``ping``, ``health`` or ``list_tools``.

    Raises UsageError if the id is not text that UTF-8 can encode.
    """
    _check_text("request_id", request_id)
    return orjson.dumps({"op": op, "request_id": request_id})


def error_body(error: object) -> ErrorBody:
    """The error of a frame. A code that this client does not know becomes INTERNAL_ERROR."""
    if not isinstance(error, dict):
        return ErrorBody(ErrorCode.INTERNAL_ERROR, str(error))
    word = str(error.get("code"))
    message = str(error.get("message", ""))
    details = error.get("details")
    try:
        code = ErrorCode(word)
    except ValueError:
        code, message = ErrorCode.INTERNAL_ERROR, f"{word}: {message}"
    return ErrorBody(code, message, details if isinstance(details, dict) else None)


def output_texts(outputs: list[Any] | None) -> tuple[str, ...]:
    """The text blocks of a result."""
    return tuple(
        str(output.get("text", "")) for output in outputs or () if isinstance(output, dict)
    )


def _check_text(name: str, value: object) -> None:
    # Checked at run time too: the broker would echo another type, which Frame cannot hold.
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name} contains a lone surrogate, half a character") from None


def _first_unencodable(arguments: Mapping[str, Any]) -> str:
    """The name of the first argument that JSON cannot express, empty if there is none."""
    for name, value in arguments.items():
        try:
            orjson.dumps({name: value})
        except TypeError:
            return ascii(name)
    return ""


def _non_finite_numbers(value: object, path: str) -> Iterator[tuple[str, float]]:
    """Each NaN and infinity that orjson finds in ``value``, with its path."""
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
        yield from _non_finite_numbers(each, name)
