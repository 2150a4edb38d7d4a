"""Decides whether a WebSocket handshake is accepted.

Browsers let any page open a WebSocket to any address and name the page in ``Origin``. No page comes
from this port, so every origin is foreign unless the configuration lists it. Comparing ``Origin``
with ``Host`` would not help: a page whose name was rebound to 127.0.0.1 sends the same in both.

One origin needs no listing, because programs send it and no page can: that of this port itself,
under a loopback address. The library websocket-client makes it up from the URL.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from exai_actors.core.loopback import is_loopback_address

ANY_ORIGIN = "*"
# Names that cannot be registered in the public DNS, so no foreign page is served under them.
_PRIVATE_DOMAINS = (".localhost", ".internal", ".test", ".home.arpa")


class HandshakePolicy(msgspec.Struct, frozen=True):
    """The rules of one server. ``allowed_origins`` are matched whole; ``*`` allows every origin.

    ``checks_host``: also refuse a ``Host`` under which a foreign page may be served, unless
    ``allowed_hosts`` lists it; for servers that listen on loopback only.
    """

    max_connections: int
    max_connections_per_address: int | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    checks_host: bool = False


class HandshakeRefused(msgspec.Struct, frozen=True):
    """Answer the handshake with this HTTP status and text; no WebSocket is opened."""

    status: int
    text: str


class ConnectionRefused(msgspec.Struct, frozen=True):
    """Open the WebSocket only to close it with this code and reason, as old clients expect."""

    code: int
    reason: str


@lru_cache(maxsize=128)
def check_handshake(
    policy: HandshakePolicy, *, origin: str | None, host: str | None, port: int
) -> HandshakeRefused | None:
    """None to accept. ``origin`` and ``host`` are header values, None if absent.

    A client without ``Origin`` is not a browser and is accepted. ``port`` is the broker's own.
    """
    if not (origin is None or is_listed(policy, origin) or _is_of_this_port(origin, host, port)):
        caution = ""
        if origin == "null" or origin.startswith("file:"):
            caution = (
                "Pages of programs have this origin, but so have files that a browser opens, and\n"
                "null can be sent by any page: with it, also require a token ([server] token).\n"
            )
        return HandshakeRefused(
            403,
            f"The page's origin {_printable(origin)} may not connect to this broker.\n{caution}"
            "If you trust it, add it to the configuration and restart the broker:\n"
            f'  [server]\n  allowed_origins = ["{_printable(origin)}"]\n',
        )
    if policy.checks_host and host is not None and not _is_known_host(host, policy):
        return HandshakeRefused(
            403,
            f"This broker listens on loopback and is not known as {_printable(host)}.\n"
            "Connect to it as localhost or 127.0.0.1. Behind a proxy, make the proxy send one of\n"
            "these as Host, or list the public name in the configuration and restart the broker:\n"
            f'  [server]\n  allowed_hosts = ["{_printable(_host_name(host) or "")}"]\n',
        )
    return None


def check_connection_limits(
    policy: HandshakePolicy, *, open_connections: int, from_same_address: int
) -> ConnectionRefused | None:
    """None to accept one more connection beside those that are open."""
    if open_connections >= policy.max_connections:
        return ConnectionRefused(1008, "Server overloaded - global connection limit reached")
    limit = policy.max_connections_per_address
    if limit is not None and from_same_address >= limit:
        return ConnectionRefused(
            1008, f"Too many connections from your IP ({from_same_address}/{limit})"
        )
    return None


def is_listed(policy: HandshakePolicy, origin: str) -> bool:
    """Whether the configuration allows this origin."""
    allowed = policy.allowed_origins
    return ANY_ORIGIN in allowed or _normal(origin) in map(_normal, allowed)


def _normal(origin: str) -> str:
    return origin.rstrip("/").lower()


def _is_of_this_port(origin: str, host: str | None, port: int) -> bool:
    """Whether ``origin`` is that of this port, under the loopback address that ``host`` names."""
    if host is None or origin.lower() != f"http://{host.lower()}":
        return False
    try:
        authority = urlsplit(f"//{host}")
        name, named_port = authority.hostname, authority.port
    except ValueError:
        return False
    if "@" in host or authority.netloc != host:
        return False
    is_this_machine = name == "localhost" or (name is not None and is_loopback_address(name))
    return is_this_machine and (80 if named_port is None else named_port) == port


def _is_known_host(host: str, policy: HandshakePolicy) -> bool:
    name = _host_name(host)
    if name is None:
        return False
    if "." not in name or name.endswith(_PRIVATE_DOMAINS) or _is_address(name):
        return True
    return any(name == _host_name(allowed) for allowed in policy.allowed_hosts)


@lru_cache(maxsize=128)
def _host_name(authority: str) -> str | None:
    try:
        name = urlsplit(f"//{authority}").hostname
    except ValueError:
        return None
    return name.rstrip(".") if name else None


@lru_cache(maxsize=128)
def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _printable(header: str) -> str:
    """A header's value without characters that could inject text or markup into an answer."""
    return "".join(c for c in header[:200] if c.isprintable() and c not in '"\\<>')
