"""The settings of servers and upstreams, as plain values. Times are seconds."""

from __future__ import annotations

import msgspec

_MIN_OUTBOX_LIMIT_BYTES = 64 * 1024 * 1024


class WebSocketSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a WebSocket server and its connections.

    ``max_connections_per_address`` None sets no such limit. Streams pause above
    ``outbox_high_bytes`` of unread output and resume below ``outbox_low_bytes``.
    """

    max_frame_bytes: int = 33_554_432
    max_connections: int = 1000
    max_connections_per_address: int | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    open_timeout_s: float = 10.0
    ping_interval_s: float = 30.0
    ping_timeout_s: float = 10.0
    close_timeout_s: float = 1.0
    outbox_high_bytes: int = 1_048_576
    outbox_low_bytes: int = 262_144
    outbox_limit_bytes: int | None = None

    @property
    def max_outbox_bytes(self) -> int:
        """``outbox_limit_bytes``, by default four of the largest frames and at least 64 MiB."""
        if self.outbox_limit_bytes is not None:
            return self.outbox_limit_bytes
        return max(4 * self.max_frame_bytes, _MIN_OUTBOX_LIMIT_BYTES)


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a call to a service over HTTP.

    The timeouts cover a new connection with its TLS (``connect``), the time from the start of a
    call to the head of its response (``first_byte``), the time between two portions of the body
    (``idle``) and the whole call (``total``). ``max_answer_bytes`` limits the text of a streamed
    answer and the body of any other.
    """

    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float = 60.0
    idle_timeout_s: float = 60.0
    total_timeout_s: float = 600.0
    max_answer_bytes: int = 33_554_432


class SyntheticSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of the built-in provider: the first piece of one comes after ``delay_ms``, the
    rest at ``tokens_per_second`` (0: immediately). A fraction ``failure_rate`` of calls fails.
    """

    delay_ms: float = 0.0
    tokens: int = 16
    tokens_per_second: float = 0.0
    failure_rate: float = 0.0
    seed: int = 0
