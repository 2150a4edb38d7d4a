"""Who may open a connection: a pure decision from what the handshake says and what is open.

Browsers let any page open a WebSocket to any address and only tell the server which page it was,
in ``Origin``. No page is served from the broker's own port, so every origin is foreign unless the
configuration lists it. Comparing ``Origin`` with ``Host`` would not do: a page whose name has been
rebound to 127.0.0.1 sends the same name in both.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

ANY_ORIGIN = "*"
# Names nobody can register in the public DNS, so no stranger's page can be reached by one.
_PRIVATE_DOMAINS = (".localhost", ".internal", ".test", ".home.arpa")


class AdmissionPolicy(msgspec.Struct, frozen=True):
    """What a server admits. ``allowed_origins`` are exact, ``*`` stands for every one of them.

    ``guards_host``: also refuse a ``Host`` that a rebound public name could have produced, unless
    it is among ``allowed_hosts``; for servers that listen on loopback addresses only.
    """

    max_connections: int
    max_connections_per_address: int | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    guards_host: bool = False


class HandshakeRefused(msgspec.Struct, frozen=True):
    """Answered with this HTTP status and text; no WebSocket connection comes about."""

    status: int
    text: str


class ConnectionRefused(msgspec.Struct, frozen=True):
    """Accepted only to be closed with this code and reason, as clients of the protocol expect."""

    code: int
    reason: str


def judge_handshake(
    policy: AdmissionPolicy, *, origin: str | None, host: str | None
) -> HandshakeRefused | None:
    """None if the handshake may go on. ``origin`` and ``host`` are header values, None if absent.

    A client without ``Origin`` is not a browser and passes.
    """
    if origin is not None and not _is_allowed(origin, policy.allowed_origins):
        return HandshakeRefused(
            403,
            f"The page's origin {_shown(origin)} is not allowed to talk to this broker.\n"
            "If you trust it, add it to the configuration and restart the broker:\n"
            f'  [server]\n  allowed_origins = ["{_shown(origin)}"]\n',
        )
    if policy.guards_host and host is not None and not _is_known_host(host, policy):
        return HandshakeRefused(
            403,
            f"This broker listens on loopback and is not known as {_shown(host)}.\n"
            "Connect to it as localhost or 127.0.0.1. Behind a proxy, let the proxy send such a\n"
            "Host, or list the public name in the configuration and restart the broker:\n"
            f'  [server]\n  allowed_hosts = ["{_shown(_host_name(host) or "")}"]\n',
        )
    return None


def judge_count(
    policy: AdmissionPolicy, *, open_connections: int, from_same_address: int
) -> ConnectionRefused | None:
    """None if one more connection fits beside those that are open now."""
    if open_connections >= policy.max_connections:
        return ConnectionRefused(1008, "Server overloaded - global connection limit reached")
    limit = policy.max_connections_per_address
    if limit is not None and from_same_address >= limit:
        return ConnectionRefused(
            1008, f"Too many connections from your IP ({from_same_address}/{limit})"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether a server listening on ``host`` can be reached from this machine only."""
    name = host.strip("[]").lower()
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _is_allowed(origin: str, allowed: tuple[str, ...]) -> bool:
    return ANY_ORIGIN in allowed or _normal(origin) in map(_normal, allowed)


def _normal(origin: str) -> str:
    return origin.rstrip("/").lower()


def _is_known_host(host: str, policy: AdmissionPolicy) -> bool:
    name = _host_name(host)
    if name is None:
        return False
    if "." not in name or name.endswith(_PRIVATE_DOMAINS) or _is_address(name):
        return True
    return any(name == _host_name(allowed) for allowed in policy.allowed_hosts)


def _host_name(authority: str) -> str | None:
    try:
        name = urlsplit(f"//{authority}").hostname
    except ValueError:
        return None
    return name.rstrip(".") if name else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _shown(header: str) -> str:
    """A header's value, safe to print back: a refusal must not become a way to inject text."""
    return "".join(c for c in header[:200] if c.isprintable() and c not in '"\\<>')
