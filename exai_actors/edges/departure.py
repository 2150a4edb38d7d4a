"""Whether the other end of a socket has left, where the socket is not read."""

from __future__ import annotations

import asyncio
import select

# Without it, as outside Linux, only a reset is noticed.
_HALF_CLOSED = getattr(select, "POLLRDHUP", 0)


def has_left(transport: asyncio.Transport) -> bool:
    """Whether the client has reset the connection, or ended it and waits for no answer.

    A loop notices neither while it reads nothing.
    """
    socket = transport.get_extra_info("socket")
    if socket is None or transport.is_closing():
        return False
    poll = select.poll()
    poll.register(socket.fileno(), _HALF_CLOSED)
    for _, found in poll.poll(0):
        return bool(found & ~_HALF_CLOSED) or not transport.get_write_buffer_size()
    return False
