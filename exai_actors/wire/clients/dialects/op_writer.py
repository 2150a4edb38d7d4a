"""Encodes answers in the op dialect.

Frames are assembled from pieces of JSON, which costs half as much as encoding one object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil
from typing import Any

from exai_actors.core.statistics import BrokerStatistics
from exai_actors.core.tools.table import ToolDescription
from exai_actors.errors import ErrorBody
from exai_actors.wire.clients.dialects.op_reader import CALL_ANSWER
from exai_actors.wire.clients.frames import ReplyTo
from exai_actors.wire.json_encoding import to_json

# Of the names of tools and the notes on progress there are a few, and each is sent often.
_few_to_json = lru_cache(maxsize=64)(to_json)


@lru_cache(maxsize=4)
def timestamp(second: int) -> bytes:
    """``second`` since 1970 as a JSON string for people."""
    return datetime.fromtimestamp(second, UTC).strftime('"%Y-%m-%d %H:%M:%S UTC"').encode()


def accepted(
    reply: ReplyTo, tool: str, now_wall: float, waits_for: dict[str, Any] | None = None
) -> bytes | None:
    """The first frame of a call: the request was accepted and may have to wait."""
    note = "accepted, awaiting provider/session capacity"
    return progress(reply, tool, now_wall, note=note, waits_for=waits_for)


def acknowledged(reply: ReplyTo, tool: str, timeout_s: float) -> bytes | None:
    """The second frame of a call. Old clients wait ``timeout_s``, in whole seconds, from here on.

    So it must allow for the waiting, and precede it.
    """
    if not reply.acks:
        return None
    return b'{"op":"call_tool_ack"%b,"accepted":true,"timeout":%d,"name":%b}' % (
        reply.ids,
        ceil(timeout_s),
        _few_to_json(tool),
    )


def progress(
    reply: ReplyTo,
    tool: str,
    now_wall: float,
    *,
    note: str | None = None,
    position: int | None = None,
    estimate_s: float | None = None,
    waits_for: dict[str, Any] | None = None,
) -> bytes | None:
    if not reply.acks:
        return None
    return b'{"op":"progress"%b,"name":%b,"t":%b%b%b%b%b}' % (
        reply.ids,
        _few_to_json(tool),
        to_json(now_wall),
        b"" if note is None else b',"note":' + _few_to_json(note),
        b"" if position is None else b',"position":' + to_json(position),
        b"" if estimate_s is None else b',"estimate_s":' + to_json(estimate_s),
        b"" if waits_for is None else b',"waits_for":' + to_json(waits_for),
    )


def piece_frame(reply: ReplyTo, wall: Callable[[], float]) -> Callable[[int, str], bytes] | None:
    return _chunk_frame(b"stream_chunk", reply, wall)


def reasoning_frame(
    reply: ReplyTo, wall: Callable[[], float]
) -> Callable[[int, str], bytes] | None:
    # No old client asks for it. Some take every frame with a chunk for a part of the answer.
    return _chunk_frame(b"reasoning_chunk", reply, wall)


def _chunk_frame(
    op: bytes, reply: ReplyTo, wall: Callable[[], float]
) -> Callable[[int, str], bytes] | None:
    if not reply.acks:
        return None
    head = b'{"op":"%b"%b,"chunk":' % (op, reply.ids)

    def frame(sequence: int, text: str) -> bytes:
        return b'%b%b,"sequence":%d,"timestamp":%b}' % (
            head,
            to_json(text),
            sequence,
            timestamp(int(wall())),
        )

    return frame


def stream_complete(reply: ReplyTo, chunks: int, now_wall: float) -> bytes | None:
    if not reply.acks or chunks < 1:
        return None
    return b'{"op":"stream_complete"%b,"chunks":%d,"timestamp":%b}' % (
        reply.ids,
        chunks,
        timestamp(int(now_wall)),
    )


def error(reply: ReplyTo, body: ErrorBody) -> bytes:
    if reply.op != CALL_ANSWER:
        return b'{"op":"error"%b,"ok":false,"error":%b}' % (reply.ids, to_json(body))
    # Clients of one frame show the member result, and nothing else.
    shown = b""
    if not reply.acks:
        shown = b',"result":' + to_json([{"type": "text", "text": f"{body.code}: {body.message}"}])
    return b'{"op":"call_tool_res"%b,"ok":false,"error":%b%b}' % (reply.ids, to_json(body), shown)


def tools(reply: ReplyTo, described: Iterable[ToolDescription]) -> bytes:
    return b'{"op":"list_tools_res"%b,"tools":%b}' % (reply.ids, tool_list(described))


def tool_list(described: Iterable[ToolDescription]) -> bytes:
    """The array of tools, which is the same in both dialects."""
    return to_json(
        [
            {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
            for tool in described
        ]
    )


def pong(reply: ReplyTo, now_wall: float) -> bytes:
    return b'{"op":"pong"%b,"timestamp":%b}' % (reply.ids, timestamp(int(now_wall)))


def health(reply: ReplyTo, statistics: BrokerStatistics, now_wall: float, tool_count: int) -> bytes:
    return b'{"op":"health_res"%b,"ok":true,"health":%b}' % (
        reply.ids,
        to_json(
            {
                "t": now_wall,
                "uptime_human": uptime_human(statistics.uptime_s),
                "sessions": statistics.sessions,
                "global_capacity": statistics.capacity,
                "global_inflight": statistics.in_flight,
                "tool_count": tool_count,
            }
        ),
    )


def uptime_human(seconds: float) -> str:
    """``H:MM:SS``."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def rotated(reply: ReplyTo, error: str | None) -> bytes:
    """The answer to a rotation of a token; ``error`` is the word for a refusal."""
    if error is None:
        return b'{"op":"rotate_token_res"%b,"ok":true}' % reply.ids
    return b'{"op":"rotate_token_res"%b,"ok":false,"error":%b}' % (reply.ids, to_json(error))


def cancelled(reply: ReplyTo, found: bool, now_wall: float) -> bytes:
    return b'{"op":"cancelled"%b,"ok":true,"found":%b,"timestamp":%b}' % (
        reply.ids,
        b"true" if found else b"false",
        timestamp(int(now_wall)),
    )
