"""The addresses of a broker, for the client programs of each family."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from exai_actors.client.urls import NO_URL, parse_url
from exai_actors.errors import UsageError

_SCHEMES = {"ws": "http", "wss": "https"}


class BrokerAddress(msgspec.Struct, frozen=True):
    """``root`` is the HTTP address without a slash at its end, as clients of Messages take it."""

    root: str

    @property
    def v1(self) -> str:
        """The base URL of chat completions, Responses and embeddings."""
        return f"{self.root}/v1"

    @property
    def mcp(self) -> str:
        return f"{self.root}/mcp"

    @property
    def console(self) -> str:
        return f"{self.root}/console"

    @property
    def websocket(self) -> str:
        return f"ws{self.root.removeprefix('http')}"


def address_of(url: str) -> BrokerAddress:
    """The addresses of the broker at a WebSocket URL. Raises UsageError for another URL."""
    shown, parts = parse_url(url).display, urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise UsageError(f"{shown} {NO_URL}")
    return BrokerAddress(f"{scheme}://{parts.netloc.rpartition('@')[2]}")
