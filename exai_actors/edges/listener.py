"""Listening sockets, and asyncio transports for the connections they accept.

``loop.create_server`` would do this, but it accepts as many clients as wait before any other socket
has its turn, and when the process runs out of files asyncio reports that a thousand times a second
while uvloop resets the clients; neither leaves a file for the calls to providers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from exai_actors.edges.fd_limit import room_for_clients

_log = structlog.get_logger()

# Accepted in one callback of the loop. The rest wait for the next one, so that open connections
# are not held up for more than a few milliseconds: each takes half of one until it is admitted.
_MAX_ACCEPTS = 8
# So many callbacks accept one client each after a look for a second one in vain: most clients come
# alone, and such a look takes a third as long as accepting one.
_SINGLE_ACCEPTS = 15
# Accepted at most until the room is looked for again, which takes four system calls. Fewer than the
# files that are kept for calls to providers.
_MAX_ALLOWED = 64
_BACKLOG = 1024
_SHORTAGE_PAUSE_S = 1.0

_Connecting = Coroutine[asyncio.Future[Any], None, object]
"""Yields the futures that it waits for."""


class Listener:
    """Accepts connections until it is closed; open connections outlive it.

    While files are short, ``make_room`` is called, which may close a socket before long and then
    returns True. If it cannot, accepting pauses and clients wait in the system's queue.
    """

    def __init__(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        listening: Sequence[socket.socket],
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol_factory = protocol_factory
        self._listening = listening
        self._port = int(listening[0].getsockname()[1])
        self._make_room = make_room
        self._is_short_of_files = False
        self._allowed = 0
        self._single_accepts = 0
        self._connecting: dict[asyncio.Future[Any], tuple[_Connecting, socket.socket]] = {}
        """The accepted sockets, by the futures that they wait for."""
        self._start_accepting()

    @property
    def port(self) -> int:
        """The port on all addresses."""
        return self._port

    def close(self) -> None:
        """Stop listening. Clients that have connected are accepted, if there are files for them."""
        self._stop_accepting()
        for each in self._listening:
            self._accept_waiting(each)
            each.close()
        self._listening = ()

    async def wait_closed(self) -> None:
        """Wait until every accepted connection has been given to its protocol."""
        while self._connecting:
            await asyncio.wait(self._connecting)

    def _start_accepting(self) -> None:
        for each in self._listening:
            self._loop.add_reader(each, self._accept_from, each)

    def _stop_accepting(self) -> None:
        for each in self._listening:
            self._loop.remove_reader(each)

    def _accept_from(self, listening: socket.socket) -> None:
        if not self._allowed:
            room = room_for_clients()
            if not room:
                if not self._make_room():
                    self._pause("the remaining files are reserved for calls to providers")
                return
            # The broker opens files, too, and the less room is left, the sooner it is used up.
            self._allowed = int(min(room, max(_MAX_ACCEPTS, min(room / 16, _MAX_ALLOWED))))
        at_most = _MAX_ACCEPTS
        if self._single_accepts:
            self._single_accepts -= 1
            at_most = 1
        for number in range(min(self._allowed, at_most)):
            try:
                accepted, _ = listening.accept()
            except BlockingIOError:
                if number == 1:
                    self._single_accepts = _SINGLE_ACCEPTS
                return
            except ConnectionAbortedError:  # this client has left the queue
                continue
            except OSError as error:
                self._allowed = 0
                self._pause(error.strerror or str(error))
                return
            self._is_short_of_files = False
            self._allowed -= 1
            self._begin(accepted)

    def _accept_waiting(self, listening: socket.socket) -> None:
        for _ in range(int(min(room_for_clients(), _BACKLOG))):
            try:
                accepted, _ = listening.accept()
            except ConnectionAbortedError:
                continue
            except OSError:  # none waits, or there is no file for it
                return
            self._begin(accepted)

    def _begin(self, accepted: socket.socket) -> None:
        steps = self._loop.connect_accepted_socket(self._protocol_factory, accepted)
        self._run(steps, accepted)

    def _run(self, steps: _Connecting, accepted: socket.socket) -> None:
        """Run the coroutine until it waits or ends.

        A task would begin it only in another turn of the loop, and takes 10 µs more.
        """
        try:
            waits_for = steps.send(None)
        except StopIteration:
            return
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - others wait
            accepted.close()
            self._loop.call_exception_handler(
                {"message": "an accepted connection was not served", "exception": error}
            )
            return
        self._connecting[waits_for] = steps, accepted
        waits_for.add_done_callback(self._continue)

    def _continue(self, waited: asyncio.Future[Any]) -> None:
        self._run(*self._connecting.pop(waited))

    def _pause(self, cause: str) -> None:
        """Stop accepting for a while; a queue that is not emptied would keep the loop awake."""
        if not self._is_short_of_files:
            self._is_short_of_files = True
            _log.warning(
                "server.accepting_paused",
                cause=cause,
                remedy="raise the limit of open files (ulimit -n) or lower [server] "
                "max_connections",
            )
        self._stop_accepting()
        self._loop.call_later(_SHORTAGE_PAUSE_S, self._start_accepting)


async def listen(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str,
    port: int,
    make_room: Callable[[], bool] = lambda: False,
) -> Listener:
    """Listen on every address of ``host`` (empty: all of this machine), on one port for all.

    Port 0 stands for any free one. Raises OSError, also for a host name that is not known.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with contextlib.ExitStack() as undo:
        listening: list[socket.socket] = []
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            if listening:
                port = listening[0].getsockname()[1]
            try:
                each = socket.create_server(
                    (address[0], port, *address[2:]), family=family, backlog=_BACKLOG
                )
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:
                    continue
                raise
            undo.callback(each.close)
            each.setblocking(False)
            listening.append(each)
        if not listening:
            raise OSError(errno.EADDRNOTAVAIL, "no address family of it is supported")
        undo.pop_all()
    return Listener(protocol_factory, listening, make_room)
