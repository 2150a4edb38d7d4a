"""Decodes and checks the most common frame, a call of ``chat``, in one pass.

For the frames that it accepts, the result equals ``codec.decode(data).check()`` at a fifth of the
cost. It leaves all other frames to that general path.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from exai_actors.core.calls import CallOptions
from exai_actors.core.tools.table import ChatRequest
from exai_actors.ids import RequestKey
from exai_actors.wire.clients.dialects.fields import MAX_DEADLINE_MS, MAX_ID_LENGTH, MAX_PRIORITY
from exai_actors.wire.clients.frames import CheckedCall, ReplyTo

MAX_COMMON_BYTES = 1_000_000
"""Within this size no prompt exceeds its limit."""

_NO_OPTIONS = CallOptions()
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
# It fails for lone surrogates only, which these decoders reject.
_json = msgspec.json.Encoder().encode


def decode_common_call(data: bytes) -> CheckedCall | None:
    """The call in ``data`` if it is common: ``chat``, with an id, no images, no unknown fields.

    The general path checks images, and refuses a prompt without any text.
    """
    if len(data) > MAX_COMMON_BYTES:
        return None
    try:
        if data.startswith(b'{"op"'):
            frame = _decode_call(data)
            arguments = frame.arguments
            if not (frame.name or frame.tool) or arguments.images or arguments.prompt.isspace():
                return None
            acks = frame.op == "call_tool"
            ids = b',"request_id":' + _json(frame.request_id)
            return CheckedCall(
                reply=ReplyTo("op", "call_tool_res", ids, acks),
                request=RequestKey(frame.request_id),
                tool="chat",
                arguments=arguments,
                options=CallOptions(
                    stream=frame.stream,
                    deadline_ms=frame.deadline_ms,
                    priority=frame.priority,
                    reports_progress=acks,
                ),
            )
        if data.startswith(b'{"jsonrpc"'):
            rpc = _decode_rpc(data)
            arguments = rpc.params.arguments
            if arguments.images or arguments.prompt.isspace():
                return None
            id_ = _json(rpc.id)
            return CheckedCall(
                reply=ReplyTo("json-rpc", "tools/call", b',"id":' + id_),
                request=None,
                tool="chat",
                arguments=arguments,
                options=_NO_OPTIONS,
                other_id=RequestKey(id_.decode(), "rpc"),
            )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return None
