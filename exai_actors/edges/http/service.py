"""What all calls to one HTTP service share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from exai_actors.edges.http.exchange import Response
from exai_actors.wire.openai.redaction import Redactor


class HttpService(msgspec.Struct):
    """How the service is asked for a completion and how long it may take.

    ``ask`` sends a body and gives the response once its head is there; see ``exchange``.
    ``includes_usage`` says whether streams ask for token counts; it ends when the service refuses.
    """

    name: str
    redactor: Redactor
    base_url: str
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    total_timeout_s: float
    max_answer_bytes: int
    ask: Callable[[bytes], Awaitable[Response]]
    includes_usage: bool = True
