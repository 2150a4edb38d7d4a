"""Every answer to a client, as the bytes of one text frame in the dialect it asked in.

Each function takes the ``ReplyTo`` of the frame it answers. None means that this client is to get
no such frame: a caller without an id gets exactly one, its result or its error, and JSON-RPC hears
of progress only where it gave a token for it. ``now_wall`` is in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable

from exai_actors.errors import ErrorBody
from exai_actors.wire.clients.answers import DescribedTool, HealthSummary
from exai_actors.wire.clients.dialects import op_writer, rpc_writer
from exai_actors.wire.clients.frames import Dialect, ReplyTo
from exai_actors.wire.clients.results import result

__all__ = [
    "accepted",
    "acknowledged",
    "cancelled",
    "chunk",
    "error",
    "health",
    "initialize_result",
    "pong",
    "progress",
    "result",
    "rotated",
    "stream_complete",
    "tools",
]

_OP = Dialect.OP

initialize_result = rpc_writer.initialize_result
# Both are for those whose reply has acks only, so it does not matter which dialect is asked in.
accepted = op_writer.accepted
acknowledged = op_writer.acknowledged


def progress(
    reply: ReplyTo,
    tool: str,
    now_wall: float,
    note: str | None = None,
    position: int | None = None,
    estimate_s: float | None = None,
) -> bytes | None:
    """The call is alive; with ``position`` (from 1) it still waits, for about ``estimate_s``."""
    if reply.dialect is _OP:
        return op_writer.progress(reply, tool, now_wall, note, position, estimate_s)
    return rpc_writer.progress(reply, note, position, estimate_s)


def chunk(reply: ReplyTo, sequence: int, text: str, now_wall: float) -> bytes | None:
    """A piece of the answer; ``sequence`` counts from 0 without gaps."""
    if reply.dialect is _OP:
        return op_writer.chunk(reply, sequence, text, now_wall)
    return rpc_writer.chunk(reply, sequence, text)


def stream_complete(reply: ReplyTo, chunks: int, now_wall: float) -> bytes | None:
    """All ``chunks`` were sent, and they are the whole answer: old clients take this as final.

    None if there were none.
    """
    return op_writer.stream_complete(reply, chunks, now_wall) if reply.dialect is _OP else None


def error(reply: ReplyTo, body: ErrorBody) -> bytes:
    """The one answer to a frame that failed, in the envelope its sender waits for."""
    if reply.dialect is _OP:
        return op_writer.error(reply, body)
    return rpc_writer.error(reply, body)


def tools(reply: ReplyTo, described: Iterable[DescribedTool]) -> bytes:
    """The list of tools."""
    if reply.dialect is _OP:
        return op_writer.tools(reply, described)
    return rpc_writer.tools(reply, described)


def pong(reply: ReplyTo, now_wall: float) -> bytes:
    """The answer to a ping."""
    return op_writer.pong(reply, now_wall) if reply.dialect is _OP else rpc_writer.pong(reply)


def health(reply: ReplyTo, vitals: HealthSummary) -> bytes:
    """The broker's figures; asked for in the op dialect only."""
    return op_writer.health(reply, vitals)


def rotated(reply: ReplyTo, error: str | None) -> bytes:
    """What became of a token's rotation, ``error`` being the word for it; op dialect only."""
    return op_writer.rotated(reply, error)


def cancelled(reply: ReplyTo, now_wall: float, *, found: bool = True) -> bytes | None:
    """The answer to the cancel frame itself. The cancelled call gets its own, an error.

    ``found`` tells whether the request was still in flight. JSON-RPC's notification gets None.
    """
    if reply.dialect is _OP:
        return op_writer.cancelled(reply, found, now_wall)
    return rpc_writer.cancelled(reply)
