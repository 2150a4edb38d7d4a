"""Answers of the op protocol.

Frames are put together from pieces of JSON: the id and the tool's name are encoded once each, which
is twice as fast as encoding a whole object.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil

from exai_actors.errors import ErrorBody
from exai_actors.wire.clients.answers import DescribedTool, HealthSummary
from exai_actors.wire.clients.dialects.op_reader import CALL_ANSWER
from exai_actors.wire.clients.frames import ReplyTo
from exai_actors.wire.json_encoding import to_json


@lru_cache(maxsize=4)
def timestamp(second: int) -> bytes:
    """``second`` since the epoch as a JSON string a person can read."""
    return datetime.fromtimestamp(second, UTC).strftime('"%Y-%m-%d %H:%M:%S UTC"').encode()


@lru_cache(maxsize=64)
def _name(tool: str) -> bytes:
    return to_json(tool)


def accepted(reply: ReplyTo, tool: str, now_wall: float) -> bytes | None:
    """The first frame of a call: it was taken in and may have to wait."""
    if not reply.acks:
        return None
    return b"".join(
        (
            b'{"op":"progress"',
            reply.ids,
            b',"name":',
            _name(tool),
            b',"t":',
            to_json(now_wall),
            b',"note":"accepted, awaiting provider/session capacity"}',
        )
    )


def acknowledged(reply: ReplyTo, tool: str, timeout_s: float) -> bytes | None:
    """The call runs now; old clients wait ``timeout_s``, in whole seconds, from here on."""
    if not reply.acks:
        return None
    return b'{"op":"call_tool_ack"' + reply.ids + _acknowledgement(tool, timeout_s)


@lru_cache(maxsize=64)
def _acknowledgement(tool: str, timeout_s: float) -> bytes:
    return b',"accepted":true,"timeout":%d,"name":%b}' % (ceil(timeout_s), to_json(tool))


def progress(
    reply: ReplyTo,
    tool: str,
    now_wall: float,
    note: str | None,
    position: int | None,
    estimate_s: float | None,
) -> bytes | None:
    if not reply.acks:
        return None
    parts = [b'{"op":"progress"', reply.ids, b',"name":', to_json(tool)]
    parts += (b',"t":', to_json(now_wall))
    if note is not None:
        parts += (b',"note":', to_json(note))
    if position is not None:
        parts += (b',"position":', to_json(position))
    if estimate_s is not None:
        parts += (b',"estimate_s":', to_json(estimate_s))
    parts.append(b"}")
    return b"".join(parts)


def chunk(reply: ReplyTo, sequence: int, text: str, now_wall: float) -> bytes | None:
    if not reply.acks:
        return None
    return b'{"op":"stream_chunk"%b,"chunk":%b,"sequence":%d,"timestamp":%b}' % (
        reply.ids,
        to_json(text),
        sequence,
        timestamp(int(now_wall)),
    )


def stream_complete(reply: ReplyTo, chunks: int, now_wall: float) -> bytes | None:
    if not reply.acks or chunks < 1:
        return None
    return b'{"op":"stream_complete"%b,"chunks":%d,"timestamp":%b}' % (
        reply.ids,
        chunks,
        timestamp(int(now_wall)),
    )


def error(reply: ReplyTo, body: ErrorBody) -> bytes:
    op = b"call_tool_res" if reply.op == CALL_ANSWER else b"error"
    return b'{"op":"%b"%b,"ok":false,"error":%b}' % (op, reply.ids, to_json(body))


def tools(reply: ReplyTo, described: Iterable[DescribedTool]) -> bytes:
    return b'{"op":"list_tools_res"%b,"tools":%b}' % (reply.ids, tool_list(described))


def tool_list(described: Iterable[DescribedTool]) -> bytes:
    """The array of tools, alike in both dialects."""
    return to_json(
        [
            {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
            for tool in described
        ]
    )


def pong(reply: ReplyTo, now_wall: float) -> bytes:
    return b'{"op":"pong"%b,"timestamp":%b}' % (reply.ids, timestamp(int(now_wall)))


def health(reply: ReplyTo, vitals: HealthSummary) -> bytes:
    return b'{"op":"health_res"%b,"ok":true,"health":%b}' % (
        reply.ids,
        to_json(
            {
                "t": vitals.now_wall,
                "uptime_human": uptime_human(vitals.uptime_s),
                "sessions": vitals.sessions,
                "global_capacity": vitals.global_capacity,
                "global_inflight": vitals.global_inflight,
                "tool_count": vitals.tool_count,
            }
        ),
    )


def uptime_human(seconds: float) -> str:
    """``H:MM:SS``."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def rotated(reply: ReplyTo, error: str | None) -> bytes:
    if error is None:
        return b'{"op":"rotate_token_res"%b,"ok":true}' % reply.ids
    return b'{"op":"rotate_token_res"%b,"ok":false,"error":%b}' % (reply.ids, to_json(error))


def cancelled(reply: ReplyTo, found: bool, now_wall: float) -> bytes:
    return b'{"op":"cancelled"%b,"ok":true,"found":%b,"timestamp":%b}' % (
        reply.ids,
        b"true" if found else b"false",
        timestamp(int(now_wall)),
    )
