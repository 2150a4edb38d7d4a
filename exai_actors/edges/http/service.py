"""The common part of all calls to one HTTP service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from exai_actors.edges.http.exchange import Progress, Response
from exai_actors.edges.http.settings import HttpSettings
from exai_actors.wire.openai.redaction import Redactor


class HttpService(msgspec.Struct):
    """How a completion is requested from the service, and how long that may take.

    ``send`` sends the body of a request and returns the response once its head has arrived; see
    ``exchange``. ``includes_usage``: streams ask for token counts, until the service refuses that.
    """

    name: str
    redactor: Redactor
    base_url: str
    settings: HttpSettings
    send: Callable[[bytes, Progress], Awaitable[Response]]
    includes_usage: bool = True
