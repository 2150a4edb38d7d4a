"""For how long a connection is kept, and how its end is noticed."""

from __future__ import annotations

import re
import socket
from math import inf

# Shorter than services keep an idle connection, so that usually we are the side that closes it.
# Proxies with TLS keep one for 60 s and more, uvicorn and Node for 5 s.
KEEP_ALIVE_TLS_S = 15.0
KEEP_ALIVE_PLAIN_S = 4.0
# Of the time that a service names: our request has to arrive before its end.
KEEP_ALIVE_MARGIN_S = 1.0
_KEEP_ALIVE = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,6})", re.IGNORECASE)
_MAX_REQUESTS = re.compile(r"(?:^|[,;\s])max\s*=\s*\"?(\d{1,9})", re.IGNORECASE)

# Find out within two minutes that the other end has vanished, and keep the entries of routers alive
# while a model thinks.
_TCP_KEEPALIVE = (
    ("TCP_KEEPIDLE", 60),
    ("TCP_KEEPALIVE", 60),  # TCP_KEEPIDLE's name on macOS
    ("TCP_KEEPINTVL", 15),
    ("TCP_KEEPCNT", 4),
)


def kept_s(header: str) -> float:
    """How long a connection may be idle by the field Keep-Alive; inf if it does not say."""
    named = _KEEP_ALIVE.search(header)
    if named is None:
        return inf
    named_s = float(named[1])
    return max(named_s - KEEP_ALIVE_MARGIN_S, named_s / 2)


def most_requests(header: str) -> float:
    """How many requests a connection may have by the field Keep-Alive; inf if it does not say.

    Some services name how many more. The smaller number is the safe one.
    """
    most = _MAX_REQUESTS.search(header)
    return int(most[1]) if most else inf


def probe_by_tcp(connected: socket.socket | None) -> None:
    """Let TCP find out that the other end of a connection has vanished."""
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_KEEPALIVE:
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
