"""From the bytes of one text frame to a ClientFrame, whatever the bytes are.

The usual frame takes one pass of msgspec into a permissive struct. Only when that fails does the
slow part look for what is wrong and under which id to say so.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients.dialects import op_reader, rpc_reader
from exai_actors.wire.clients.dialects.fields import Incoming, invalid_request, kind
from exai_actors.wire.clients.frames import ClientFrame, Dialect, Malformed, ReplyTo
from exai_actors.wire.clients.salvage import salvage

TOOL_CALL_MAX_SIZE = 10 * 1024 * 1024
"""Bytes of the largest frame that is read after the hello."""

_decode = msgspec.json.Decoder(Incoming).decode
_decode_any = msgspec.json.Decoder().decode
_SALVAGED = frozenset({"op", "request_id", "req_id", "id", "jsonrpc", "method"})
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F][0-9a-fA-F]{2})"
)


def decode(data: bytes) -> ClientFrame:
    """The frame that ``data`` spells; Malformed, never an exception, when it spells none."""
    if len(data) > TOOL_CALL_MAX_SIZE:
        return _salvaged(data, _too_large(len(data)))
    try:
        incoming = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        return _diagnose(data, cause)
    if incoming.op is not None:
        return op_reader.read(incoming)
    if incoming.method is not None or incoming.jsonrpc is not None:
        return rpc_reader.read(incoming)
    why = "op is missing: an object with op, or with jsonrpc and method, is expected"
    return Malformed(op_reader.reply_to(incoming), invalid_request(why))


def binary_refused(size: int) -> Malformed:
    """What a binary frame of ``size`` bytes comes to."""
    return Malformed(
        ReplyTo(Dialect.OP, op_reader.ERROR_ANSWER, b""),
        ErrorBody(
            ErrorCode.VALIDATION_ERROR,
            "Invalid message: binary frames are not accepted, send JSON in text frames",
            {"size": size},
        ),
    )


def _too_large(size: int) -> ErrorBody:
    limit = TOOL_CALL_MAX_SIZE
    return ErrorBody(
        ErrorCode.OVER_CAPACITY,
        f"Request too large: {size} bytes exceeds limit of {limit} bytes",
        {"actual_size": size, "limit": limit},
    )


def _diagnose(data: bytes, cause: Exception) -> Malformed:
    if isinstance(cause, msgspec.ValidationError):
        try:
            value = _decode_any(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            return _unparsable(data, _reason(data, fault))
        reply = ReplyTo(Dialect.OP, op_reader.ERROR_ANSWER, b"")
        if isinstance(value, list):
            why = "batches are not supported, send one object per frame"
            if _begins_in_json_rpc(value):
                reply = rpc_reader.reply_to(Incoming(), understood=False)
        else:
            why = f"an object is expected, got {kind(value)}"
        return Malformed(reply, invalid_request(why))
    return _unparsable(data, _reason(data, cause))


def _begins_in_json_rpc(batch: list[Any]) -> bool:
    first = batch[0] if batch else None
    return type(first) is dict and "op" not in first and ("jsonrpc" in first or "method" in first)


def _reason(data: bytes, cause: Exception) -> str:
    if isinstance(cause, RecursionError):
        return "nested too deep"
    try:
        data.decode()
    except UnicodeDecodeError as wrong:
        return f"not UTF-8 at byte {wrong.start}: {wrong.reason}"
    surrogate = _LONE_SURROGATE.search(data)
    if surrogate is not None and "truncated" in str(cause):
        return f"half a surrogate pair at byte {surrogate.start()}"
    return str(cause)


def _unparsable(data: bytes, reason: str) -> Malformed:
    return _salvaged(
        data,
        ErrorBody(
            ErrorCode.VALIDATION_ERROR,
            "Invalid JSON: message could not be parsed",
            {"parse_error": reason},
        ),
    )


def _salvaged(data: bytes, error: ErrorBody) -> Malformed:
    incoming = Incoming(**salvage(data, _SALVAGED))
    if incoming.op is None and (incoming.method is not None or incoming.jsonrpc is not None):
        return Malformed(rpc_reader.reply_to(incoming, understood=False), error)
    return op_reader.malformed(incoming, error)
