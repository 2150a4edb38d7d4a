"""Answers of the op protocol.

Frames are put together from pieces of JSON: the id, the tool's name and the text are encoded once
each, which is twice as fast as encoding a whole object, and for a large answer matters more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil

from exai_actors.errors import ErrorBody
from exai_actors.wire.answers import DescribedTool, Envelope, ToolAnswer, Vitals, metadata
from exai_actors.wire.dialects.op_reader import CALL_ANSWER
from exai_actors.wire.frames import ReplyTo
from exai_actors.wire.json_text import to_json


@lru_cache(maxsize=4)
def timestamp(second: int) -> bytes:
    """``second`` since the epoch as a JSON string a person can read."""
    return datetime.fromtimestamp(second, UTC).strftime('"%Y-%m-%d %H:%M:%S UTC"').encode()


@lru_cache(maxsize=64)
def _name(tool: str) -> bytes:
    return to_json(tool)


def accepted(reply: ReplyTo, tool: str, now_wall: float) -> bytes | None:
    if not reply.acks:
        return None
    return (
        b'{"op":"progress"%b,"name":%b,"t":%.6f,'
        b'"note":"accepted, awaiting provider/session capacity"}'
    ) % (reply.ids, _name(tool), now_wall)


def acknowledged(reply: ReplyTo, tool: str, timeout_s: float) -> bytes | None:
    if not reply.acks:
        return None
    return b'{"op":"call_tool_ack"%b,"accepted":true,"timeout":%d,"name":%b}' % (
        reply.ids,
        ceil(timeout_s),
        _name(tool),
    )


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


def result(
    reply: ReplyTo, answer: ToolAnswer, tool: str, compat_text: bool, envelope: Envelope
) -> bytes:
    texts: Sequence[str] = answer.outputs or ("",)
    if envelope == "ex-ai":
        texts = [wrapped(text, answer, tool) for text in texts]
    if len(texts) == 1:
        whole = to_json(texts[0])
        outputs = b'[{"type":"text","text":' + whole + b"}]"
    else:
        whole = to_json("\n\n".join(filter(None, texts)))
        outputs = to_json([{"type": "text", "text": text} for text in texts])
    parts = [b'{"op":"call_tool_res"', reply.ids, b',"ok":true,"outputs":', outputs]
    if compat_text:
        parts += (b',"text":', whole)
    if not reply.acks:
        parts += (b',"result":', outputs)
    if answer.continuation_id is not None:
        parts += (b',"continuation_id":', to_json(answer.continuation_id))
    facts = metadata(answer)
    parts += (b',"metadata":{', facts, b"}}") if facts else (b"}",)
    return b"".join(parts)


def wrapped(text: str, answer: ToolAnswer, tool: str) -> str:
    """``text`` as the old ``chat`` gave it: inside the text of a JSON object."""
    facts: dict[str, str] = {"tool_name": tool}
    if answer.model is not None:
        facts["model_used"] = answer.model
    if answer.provider is not None:
        facts["provider_used"] = answer.provider
    wrapper: dict[str, object] = {
        "status": "success" if answer.continuation_id is None else "continuation_available",
        "content": text,
        "content_type": "text",
        "metadata": facts,
    }
    if answer.continuation_id is not None:
        wrapper["continuation_offer"] = {
            "continuation_id": answer.continuation_id,
            "note": "Send this continuation_id to go on with the conversation.",
        }
    return to_json(wrapper).decode()


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


def health(reply: ReplyTo, vitals: Vitals) -> bytes:
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
