"""Hosts that only this machine can reach."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is reached from this machine only (RFC 6761)."""
    name = host.strip("[]").lower()
    return name == "localhost" or name.endswith(".localhost") or is_loopback_address(name)


def is_loopback_address(host: str) -> bool:
    """Whether ``host`` is a loopback address; False for every name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
