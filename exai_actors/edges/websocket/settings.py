"""The settings of the WebSocket server, as plain values. Times are seconds."""

from __future__ import annotations

import msgspec

_MIN_OUTBOX_LIMIT_BYTES = 64 * 1024 * 1024


class WebSocketSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a WebSocket server and its connections.

    ``max_strangers`` counts the sockets that are not admitted, which are not among
    ``max_connections``. ``max_connections_per_address`` None sets no such limit. Streams pause
    above ``outbox_high_bytes`` of unread output and resume below ``outbox_low_bytes``.
    """

    max_frame_bytes: int = 12_582_912
    max_connections: int = 1000
    max_strangers: int = 1000
    max_connections_per_address: int | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    open_timeout_s: float = 5.0
    ping_interval_s: float = 30.0
    ping_timeout_s: float = 10.0
    close_timeout_s: float = 1.0
    message_timeout_s: float = 60.0
    outbox_high_bytes: int = 1_048_576
    outbox_low_bytes: int = 262_144
    outbox_limit_bytes: int | None = None

    @property
    def max_outbox_bytes(self) -> int:
        """``outbox_limit_bytes``, by default four of the largest frames and at least 64 MiB."""
        if self.outbox_limit_bytes is not None:
            return self.outbox_limit_bytes
        return max(4 * self.max_frame_bytes, _MIN_OUTBOX_LIMIT_BYTES)
