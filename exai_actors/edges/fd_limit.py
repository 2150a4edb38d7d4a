"""How many files the operating system lets this process open."""

from __future__ import annotations

import math
import os
import resource

# Listening sockets, connections to services, log files, and sockets still in their handshake.
_BESIDE_CONNECTIONS = 256
# Kept from clients for files that the broker opens itself, above all connections to services.
_RESERVED = 128


def raise_fd_limit(connections: int, strangers: int = 0) -> str | None:
    """Raise this process's limit as connections and strangers need it and the system allows.

    Returns None when it suffices for the connections, as strangers give way when files are short;
    otherwise a warning with the figures and the remedy.
    """
    needed = connections + _BESIDE_CONNECTIONS
    wanted = needed + strangers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, max(soft, hard))
    if possible > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible >= needed:
        return None
    return (
        f"This process may open {possible} files, too few for {connections} connections: beyond "
        f"about {max(0, possible - _BESIDE_CONNECTIONS)} new clients will wait for a free place. "
        f"Raise the limit before starting (ulimit -n {needed}, or LimitNOFILE={needed} in a "
        "systemd unit), or lower [server] max_connections."
    )


def room_for_clients() -> float:
    """How many more clients may be accepted: the last files are kept for calls to providers."""
    try:
        # The system hands out the lowest free number, so a new file's number counts the open ones.
        next_fd = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return 0
    os.close(next_fd)
    return max(0, _client_fd_ceiling() - next_fd)


def _client_fd_ceiling() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft - min(_RESERVED, soft // 4)
