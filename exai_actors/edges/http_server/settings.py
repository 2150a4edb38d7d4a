"""The settings of the HTTP server, as plain values. Times are seconds."""

from __future__ import annotations

import msgspec


class HttpServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of the server, and of each connection.

    ``head_timeout_s`` covers a request's head from its first byte, or from the opening of the
    connection; ``body_timeout_s`` the wait for the next piece of its body; ``idle_timeout_s`` the
    wait for another request. Reading stops while ``pipelined`` requests, or ``head_bytes`` of their
    bodies, wait for their turn, and while a client leaves ``outbox_high_bytes`` of its responses
    unread. Of a client whose first request takes long, a little more is read, and the rest refused.
    One that reads nothing for ``unread_timeout_s`` is aborted then, as is one that leaves
    ``outbox_bytes``. ``body_bytes`` limits one body unless its path has another limit (a page
    expects a form at most), and ``bodies_bytes`` all that wait for their responses together.
    """

    max_connections: int = 256
    head_bytes: int = 65_536
    head_fields: int = 100
    body_bytes: int = 16_384
    bodies_bytes: int = 268_435_456
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    unread_timeout_s: float = 10.0
    close_timeout_s: float = 1.0
    pipelined: int = 8
    outbox_high_bytes: int = 65_536
    outbox_low_bytes: int = 16_384
    outbox_bytes: int = 67_108_864
