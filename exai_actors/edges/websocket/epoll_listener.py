"""Listening sockets on an EpollPoller: binds them, and makes a transport of each that connects."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from exai_actors.edges.fd_limit import client_fd_ceiling
from exai_actors.edges.websocket.batches import UNBATCHED, Batches
from exai_actors.edges.websocket.epoll_poller import IN, EpollPoller
from exai_actors.edges.websocket.epoll_transport import EpollTransport

_log = logging.getLogger(__name__)

# In one callback of the loop; who waits beyond that is taken in the next.
_MAX_ACCEPTED = 64
_SHORTAGE_PAUSE_S = 1.0

# Family, kind and protocol of a socket, and what to bind it to.
Address = tuple[int, int, int, Any]
ProtocolFactory = Callable[[], asyncio.BufferedProtocol]


async def listen_with_epoll(
    protocol_factory: ProtocolFactory,
    host: str,
    port: int,
    *,
    backlog: int,
    read_buffer: memoryview,
    batches: Batches = UNBATCHED,
) -> EpollListener:
    """Listen on every address of ``host`` (empty: on all of this machine), as asyncio would.

    ``read_buffer`` is where all protocols find what was read; their ``get_buffer`` is not called.
    Raises OSError, also for a name that is not known.
    """
    loop = asyncio.get_running_loop()
    addresses = await _resolved(loop, host or None, port)
    return EpollListener(loop, protocol_factory, _bound(addresses, backlog), read_buffer, batches)


class EpollListener:
    """Accepts until it is closed; connections that are open then go on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol_factory: ProtocolFactory,
        listening: Iterable[socket.socket],
        read_buffer: memoryview,
        batches: Batches = UNBATCHED,
    ) -> None:
        self._loop = loop
        self._protocol_factory = protocol_factory
        self._listening = {each.fileno(): each for each in listening}
        self._poller = EpollPoller(loop, read_buffer, batches)
        self._poller.enter(self)
        self._pause: asyncio.TimerHandle | None = None
        self._is_short = False
        self._watch()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; none when closed."""
        return tuple(self._listening.values())

    def close(self) -> None:
        """Accept no more. Who has connected but was not accepted yet is reset."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        for fd, listening in self._listening.items():
            self._poller.watch(fd, 0, self)
            listening.close()
        self._listening.clear()
        self._poller.leave(self)

    # Called by the poller.

    def ready(self, _event: int) -> None:
        # Each is asked, whichever was meant: one that is not ready costs a call.
        for listening in self.sockets:
            if self._pause is None:
                self._accept_from(listening)

    def _accept_from(self, listening: socket.socket) -> None:
        for _ in range(_MAX_ACCEPTED):
            if not self._listening:
                return
            try:
                accepted, peername = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._pause_after(exc.strerror or str(exc))
                return
            # The system gives out the lowest free number: a high one says that as many are open.
            is_last = accepted.fileno() >= client_fd_ceiling()
            self._welcome(accepted, peername)
            if is_last:
                self._pause_after("the files that are left are for calls to providers")
                return
            self._is_short = False

    def _welcome(self, accepted: socket.socket, peername: object) -> None:
        try:
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            protocol = self._protocol_factory()
        except BaseException:
            accepted.close()
            raise
        EpollTransport(self._loop, self._poller, accepted, protocol, peername).start()

    def _pause_after(self, why: str) -> None:
        """Out of files or memory: what waits would be reported ready over and over."""
        if not self._is_short:
            self._is_short = True
            _log.warning(
                "Cannot accept connections for now: %s. New clients wait; raise the limit of open "
                "files (ulimit -n) or lower [server] max_connections.",
                why,
            )
        for fd in self._listening:
            self._poller.watch(fd, 0, self)
        self._pause = self._loop.call_later(_SHORTAGE_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._has_room():
            self._pause = None
            self._watch()
        else:
            self._pause = self._loop.call_later(_SHORTAGE_PAUSE_S, self._resume)

    def _has_room(self) -> bool:
        # There is no other way to learn which number the next file would get.
        try:
            number = os.dup(next(iter(self._listening)))
        except OSError:
            return False
        os.close(number)
        return number < client_fd_ceiling()

    def _watch(self) -> None:
        for fd in self._listening:
            self._poller.watch(fd, IN, self)


async def _resolved(loop: asyncio.AbstractEventLoop, host: str | None, port: int) -> list[Address]:
    try:
        # An address needs no looking up, and so no thread to wait for it.
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, kind, proto, at) for family, kind, proto, _, at in found))


def _bound(addresses: Iterable[Address], backlog: int) -> list[socket.socket]:
    listening: list[socket.socket] = []
    try:
        for family, kind, proto, address in addresses:
            try:
                each = socket.socket(family, kind, proto)
            except OSError:
                continue  # a family that this machine does not speak
            listening.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(address)
            each.setblocking(False)
        for each in listening:
            each.listen(backlog)
    except OSError:
        for each in listening:
            each.close()
        raise
    return listening
