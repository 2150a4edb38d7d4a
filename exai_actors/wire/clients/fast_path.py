"""The frame that nearly every request is, read and checked in one pass.

What is decoded here would come to the same through ``codec.decode`` and ``core.tools.parse_call``,
at five times the cost; whatever is unusual in any way is left to them, untouched.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from exai_actors.core.tools.table import ChatRequest
from exai_actors.ids import RequestKey
from exai_actors.wire.clients.dialects.fields import MAX_DEADLINE_MS, MAX_ID_LENGTH, MAX_PRIORITY
from exai_actors.wire.clients.frames import CheckedCall, Dialect, ReplyTo

MAX_COMMON_BYTES = 1_000_000

_OP = Dialect.OP
_RPC = Dialect.RPC
_ID_LENGTH = Meta(min_length=1, max_length=MAX_ID_LENGTH - 2)
_Deadline = Annotated[float, Meta(ge=1, le=MAX_DEADLINE_MS)]
_Priority = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]


class _Call(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    op: Literal["call_tool", "tool_call"]
    request_id: Annotated[str, _ID_LENGTH]
    arguments: ChatRequest
    name: Literal["chat"] | None = None
    tool: Literal["chat"] | None = None
    stream: bool | None = None
    deadline_ms: _Deadline | None = None
    priority: _Priority = 0


class _Params(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: Literal["chat"]
    arguments: ChatRequest


class _RpcCall(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    jsonrpc: Literal["2.0"]
    id: Annotated[str, _ID_LENGTH] | Annotated[int, Meta(ge=-(2**53), le=2**53)]
    method: Literal["tools/call"]
    params: _Params


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_rpc = msgspec.json.Decoder(_RpcCall).decode
# No lone surrogate, the one thing that this encoder fails for, gets through those decoders.
_json = msgspec.json.Encoder().encode


def decode_common_call(data: bytes) -> CheckedCall | None:
    """A call of ``chat`` with an id and nothing odd about it; None for everything else."""
    if len(data) > MAX_COMMON_BYTES:
        return None
    try:
        if data.startswith(b'{"op"'):
            frame = _decode_call(data)
            request_id, call = frame.request_id, frame.arguments
            prompt = call.prompt
            if not (frame.name or frame.tool):
                return None
            if call.images or prompt.strip() != prompt:
                return None
            return CheckedCall(
                ReplyTo(
                    _OP,
                    "call_tool_res",
                    b',"request_id":' + _json(request_id),
                    frame.op == "call_tool",
                ),
                RequestKey(request_id),
                call,
                call.stream if frame.stream is None else frame.stream,
                frame.deadline_ms,
                frame.priority,
            )
        if data.startswith(b'{"jsonrpc"'):
            rpc = _decode_rpc(data)
            call = rpc.params.arguments
            prompt = call.prompt
            if call.images or prompt.strip() != prompt:
                return None
            id_ = _json(rpc.id)
            return CheckedCall(
                ReplyTo(_RPC, "tools/call", b',"id":' + id_),
                RequestKey(id_.decode(), "rpc"),
                call,
                call.stream,
            )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return None
