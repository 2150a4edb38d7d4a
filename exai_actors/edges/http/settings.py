"""The settings of calls over HTTP, as plain values. Times are seconds."""

from __future__ import annotations

import msgspec


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
