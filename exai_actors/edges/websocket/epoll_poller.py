"""One epoll for all sockets of a server, itself one file of the event loop."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol

from exai_actors.edges.websocket.batches import UNBATCHED, Batches

IN = select.EPOLLIN
OUT = select.EPOLLOUT

# What one callback of the loop may take. epoll takes turns among the ready, so those beyond it are
# the first of the next callback. Few, so that the actors are through with them within one turn:
# with more, unfinished requests pile up until all connections' state goes in and out of the
# processor's cache, which doubles the cost of a call at 1,000 busy connections.
_MAX_EVENTS = 32


class Reader(Protocol):
    """A socket that is read whenever it can be.

    ``recv_into`` and ``buffer_updated`` are what they are on a socket and on a protocol.
    """

    recv_into: Callable[[memoryview], int]
    buffer_updated: Callable[[int], None]

    def end_of_stream(self) -> None:
        """The other end has sent its last byte."""

    def read_failed(self, exc: BaseException, size: int) -> None:
        """``exc`` came from reading (``size`` -1) or from the handling of ``size`` bytes."""


class Watcher(Protocol):
    """Who is told of every event beside plain readability of a Reader."""

    def ready(self, event: int) -> None:
        """``event`` is epoll's; it may be one that has been waived since the batch began."""


class EpollPoller:
    """Waits for all sockets of one server and calls who owns them.

    The loop wakes once for a whole batch of ready sockets, and a batch costs one callback: the
    loop's own machinery for each single event costs as much as parsing and answering it.

    No socket may be closed while a batch is handled, or an event that is still to come could
    meet another socket under the same number; transports close in a callback of their own.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        read_buffer: memoryview,
        batches: Batches = UNBATCHED,
    ) -> None:
        self._batches = batches
        self._loop = loop
        self._read_buffer = read_buffer
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._masks: dict[int, int] = {}
        self._readers: dict[int, Reader] = {}
        self._watchers: dict[int, Watcher] = {}
        self._users: set[object] = set()
        loop.add_reader(self._epoll.fileno(), self._run)

    def enter(self, user: object) -> None:
        """``user`` needs this poller until it leaves."""
        self._users.add(user)

    def leave(self, user: object) -> None:
        """The last that leaves closes the poller."""
        self._users.discard(user)
        if not self._users and not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def watch(self, fd: int, mask: int, watcher: Watcher, reader: Reader | None = None) -> None:
        """From now on these events of ``fd``, none for 0; ``reader`` takes the readability."""
        known = self._masks.get(fd, 0)
        if mask == known:
            return
        if not mask:
            # Otherwise epoll would go on to tell of a broken connection, again and again.
            self._epoll.unregister(fd)
            del self._masks[fd], self._watchers[fd]
        elif not known:
            self._epoll.register(fd, mask)
            self._watchers[fd] = watcher
            self._masks[fd] = mask
        else:
            self._epoll.modify(fd, mask)
            self._masks[fd] = mask
        if mask & IN and reader is not None:
            self._readers[fd] = reader
        else:
            self._readers.pop(fd, None)

    def _run(self) -> None:
        held = self._batches.hold()
        try:
            self._take_batch()
        finally:
            if held:
                self._batches.release()

    def _take_batch(self) -> None:
        readers = self._readers
        watchers = self._watchers
        buffer = self._read_buffer
        for fd, event in self._poll(0, _MAX_EVENTS):
            reader = readers.get(fd)
            if reader is not None and event != OUT:
                size = -1
                try:
                    # They are no methods: looked up as such they would cost as much as a call.
                    read, handle = reader.recv_into, reader.buffer_updated
                    size = read(buffer)
                    if size:
                        handle(size)
                    else:
                        reader.end_of_stream()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:  # noqa: BLE001 - ends its own connection only
                    reader.read_failed(exc, size)
            if event != IN or reader is None:
                watcher = watchers.get(fd)
                if watcher is not None:
                    watcher.ready(event)
