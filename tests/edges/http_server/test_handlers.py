"""Handlers: requests with large bodies, and responses that take their time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from exai_actors.edges.http_server.connection import Exchange
from exai_actors.edges.http_server.request import Refusal, RequestHead
from exai_actors.edges.http_server.server import Handler, HttpServer, Page, PageRequest, Response
from exai_actors.edges.http_server.settings import HttpServerSettings
from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.testing.probe import Probe

STREAM = (("Content-Type", "text/event-stream"),)


class Call:
    """A request that has come to the handler, and the fate of its response."""

    def __init__(self, request: PageRequest, exchange: Exchange) -> None:
        self.request = request
        self.exchange = exchange
        self.is_gone = asyncio.Event()
        self.is_paused = asyncio.Event()
        self.is_resumed = asyncio.Event()

    def gone(self) -> None:
        assert not self.is_gone.is_set()
        self.is_gone.set()

    def pause(self) -> None:
        self.is_paused.set()

    def resume(self) -> None:
        self.is_resumed.set()


class Served:
    """A server with one handler below ``/v1/``, and the calls that have come to it."""

    def __init__(self, **settings: int) -> None:
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.settings = HttpServerSettings(**settings)
        self.port = 0

    def open(self, request: PageRequest, exchange: Exchange) -> Call:
        if request.body == b"fail":
            raise RuntimeError("a fault of the handler")
        if request.body == b"fail late":
            exchange.begin(200, STREAM)
            raise RuntimeError("a fault of the handler")
        call = Call(request, exchange)
        self.calls.put_nowait(call)
        return call

    def pages(self) -> Mapping[str, Page | Handler]:
        def check(head: RequestHead, _: str) -> Response | None:
            return None if head.field("Authorization") == "Bearer t" else Response(401, b"who?")

        def refuse(head: RequestHead, refusal: Refusal) -> Response:
            body = f'{{"path":"{head.path}","status":{refusal.status}}}'
            return Response(refusal.status, body.encode(), "application/json")

        handler = Handler(self.open, body_bytes=5_000_000, check=check, refuse=refuse)
        return {"/v1/": handler, "/page": Page(lambda _: Response(200, b"page"))}

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(
        self, body: bytes, *fields: bytes, path: bytes = b"/v1/any", token: bytes = b"t"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.connect()
        head = [b"POST %b HTTP/1.1" % path, b"Host: x", b"Authorization: Bearer %b" % token]
        if not any(field.startswith((b"Content-Length", b"Transfer")) for field in fields):
            head.append(b"Content-Length: %d" % len(body))
        writer.write(b"\r\n".join([*head, *fields, b"", body]))
        return reader, writer


@asynccontextmanager
async def served(**settings: int) -> AsyncIterator[Served]:
    running = Served(**settings)
    server = WebSocketServer(
        host="127.0.0.1", port=0, open_connection=lambda _peer, _outbox: Probe("connection")
    )
    running.port = await server.start()
    server.serve_http(
        HttpServer(
            policy=server.policy,
            port=running.port,
            pages=running.pages(),
            missing=lambda _: Response(404, b"nothing"),
            wall=lambda: 0.0,
            settings=running.settings,
        )
    )
    try:
        yield running
    finally:
        await server.stop()


async def status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1])


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Whatever follows until the end of the connection, however it ends."""
    read = b""
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(65_536):
            read += data
    return read


@pytest.mark.parametrize("path", [b"/v1/any", b"/v1/a/b", b"/v1/a%2fb", b"/v1/?beta=true"])
async def test_a_handler_gets_the_whole_request_of_each_path_below_its_own(path: bytes) -> None:
    async with served() as running:
        body = bytes(range(256)) * 8_000
        _, writer = await running.ask(body, b"X-Field: a", path=path)
        call = await running.calls.get()
        assert call.request.body == body
        assert call.request.head.target == path.decode()
        assert call.request.head.method == "POST"
        assert call.request.head.field("x-field") == "a"
        assert call.request.address == "127.0.0.1"
        writer.close()


async def test_a_chunked_body_arrives_whole_after_the_server_has_asked_for_it() -> None:
    async with served() as running:
        fields = b"Transfer-Encoding: chunked", b"Expect: 100-continue"
        reader, writer = await running.ask(b"", *fields)
        assert await status(reader) == 100
        writer.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        call = await running.calls.get()
        assert call.request.body == b"abcde"
        call.exchange.respond(200, (), b"thanks")
        assert await status(reader) == 200
        writer.close()


