"""Decodes the bytes of one text frame, whatever they are.

A valid frame takes one pass of msgspec into a permissive struct. Only if that fails are the bytes
searched for the error and for the id under which to report it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients.dialects import op_reader, rpc_reader
from exai_actors.wire.clients.dialects.fields import (
    MAX_ID_BYTES,
    MAX_ID_LENGTH,
    Incoming,
    invalid_request,
    json_type,
)
from exai_actors.wire.clients.frame_budget import excess
from exai_actors.wire.clients.frames import ClientFrame, Malformed, ReplyTo
from exai_actors.wire.clients.salvage import salvage

TOOL_CALL_MAX_SIZE = 10 * 1024 * 1024
"""Bytes of the largest frame that is read after the hello, not counting images in data URLs.

The edge limits the whole frame.
"""

_IMAGE_DATA = b'"data:image'
_MAX_IMAGES = 1_000

_ABSENT = msgspec.Raw()


class _Undecoded(Incoming, gc=False):
    """A frame with ids that are still JSON, so that their size is known before they are decoded."""

    request_id: msgspec.Raw = _ABSENT
    req_id: msgspec.Raw = _ABSENT
    id: msgspec.Raw = _ABSENT


class _OverlongId(Exception):
    """The text is the name of the member."""


_decode = msgspec.json.Decoder(_Undecoded).decode
_decode_any = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NO_ID = ReplyTo("op", op_reader.ERROR_ANSWER, b"")
_ID_MEMBERS = ("request_id", "req_id", "id")
_SALVAGED = frozenset({"op", "request_id", "req_id", "id", "jsonrpc", "method"})
_SEARCHED_BYTES = 1_000_000
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F][0-9a-fA-F]{2})"
)


def decode(data: bytes) -> ClientFrame:
    """The frame in ``data``; Malformed, never an exception, if it is not a frame."""
    if len(data) > TOOL_CALL_MAX_SIZE and _size_without_images(data) > TOOL_CALL_MAX_SIZE:
        return _malformed(data, _too_large(len(data)))
    problem = excess(data)
    if problem is not None:
        return _malformed(data, invalid_request(problem))
    try:
        incoming: Incoming = _decode(data)
    except msgspec.ValidationError:
        return _not_an_object(data)
    except _UNREADABLE as error:
        return _not_json(data, error)
    try:
        _decode_ids(incoming)
    except _OverlongId as id_:
        problem = f"{id_} must have at most {MAX_ID_LENGTH} characters"
        return _refuse(incoming, invalid_request(problem))
    except _UNREADABLE as error:
        return _not_json(data, error)
    if incoming.op is not None:
        return op_reader.read(incoming)
    if incoming.method is not None or incoming.jsonrpc is not None:
        return rpc_reader.read(incoming)
    problem = "op is missing: an object with op, or with jsonrpc and method, is expected"
    return Malformed(op_reader.reply_to(incoming), invalid_request(problem))


def _decode_ids(frame: Incoming) -> None:
    """Decode the ids of ``frame`` in place; those of too many bytes become None.

    Raises _OverlongId for the first of those, and the errors of the decoder.
    """
    overlong = None
    for name in _ID_MEMBERS:
        raw = getattr(frame, name)
        if raw is _ABSENT:
            setattr(frame, name, None)
            continue
        text = bytes(raw)
        if len(text) > MAX_ID_BYTES:
            overlong = overlong or name
            setattr(frame, name, None)
        else:
            setattr(frame, name, _decode_any(text))
    if overlong is not None:
        raise _OverlongId(overlong)


def refuse_binary(size: int) -> Malformed:
    """The answer to a binary frame of ``size`` bytes."""
    return Malformed(
        _NO_ID,
        ErrorBody(
            ErrorCode.VALIDATION_ERROR,
            "Invalid message: binary frames are not accepted, send JSON in text frames",
            {"size": size},
        ),
    )


def _size_without_images(data: bytes) -> int:
    size, start = len(data), data.find(_IMAGE_DATA)
    for _ in range(_MAX_IMAGES):
        if start < 0:
            break
        end = data.find(b'"', start + 1)
        # A quote that is escaped is part of another text.
        if end > 0 and data[start - 1 : start] != b"\\" and data[end - 1 : end] != b"\\":
            size -= end - start
        start = data.find(_IMAGE_DATA, start + 1)
    return size


def _too_large(size: int) -> ErrorBody:
    limit = TOOL_CALL_MAX_SIZE
    return ErrorBody(
        ErrorCode.OVER_CAPACITY,
        f"Request too large: {size} bytes exceeds limit of {limit} bytes",
        {"actual_size": size, "limit": limit},
    )


def _not_an_object(data: bytes) -> Malformed:
    """``data`` is not an object, or it breaks off after a value that is not an object."""
    try:
        value = _decode_any(data)
    except _UNREADABLE as error:
        return _not_json(data, error)
    if isinstance(value, list):
        reply = _NO_ID
        if _begins_in_json_rpc(value):
            reply = rpc_reader.reply_to(Incoming(), understood=False)
        problem = "batches are not supported, send one object per frame"
        return Malformed(reply, invalid_request(problem))
    return Malformed(_NO_ID, invalid_request(f"an object is expected, got {json_type(value)}"))


def _begins_in_json_rpc(batch: list[Any]) -> bool:
    first = batch[0] if batch else None
    return type(first) is dict and "op" not in first and ("jsonrpc" in first or "method" in first)


def _not_json(data: bytes, error: Exception) -> Malformed:
    return _malformed(
        data,
        ErrorBody(
            ErrorCode.VALIDATION_ERROR,
            "Invalid JSON: message could not be parsed",
            {"parse_error": _parse_error(data, error)},
        ),
    )


def _parse_error(data: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    try:
        data.decode()
    except UnicodeDecodeError as decode_error:
        return f"not UTF-8 at byte {decode_error.start}: {decode_error.reason}"
    if "truncated" not in str(error):
        return str(error)
    surrogate = _LONE_SURROGATE.search(data, 0, _SEARCHED_BYTES)
    if surrogate is not None:
        return f"half a surrogate pair at byte {surrogate.start()}"
    return str(error)


def _malformed(data: bytes, error: ErrorBody) -> Malformed:
    """``error`` under the id, and in the dialect, that can be found in ``data``."""
    return _refuse(Incoming(**salvage(data, _SALVAGED)), error)


def _refuse(incoming: Incoming, error: ErrorBody) -> Malformed:
    """``error`` in the dialect of ``incoming``, which may have only some of its members."""
    if incoming.op is None and (incoming.method is not None or incoming.jsonrpc is not None):
        return Malformed(rpc_reader.reply_to(incoming, understood=False), error)
    return op_reader.malformed(incoming, error)
