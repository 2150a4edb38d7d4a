"""The settings of calls over HTTP, as plain values. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a call to a service over HTTP.

    The timeouts cover a new connection with its TLS (``connect``), the silence before the first
    piece of the answer or of its reasoning (``first_byte``), that between two portions of the
    answer (``idle``) and the whole call (``total``). Any byte of the body ends a silence.
    ``max_answer_bytes`` limits the text of a streamed answer and the body of any other.
    ``headers`` and ``query`` are added to each request, and replace headers of ours;
    ``api_key_header`` holds the key, bare unless it is Authorization; ``messages_api_key_header``
    does in calls of that family, if it is not empty. ``ask_for_stream``: also for calls whose
    client wants the answer in one piece. ``count_tokens``: how questions for tokens are answered.
    """

    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float = 300.0
    idle_timeout_s: float = 120.0
    total_timeout_s: float = 1800.0
    max_answer_bytes: int = 33_554_432
    api_key_header: str = "Authorization"
    messages_api_key_header: str = ""
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    ask_for_stream: Literal["always", "when_asked"] = "always"
    count_tokens: Literal["estimate", "relay"] = "estimate"


class Address(msgspec.Struct, frozen=True):
    """Where a service serves a family, and the header that holds its key there."""

    url: str
    api_key_header: str = "Authorization"
