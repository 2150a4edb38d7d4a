"""Reads a broker's URL."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

import msgspec

from exai_actors.client.settings import DEFAULT_URL
from exai_actors.errors import UsageError

NO_URL = f"is not a WebSocket URL such as {DEFAULT_URL}"


class BrokerUrl(msgspec.Struct, frozen=True):
    """``display`` is the URL without user name and password, for messages and logs."""

    display: str
    port: int | None
    is_loopback: bool


def parse_url(url: str) -> BrokerUrl:
    """Raises UsageError if ``url`` is not a URL."""
    try:
        parts = urlsplit(url)
        display = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return BrokerUrl(display, parts.port, _is_loopback(parts.hostname or ""))
    except ValueError as error:
        display = url.rpartition("@")[2]
        raise UsageError(f"{display} {NO_URL}: {error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