async def test_a_response_is_sent_over_time_and_the_connection_serves_on() -> None:
    async with served() as running:
        reader, writer = await running.ask(b"1")
        exchange = (await running.calls.get()).exchange
        exchange.begin(200, STREAM)
        assert await status(reader) == 200
        exchange.write(b"one")
        assert await reader.readexactly(8) == b"3\r\none\r\n"
        exchange.write(b"two!")
        exchange.end()
        assert await reader.readexactly(14) == b"4\r\ntwo!\r\n0\r\n\r\n"
        writer.write(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await status(reader) == 200
        writer.close()


async def test_an_aborted_response_has_no_end() -> None:
    async with served() as running:
        reader, writer = await running.ask(b"1")
        exchange = (await running.calls.get()).exchange
        exchange.begin(200, STREAM)
        exchange.write(b"half")
        await status(reader)
        await reader.readexactly(9)
        exchange.abort()
        assert await rest(reader) == b""
        writer.close()


@pytest.mark.parametrize("phase", ["before the head", "after the head", "after a piece"])
async def test_a_client_that_leaves_is_reported(phase: str) -> None:
    async with served() as running:
        _, writer = await running.ask(b"1")
        call = await running.calls.get()
        if phase != "before the head":
            call.exchange.begin(200, STREAM)
        if phase == "after a piece":
            call.exchange.write(b"piece")
        writer.close()
        await asyncio.wait_for(call.is_gone.wait(), 5)
        call.exchange.write(b"nothing happens")
        call.exchange.end()


async def test_a_client_that_reads_nothing_pauses_its_response_only() -> None:
    async with served() as running:
        reader, writer = await running.ask(b"1")
        call = await running.calls.get()
        call.exchange.begin(200, STREAM)
        while not call.is_paused.is_set():
            call.exchange.write(b"x" * 65_536)
            await asyncio.sleep(0)
        other_reader, other = await running.ask(b"2")
        (await running.calls.get()).exchange.respond(200, (), b"")
        assert await status(other_reader) == 200
        while not call.is_resumed.is_set():
            await reader.read(1_000_000)
        writer.close()
        other.close()


async def test_a_request_may_be_refused_before_its_body_is_read() -> None:
    async with served() as running:
        fields = b"Content-Length: 4000000", b"Expect: 100-continue"
        reader, writer = await running.ask(b"", *fields, token=b"wrong")
        assert await status(reader) == 401
        assert running.calls.empty()
        writer.close()


@pytest.mark.parametrize("fields", [(), (b"Transfer-Encoding: chunked",)])
async def test_a_body_above_the_limit_of_its_path_is_refused_in_the_form_of_that_path(
    fields: tuple[bytes, ...],
) -> None:
    async with served() as running:
        body = b"x" * 5_000_001
        reader, writer = await running.ask(
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if fields else body, *fields
        )
        assert await status(reader) == 413
        assert await reader.readexactly(29) == b'{"path":"/v1/any","status":413}'[:29]
        writer.close()


async def test_all_bodies_together_are_limited() -> None:
    async with served(bodies_bytes=100) as running:
        _, first = await running.ask(b"x" * 60)
        call = await running.calls.get()
        reader, second = await running.ask(b"x" * 60)
        assert await status(reader) == 503
        second.close()
        call.exchange.respond(200, (), b"")
        _, third = await running.ask(b"x" * 60)
        third_call = await running.calls.get()
        third.close()
        await third_call.is_gone.wait()
        _, fourth = await running.ask(b"x" * 100)
        await running.calls.get()
        first.close()
        fourth.close()


@pytest.mark.parametrize(("body", "answer"), [(b"fail", 500), (b"fail late", 200)])
async def test_a_handler_that_fails_ends_its_exchange(body: bytes, answer: int) -> None:
    async with served() as running:
        reader, writer = await running.ask(body, b"Connection: close")
        assert await status(reader) == answer
        assert b"a fault" not in await rest(reader)
        writer.close()


async def test_a_handler_answers_its_methods_only() -> None:
    async with served() as running:
        reader, writer = await running.connect()
        writer.write(b"GET /v1/any HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 405 " in head
        assert b"Allow: POST\r\n" in head
        writer.close()


async def test_a_newcomer_displaces_no_response_of_a_handler() -> None:
    async with served(max_connections=2) as running:
        readers = [await running.ask(b"x"), await running.ask(b"y")]
        calls = [await running.calls.get(), await running.calls.get()]
        reader, third = await running.connect()
        third.write(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 503 " in head
        assert b"Retry-After: 1" in head
        third.close()
        for (answer, _), call in zip(readers, calls, strict=True):
            assert not call.is_gone.is_set()
            call.exchange.respond(200, (), b"")
            assert await status(answer) == 200
        reader, third = await running.connect()
        third.write(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await status(reader) == 200
        third.close()
        for _, writer in readers:
            writer.close()
