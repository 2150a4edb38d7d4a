"""HTTP beside WebSocket on one port, on real sockets and both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from exai_actors.edges.http_server.connection import Exchange, HttpConnection
from exai_actors.edges.http_server.request import RequestHead
from exai_actors.edges.http_server.server import (
    Handler,
    HttpServer,
    InTurns,
    Page,
    PageRequest,
    Response,
    Watcher,
)
from exai_actors.edges.http_server.settings import HttpServerSettings
from exai_actors.edges.websocket import server as websocket_server
from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.messages.connection import ConnectionMessage, TextReceived
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import Outbox, Peer
from exai_actors.testing.probe import Probe
from tests.edges.websocket.memory_socket import MemoryTransport

GET = b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def echo(request: PageRequest) -> Response:
    return Response(200, request.body or b"nothing", fields=(("X-Method", request.head.method),))


def fail(_: PageRequest) -> Response:
    raise RuntimeError("a fault of the page")


def late(request: PageRequest) -> Response:
    return Response(200, b"late", cache="private", delay_s=float(request.head.query))


def missing(request: PageRequest) -> Response:
    return Response(404, f"no {request.head.path}\n".encode())


class LateTransport(MemoryTransport):
    """Reports its end in a later turn, as those of an event loop do."""

    is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


class Broker:
    """A server of both protocols; ``probe`` takes the place of the actors."""

    def __init__(self, pages: Mapping[str, Page | Handler] | None = None, **settings: int) -> None:
        self.pages = pages or {
            "/echo": Page(echo, ("GET", "POST")),
            "/fail": Page(fail),
            "/late": Page(late),
        }
        self.probe: Probe[ConnectionMessage] = Probe("connection")
        self.server = WebSocketServer(host="127.0.0.1", port=0, open_connection=self._open)
        self.settings = HttpServerSettings(**settings)
        self.port = 0

    def _open(self, _peer: Peer, _outbox: Outbox) -> Recipient[ConnectionMessage]:
        return self.probe

    async def start(self) -> None:
        self.port = await self.server.start()
        self.server.serve_http(self.http())

    def http(self) -> HttpServer:
        return HttpServer(
            policy=self.server.policy,
            port=self.port,
            pages=self.pages,
            missing=missing,
            wall=lambda: 1795874400.0,
            settings=self.settings,
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: bytes) -> bytes:
        """The whole answer on a connection of its own, which this closes."""
        reader, writer = await self.connect()
        writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def broker(
    pages: Mapping[str, Page | Handler] | None = None, **settings: int
) -> AsyncIterator[Broker]:
    running = Broker(pages, **settings)
    await running.start()
    try:
        yield running
    finally:
        await running.server.stop()


async def read_response(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of a response with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def test_one_port_answers_both_protocols() -> None:
    async with broker() as running:
        async with connect(f"ws://127.0.0.1:{running.port}/any") as websocket:
            await websocket.send("hello")
            assert (await running.probe.expect(TextReceived)).data == b"hello"
        answer = await running.ask(GET)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nnothing")
        assert b"Date: Sat, 28 Nov 2026 14:00:00 GMT\r\n" in answer


async def test_a_connection_answers_one_request_after_the_other() -> None:
    async with broker(body_bytes=1_048_576) as running:
        reader, writer = await running.connect()
        for size in (1, 7, len(GET)):
            for start in range(0, len(GET), size):
                writer.write(GET[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
            assert (await read_response(reader))[1] == b"nothing"
        writer.write(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        )
        head, body = await read_response(reader)
        assert (b"X-Method: POST" in head, body) == (True, b"x" * 100_000)
        writer.close()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"DELETE /echo HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /fail HTTP/1.1\r\nHost: x\r\n\r\n", b"500"),
        (b"GET /echo HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403"),
        (b"GET /echo HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n", b"403"),
        (b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", b"404"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", b"400"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", b"400"),
    ],
)
async def test_whatever_is_asked_is_answered(request_head: bytes, status: bytes) -> None:
    async with broker() as running:
        answer = await running.ask(request_head)
        assert answer.split(b" ", 2)[1] == status
        assert b"a fault of the page" not in answer
        assert await running.ask(GET)


@pytest.mark.parametrize("before", [b"", GET], ids=["alone", "behind another"])
async def test_a_fault_in_the_check_of_a_head_is_answered(before: bytes) -> None:
    def check(_head: RequestHead, _address: str) -> Response | None:
        raise RuntimeError("a fault of the check")

    def never(_request: PageRequest, _exchange: Exchange) -> Watcher:
        raise AssertionError("opened unchecked")

    async with broker({"/echo": Page(echo), "/checked": Handler(never, ("GET",), check=check)}) as (
        running
    ):
        reader, writer = await running.connect()
        writer.write(before + GET.replace(b"/echo", b"/checked") + GET)
        if before:
            await read_response(reader)
        head, body = await read_response(reader)
        assert (head.split(b" ", 2)[1], b"fault" in body) == (b"500", False)
        assert (await read_response(reader))[1] == b"nothing"
        writer.close()


@pytest.mark.parametrize("path", [b"/echo", b"/nowhere"])
async def test_a_page_refuses_a_long_body_before_it_arrives(path: bytes) -> None:
    async with broker() as running:
        head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 16385\r\n\r\n" % path
        answer = await running.ask(head)
        assert answer.split(b" ", 2)[1] == b"413"
        assert b"limited to 16384 bytes" in answer


async def test_a_newcomer_displaces_the_oldest_idle_connection() -> None:
    async with broker(max_connections=2) as running:
        connections = []
        for _ in range(3):
            reader, writer = await running.connect()
            writer.write(GET)
            await read_response(reader)
            connections.append((reader, writer))
        assert await connections[0][0].read() == b""
        for reader, writer in connections[1:]:
            writer.write(GET)
            await read_response(reader)
        for _, writer in connections:
            writer.close()


async def test_newcomers_of_one_turn_displace_a_connection_each() -> None:
    running = Broker(max_connections=2)
    http = running.http()
    transports = []
    for _ in range(6):
        connection = http.connection()
        transports.append(LateTransport(connection))
        connection.connection_made(transports[-1])
    assert [each.is_aborted for each in transports] == [True] * 4 + [False] * 2


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - the kernel sends no event
            await asyncio.sleep(0)


async def test_a_client_that_leaves_while_it_is_restrained_is_ended_at_the_next_look() -> None:
    async with broker() as running:
        _, writer = await running.connect()
        head = b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n\r\n"
        writer.write(head + b"a" * 6000)
        await until(lambda: any(each.held_bytes() for each in running.server.http_connections))
        (connection,) = running.server.http_connections
        connection.restrain()
        connection.end_if_left()
        assert connection.held_bytes()
        writer.close()

        def has_gone() -> bool:
            connection.end_if_left()
            return not list(running.server.http_connections)

        await until(has_gone)


async def test_a_client_that_leaves_behind_megabytes_is_noticed() -> None:
    """Its end is behind them, so the kernel does not show it before they are read."""
    async with broker() as running:
        loop = asyncio.get_running_loop()
        client = socket.create_connection(("127.0.0.1", running.port))
        client.setblocking(False)
        client.sendall(GET.replace(b"/echo", b"/late?60"))
        await until(lambda: any(not each.is_idle for each in running.server.http_connections))
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(GET * 1000)
        client.close()
        before = loop.time()
        await until(lambda: not list(running.server.http_connections))
        assert loop.time() - before < 20


async def test_a_server_that_stops_closes_idle_connections() -> None:
    async with broker() as running:
        reader, writer = await running.connect()
        writer.write(GET)
        await read_response(reader)
        await running.server.stop()
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("paused", [False, True])
async def test_whoever_has_sent_a_request_is_answered_before_the_server_stops(
    monkeypatch: pytest.MonkeyPatch, *, paused: bool
) -> None:
    if paused:
        # The time for reading is over when the process runs again.
        monkeypatch.setattr(websocket_server, "_LAST_READ_S", 0.0)
    async with broker() as running:
        reader, writer = await running.connect()
        writer.write(GET)
        await read_response(reader)
        # More than are accepted in one turn, and all of them are still in the system's queue.
        waiting = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(40)]
        for each in waiting:
            each.sendall(GET)
        writer.write(GET)
        running.server.stop_listening()
        stopping = asyncio.ensure_future(running.server.stop())
        for each in waiting:
            with each:
                each.setblocking(False)
                received = await asyncio.get_running_loop().sock_recv(each, 4096)
                assert received.startswith(b"HTTP/1.1 200 OK")
                assert b"Connection: close" in received
        assert b"Connection: close" in (await read_response(reader))[0]
        writer.close()
        await stopping


async def test_a_client_that_never_completes_its_request_does_not_keep_a_server_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket_server, "_LAST_ANSWERS_S", 0.01)
    async with broker() as running:
        reader, writer = await running.connect()
        writer.write(b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf")
        await until(lambda: any(not each.is_idle for each in running.server.http_connections))
        await running.server.stop()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("size", [65_536, 65_537, 131_072, 300_000])
async def test_a_request_that_fills_the_first_read_is_answered(size: int) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    body = b"x" * (size - len(head % size))
    async with broker(body_bytes=1_048_576) as running:
        reader, writer = await running.connect()
        writer.write(head % len(body) + body + GET)
        assert (await read_response(reader))[1] == body
        assert (await read_response(reader))[1] == b"nothing"
        writer.close()


class Steps:
    """Pages that are made in several turns, and what became of them."""

    def __init__(self) -> None:
        self.turns: list[str] = []

    def made(self, _request: PageRequest) -> InTurns:
        try:
            for _ in range(3):
                self.turns.append("made")
                yield
            return Response(200, b"in turns")
        finally:
            self.turns.append("closed")

    def endless(self, _: PageRequest) -> InTurns:
        try:
            while True:
                yield
        finally:
            self.turns.append("closed")

    def failing(self, _: PageRequest) -> InTurns:
        yield
        raise ValueError("in the second turn")


async def test_a_response_may_be_made_in_several_turns() -> None:
    steps = Steps()
    pages = {"/made": Page(steps.made), "/failing": Page(steps.failing)}
    async with broker(pages) as running:
        reader, writer = await running.connect()
        for path in (b"made", b"failing", b"made"):
            writer.write(b"GET /%b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path)
        assert (await read_response(reader))[1] == b"in turns"
        assert (await read_response(reader))[1].startswith(b"The broker failed to answer")
        assert (await read_response(reader))[1] == b"in turns"
        writer.close()
    assert steps.turns == ["made"] * 3 + ["closed"] + ["made"] * 3 + ["closed"]


async def test_a_response_in_turns_is_given_up_when_its_client_leaves() -> None:
    steps = Steps()
    async with broker({"/": Page(steps.endless)}) as running:
        _, writer = await running.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await until(lambda: any(not each.is_idle for each in running.server.http_connections))
        writer.transport.abort()
        await until(lambda: bool(steps.turns))
    assert steps.turns == ["closed"]


async def test_a_fault_in_the_first_request_does_not_keep_the_server_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a fault of the connection")

    monkeypatch.setattr(HttpConnection, "data_received", fails)
    # The event loop reports the fault; here only the end counts.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with broker() as running:
        reader, writer = await running.connect()
        writer.write(GET)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert not running.server.sockets
        writer.close()


async def test_a_response_that_takes_its_time_holds_up_only_its_own_connection() -> None:
    async with broker() as running:
        reader, writer = await running.connect()
        writer.write(GET.replace(b"/echo", b"/late?3600") + GET)
        late = await running.ask(GET.replace(b"/echo", b"/late?0.001"))
        assert late.endswith(b"late")
        assert b"Cache-Control: private\r\n" in late
        assert (await running.ask(GET)).endswith(b"nothing")
        unanswered = asyncio.ensure_future(reader.read(1))
        await asyncio.sleep(0)
        assert not unanswered.done()
        writer.close()
        await unanswered
        await until(lambda: not tuple(running.server.http_connections))
