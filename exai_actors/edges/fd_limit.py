"""How many sockets the operating system lets this process have."""

from __future__ import annotations

import math
import resource

# Listening sockets, upstream connections, logs, and sockets still in their handshake.
_BESIDE_CONNECTIONS = 256
# Of them for what the broker opens itself, above all its connections to services.
_OWN = 128


def raise_fd_limit(connections: int) -> str | None:
    """Raise this process's limit as far as needed for so many connections and as it may.

    None when it is enough; otherwise a warning that names the figures and the remedy.
    """
    needed = connections + _BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    possible = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
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


def client_fd_ceiling() -> float:
    """How many files may be open when one more client is taken: some are kept for calls."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft - min(_OWN, soft // 4)
