"""Encodes answers in JSON-RPC 2.0, in the shapes of MCP's ``initialize``, ``tools/*`` and progress.

MCP has two kinds of failure. A failure *in* a tool that was called properly is a result with
``isError``, which the client's model reads and can react to. A failure *of* the request, or of the
broker, is a JSON-RPC error, which the client's program reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from exai_actors import __version__
from exai_actors.core.tools.table import ToolDescription
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients.dialects import op_writer
from exai_actors.wire.clients.dialects.rpc_reader import CALL
from exai_actors.wire.clients.frames import ReplyTo
from exai_actors.wire.json_encoding import to_json

MCP_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Protocol versions that clients may ask for, newest first. Others are offered the newest."""

NUMBERS: dict[ErrorCode, int] = {
    ErrorCode.INVALID_REQUEST: -32600,
    ErrorCode.PROTOCOL_ERROR: -32601,
    ErrorCode.TOOL_NOT_FOUND: -32602,
    ErrorCode.INTERNAL_ERROR: -32603,
    ErrorCode.VALIDATION_ERROR: -32700,
    ErrorCode.OVER_CAPACITY: -32003,
    ErrorCode.SERVICE_UNAVAILABLE: -32004,
    ErrorCode.DRAINING: -32005,
    ErrorCode.DUPLICATE: -32006,
    ErrorCode.UNAUTHORIZED: -32007,
    ErrorCode.TIMEOUT: -32008,
    ErrorCode.NOT_FOUND: -32009,
    ErrorCode.MODEL_NOT_FOUND: -32010,
    ErrorCode.PROVIDER_ERROR: -32011,
    ErrorCode.TOOL_EXECUTION_ERROR: -32012,
    ErrorCode.CANCELLED: -32800,
}
"""The JSON-RPC number of each code; -32800 is the customary one for a cancelled request."""

TOOL_FAILURES = frozenset(
    {
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.NOT_FOUND,
        ErrorCode.PROVIDER_ERROR,
        ErrorCode.TIMEOUT,
        ErrorCode.TOOL_EXECUTION_ERROR,
    }
)
"""Codes that end a ``tools/call`` as a result with ``isError``."""

_INVALID_PARAMS = -32602


def _result(reply: ReplyTo, value: bytes) -> bytes:
    return b'{"jsonrpc":"2.0"%b,"result":%b}' % (reply.ids, value)


def _notify(reply: ReplyTo, message: str | None, meta: dict[str, Any]) -> bytes | None:
    token = reply.progress
    if token is None:
        return None
    return (
        b'{"jsonrpc":"2.0","method":"notifications/progress",'
        b'"params":{"progressToken":%b,"progress":%d%b%b}}'
    ) % (
        token.token,
        token.next_progress(),
        b"" if message is None else b',"message":' + to_json(message),
        b',"_meta":' + to_json(meta) if meta else b"",
    )


def progress(
    reply: ReplyTo,
    *,
    note: str | None,
    position: int | None,
    estimate_s: float | None,
    waits_for: dict[str, Any] | None = None,
) -> bytes | None:
    meta: dict[str, Any] = {}
    if position is not None:
        meta["position"] = position
        note = note or f"queued at position {position}"
    if estimate_s is not None:
        meta["estimate_s"] = estimate_s
    if waits_for is not None:
        meta["waits_for"] = waits_for
        note = f"{note or 'waiting'}; {waits_for['text']}"
    return _notify(reply, note, meta)


def piece_frame(reply: ReplyTo) -> Callable[[int, str], bytes] | None:
    return _chunk_frame(reply, b"")


def reasoning_frame(reply: ReplyTo) -> Callable[[int, str], bytes] | None:
    return _chunk_frame(reply, b',"kind":"reasoning"')


def _chunk_frame(reply: ReplyTo, kind: bytes) -> Callable[[int, str], bytes] | None:
    token = reply.progress
    if token is None:
        return None
    head = (
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b'
        b',"progress":'
    ) % token.token

    def frame(sequence: int, text: str) -> bytes:
        return b'%b%d,"message":%b,"_meta":{"sequence":%d%b}}}' % (
            head,
            token.next_progress(),
            to_json(text),
            sequence,
            kind,
        )

    return frame


def error(reply: ReplyTo, body: ErrorBody) -> bytes:
    if reply.op == CALL and body.code in TOOL_FAILURES:
        content = [{"type": "text", "text": f"{body.code}: {body.message}"}]
        failure = {"content": content, "isError": True, "_meta": {"error": body}}
        return _result(reply, to_json(failure))
    number = NUMBERS[body.code]
    if body.code is ErrorCode.INVALID_REQUEST and reply.op:
        number = _INVALID_PARAMS
    data: dict[str, Any] = {"code": body.code, **(body.details or {})}
    failure = {"code": number, "message": body.message, "data": data}
    return b'{"jsonrpc":"2.0"%b,"error":%b}' % (reply.ids, to_json(failure))


def tools(reply: ReplyTo, described: Iterable[ToolDescription]) -> bytes:
    return _result(reply, b'{"tools":%b}' % op_writer.tool_list(described))


def pong(reply: ReplyTo) -> bytes:
    return _result(reply, b"{}")


def cancelled(reply: ReplyTo) -> bytes | None:
    return None if reply.ids.startswith(b',"id":null') else _result(reply, b"{}")


def initialize_result(reply: ReplyTo, protocol_version: str, session_id: str) -> bytes:
    version = protocol_version if protocol_version in MCP_VERSIONS else MCP_VERSIONS[0]
    return _result(
        reply,
        to_json(
            {
                "protocolVersion": version,
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": {"name": "exai-actors", "version": __version__},
                "_meta": {"session_id": session_id},
            }
        ),
    )
