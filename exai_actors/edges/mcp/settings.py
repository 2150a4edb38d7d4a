"""The settings of MCP over HTTP, as plain values. Times are seconds."""

from __future__ import annotations

import msgspec


class McpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of ``/mcp``.

    A client without requests, tasks and streams is forgotten after ``idle_s``, or sooner if there
    are ``max_clients`` others. Of more than ``max_strangers`` that the broker has not admitted yet
    the oldest ends. An answer that takes longer than ``keepalive_s`` becomes a stream, in which a
    comment follows each time that nothing else was sent for so long.
    """

    max_clients: int = 256
    max_strangers: int = 64
    idle_s: float = 1800.0
    keepalive_s: float = 10.0
    body_bytes: int = 12_582_912
    tick_s: float = 1.0
