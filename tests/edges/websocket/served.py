"""A protocol that records every call, on either transport, with the client's end in the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from exai_actors.edges.websocket.epoll_listener import listen_with_epoll

READ_BUFFER = memoryview(bytearray(256 * 1024))
KINDS = ("epoll", "asyncio")


class Recorder(asyncio.BufferedProtocol):
    """``calls`` is what the transport did; ``on_data`` and the rest are what the test adds."""

    def __init__(self) -> None:
        self.calls: list[str | bytes] = []
        self.transport: asyncio.Transport
        self.on_made: Callable[[Recorder], None] = _nothing
        self.on_data: Callable[[Recorder], None] = _nothing
        self.on_eof: Callable[[Recorder], bool | None] = _nothing
        self.on_pause: Callable[[Recorder], None] = _nothing
        self.exc: Exception | None = None
        self.is_inside = False
        self._changed = asyncio.Event()

    @property
    def data(self) -> bytes:
        return b"".join(call for call in self.calls if isinstance(call, bytes))

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def lost(self) -> None:
        await self.until(lambda: "lost" in self.calls)

    def _record(self, call: str | bytes) -> None:
        assert not self.is_inside, f"{call!r} from inside another call"
        self._changed.set()
        if isinstance(call, bytes) and self.calls and isinstance(self.calls[-1], bytes):
            self.calls[-1] += call
        else:
            self.calls.append(call)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._record("made")
        self.on_made(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self._record(bytes(READ_BUFFER[:nbytes]))
        self.on_data(self)

    def eof_received(self) -> bool | None:
        self._record("eof")
        return self.on_eof(self)

    def pause_writing(self) -> None:
        self._record("pause")
        self.on_pause(self)

    def resume_writing(self) -> None:
        self._record("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.exc = exc
        self._record("lost")


def _nothing(_recorder: Recorder) -> None:
    return None


class Listening(Protocol):
    @property
    def sockets(self) -> tuple[socket.socket, ...]: ...

    def close(self) -> None: ...


async def listen(kind: str, factory: Callable[[], Recorder]) -> Listening:
    if kind == "epoll":
        return await listen_with_epoll(
            factory, "127.0.0.1", 0, backlog=100, read_buffer=READ_BUFFER
        )
    return await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)


class Served:
    """A listener, the protocols of its connections in order, and the clients."""

    def __init__(self) -> None:
        self.listener: Listening
        self.recorders: list[Recorder] = []
        self.clients: list[socket.socket] = []
        self.prepare: Callable[[Recorder], None] = _nothing
        self._made = asyncio.Event()

    def make(self) -> Recorder:
        recorder = Recorder()
        self.prepare(recorder)
        self.recorders.append(recorder)
        self._made.set()
        return recorder

    def connect(self) -> socket.socket:
        """A client that does not block, on its way in."""
        client = socket.create_connection(self.listener.sockets[0].getsockname())
        client.setblocking(False)
        self.clients.append(client)
        return client

    async def has_made(self, count: int) -> None:
        """Wait until there are protocols for so many connections."""
        while len(self.recorders) < count:
            self._made.clear()
            await self._made.wait()

    async def settled(self) -> None:
        """What had arrived before has been read, if it is read at all.

        Two newcomers are heard one after the other: the loop has looked at all sockets meanwhile.
        """
        prepare, self.prepare = self.prepare, _nothing
        for _ in range(2):
            client, recorder = await self.connected()
            client.send(b"heard?")
            await recorder.until(lambda recorder=recorder: recorder.data == b"heard?")  # type: ignore[misc]
        self.prepare = prepare

    async def connected(self) -> tuple[socket.socket, Recorder]:
        """The next client and its protocol, introduced to its transport."""
        client = self.connect()
        await self.has_made(len(self.clients))
        recorder = self.recorders[len(self.clients) - 1]
        await recorder.until(lambda: "made" in recorder.calls)
        return client, recorder


@asynccontextmanager
async def served(kind: str) -> AsyncIterator[Served]:
    it = Served()
    it.listener = await listen(kind, it.make)
    try:
        yield it
    finally:
        it.listener.close()
        for client in it.clients:
            client.close()
        for recorder in it.recorders:
            if "lost" not in recorder.calls and "made" in recorder.calls:
                recorder.transport.abort()
                await recorder.lost()
        # asyncio closes its sockets behind the last call to the protocol.
        await asyncio.sleep(0)


async def read_all(client: socket.socket) -> bytes:
    """What comes until the end of the stream."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while piece := await loop.sock_recv(client, 1 << 20):
        received += piece
    return bytes(received)


async def read_exactly(client: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < size:
        piece = await loop.sock_recv(client, size - len(received))
        assert piece, "the stream ended early"
        received += piece
    return bytes(received)
