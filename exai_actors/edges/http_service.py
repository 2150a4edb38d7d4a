"""What all calls to one HTTP service share."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import msgspec
from yarl import URL

from exai_actors.wire.upstream_errors import Speaker


class HttpService(msgspec.Struct):
    """Where the service is and how long it may take.

    ``includes_usage`` says whether streams ask for token counts; it ends when the service refuses.
    """

    name: str
    speaker: Speaker
    base_url: str
    chat_url: URL
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    total_timeout_s: float
    max_answer_bytes: int
    open_session: Callable[[], aiohttp.ClientSession]
    includes_usage: bool = True
