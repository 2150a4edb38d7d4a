"""What a client wants to know of a broker's URL before it connects."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

import msgspec

from exai_actors.client.settings import DEFAULT_URL
from exai_actors.errors import UsageError

NO_URL = f"is not a WebSocket URL such as {DEFAULT_URL}"


class BrokerUrl(msgspec.Struct, frozen=True):
    """``shown`` is the URL without user name and password, as it may be shown and logged."""

    shown: str
    port: int | None
    is_loopback: bool


def look_at(url: str) -> BrokerUrl:
    """Raises UsageError for a text that is no URL at all."""
    try:
        parts = urlsplit(url)
        shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return BrokerUrl(shown, parts.port, _is_loopback(parts.hostname or ""))
    except ValueError as error:
        shown = url.rpartition("@")[2]
        raise UsageError(f"{shown} {NO_URL}: {error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
