"""Every answer to a client, as the bytes of one text frame in the client's dialect.

Each function takes the ``ReplyTo`` of the frame that it answers. None means that this client gets
no such frame: a call without an id gets only its result or error, and JSON-RPC clients get progress
only if they sent a token for it. ``now_wall`` is in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from exai_actors.core.statistics import BrokerStatistics
from exai_actors.core.tools.table import ToolDescription
from exai_actors.errors import ErrorBody
from exai_actors.wire.clients.dialects import op_writer, rpc_writer
from exai_actors.wire.clients.frames import ReplyTo
from exai_actors.wire.clients.results import result

__all__ = [
    "accepted",
    "acknowledged",
    "cancelled",
    "error",
    "health",
    "initialize_result",
    "piece_frame",
    "pong",
    "progress",
    "reasoning_frame",
    "result",
    "rotated",
    "stream_complete",
    "tools",
]

initialize_result = rpc_writer.initialize_result

# Only the op dialect has replies with acks, so these need no dialect; neither do the answers to
# its own operations.
accepted = op_writer.accepted
acknowledged = op_writer.acknowledged
rotated = op_writer.rotated


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
    """The call is alive. ``position`` (from 1): it still waits, for about ``estimate_s``.

    ``waits_for`` are the facts of the reason.
    """
    if reply.dialect == "op":
        return op_writer.progress(
            reply,
            tool,
            now_wall,
            note=note,
            position=position,
            estimate_s=estimate_s,
            waits_for=waits_for,
        )
    return rpc_writer.progress(
        reply, note=note, position=position, estimate_s=estimate_s, waits_for=waits_for
    )


PieceFrame = Callable[[int, str], bytes]
"""Encodes a piece from its number and its text; the numbers count from 0 without gaps."""


def piece_frame(reply: ReplyTo, wall: Callable[[], float]) -> PieceFrame | None:
    """Encodes the pieces of an answer; None if the client takes no frame but the last.

    ``wall`` returns the time in seconds since 1970.
    """
    if reply.dialect == "op":
        return op_writer.piece_frame(reply, wall)
    return rpc_writer.piece_frame(reply)


def reasoning_frame(reply: ReplyTo, wall: Callable[[], float]) -> PieceFrame | None:
    """As ``piece_frame``, for the pieces of reasoning, which share the numbers."""
    if reply.dialect == "op":
        return op_writer.reasoning_frame(reply, wall)
    return rpc_writer.reasoning_frame(reply)


def stream_complete(reply: ReplyTo, chunks: int, now_wall: float) -> bytes | None:
    """The ``chunks`` sent are the whole answer. None if there were none.

    Old clients take this frame for the last one.
    """
    if reply.dialect == "op":
        return op_writer.stream_complete(reply, chunks, now_wall)
    return None


def error(reply: ReplyTo, body: ErrorBody) -> bytes:
    """The one answer to a frame that failed, in the envelope that its sender expects."""
    if reply.dialect == "op":
        return op_writer.error(reply, body)
    return rpc_writer.error(reply, body)


def tools(reply: ReplyTo, described: Iterable[ToolDescription]) -> bytes:
    """The list of tools."""
    if reply.dialect == "op":
        return op_writer.tools(reply, described)
    return rpc_writer.tools(reply, described)


def pong(reply: ReplyTo, now_wall: float) -> bytes:
    """The answer to a ping."""
    if reply.dialect == "op":
        return op_writer.pong(reply, now_wall)
    return rpc_writer.pong(reply)


def health(
    reply: ReplyTo, statistics: BrokerStatistics, *, now_wall: float, tool_count: int
) -> bytes:
    """The broker's figures, an operation of the op dialect."""
    return op_writer.health(reply, statistics, now_wall, tool_count)


def cancelled(reply: ReplyTo, now_wall: float, *, found: bool = True) -> bytes | None:
    """The answer to the cancel frame itself; the cancelled call gets an error of its own.

    ``found``: the request was still in flight. A JSON-RPC notification gets None.
    """
    if reply.dialect == "op":
        return op_writer.cancelled(reply, found, now_wall)
    return rpc_writer.cancelled(reply)
