"""A pooled connection that the service closes, before or while the next request is on its way."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from exai_actors.core.calls import UpstreamFailure
from exai_actors.edges.http.client import HttpClient, Target
from exai_actors.edges.http.direct_client import DirectClient
from exai_actors.edges.http.keeping import KEEP_ALIVE_PLAIN_S, KEEP_ALIVE_TLS_S, probe_by_tcp
from tests.edges.http.exchanging import Recorder, ask, service_named, start

OK = b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok"


class Service:
    """Answers the first request of each connection, and does ``then`` with the second."""

    def __init__(self, headers: bytes, then: Callable[[asyncio.StreamWriter], None]) -> None:
        self.connections = 0
        self.requests: list[int] = []
        self.url = URL()
        self._headers = headers
        self._then = then
        self.ends: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.ends.append(writer)
        first = True
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n{}")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            self.requests.append(number)
            if first:
                writer.write(OK % self._headers)
                first = False
            else:
                self._then(writer)

    def start(self, client: HttpClient, *, fresh: bool = False) -> Recorder:
        return start(client, Target("POST", self.url / "chat", {}), fresh=fresh)

    async def ask(self, client: HttpClient, *, fresh: bool = False) -> bytes:
        return await ask(client, self.url / "chat", fresh=fresh)

    async def failure(self, client: HttpClient) -> UpstreamFailure:
        return await self.start(client).failure()


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def move_clocks(monkeypatch: pytest.MonkeyPatch, by_s: float) -> None:
    loop = asyncio.get_running_loop()
    of_loop = loop.time
    monkeypatch.setattr(loop, "time", lambda: of_loop() + by_s)


@asynccontextmanager
async def service(
    then: Callable[[asyncio.StreamWriter], None] = close, headers: bytes = b""
) -> AsyncIterator[tuple[Service, HttpClient]]:
    found = Service(headers, then)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    client = DirectClient(service_named(), found.url)
    try:
        yield found, client
    finally:
        await client.aclose()
        for end in found.ends:
            end.transport.abort()
        server.close()
        for _ in range(20):
            await asyncio.sleep(0)


def after(
    sends: bytes, then: Callable[[asyncio.StreamWriter], None]
) -> Callable[[asyncio.StreamWriter], None]:
    def act(writer: asyncio.StreamWriter) -> None:
        writer.transport.write(sends)
        asyncio.get_running_loop().call_later(0.05, then, writer)

    return act


@pytest.mark.parametrize("then", [close, reset])
async def test_an_end_before_any_byte_on_a_used_connection_is_stale(
    then: Callable[[asyncio.StreamWriter], None],
) -> None:
    async with service(then) as (found, client):
        assert await found.ask(client) == b"ok"
        assert (await found.failure(client)).resend
        assert found.requests == [1, 1]
        assert await found.ask(client, fresh=True) == b"ok"


TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\n%bContent-Length: 4\r\n\r\nlate"


async def test_a_408_that_closes_a_used_connection_is_stale() -> None:
    async with service(after(TIMED_OUT % b"Connection: close\r\n", close)) as (found, client):
        assert await found.ask(client) == b"ok"
        assert (await found.failure(client)).resend
        assert await found.ask(client, fresh=True) == b"ok"


async def test_a_408_that_keeps_its_connection_is_an_answer() -> None:
    async with service(after(TIMED_OUT % b"", close)) as (found, client):
        assert await found.ask(client) == b"ok"
        assert await found.ask(client) == b"late"


async def test_a_408_on_a_new_connection_is_an_answer() -> None:
    closing = TIMED_OUT % b"Connection: close\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(closing)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        client = DirectClient(service_named(), url)
        assert await start(client, Target("POST", url, {})).answer() == (408, b"late")
        await client.aclose()


@pytest.mark.parametrize("then", [close, reset])
async def test_an_end_on_a_new_connection_is_not_stale(
    then: Callable[[asyncio.StreamWriter], None],
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        then(writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        client = DirectClient(service_named(), url)
        assert not (await start(client, Target("POST", url, {})).failure()).resend
        await client.aclose()


@pytest.mark.parametrize("then", [close, reset])
@pytest.mark.parametrize(
    "sends",
    [b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 102 Processing\r\n\r\n"],
)
async def test_an_end_after_the_first_byte_of_an_answer_is_not_stale(
    then: Callable[[asyncio.StreamWriter], None], sends: bytes
) -> None:
    async with service(after(sends, then)) as (found, client):
        assert await found.ask(client) == b"ok"
        assert not (await found.failure(client)).resend


async def test_a_fresh_connection_is_opened_although_others_are_idle() -> None:
    async with service() as (found, client):
        await found.ask(client)
        await found.ask(client, fresh=True)
        assert found.requests == [1, 2]


@pytest.mark.parametrize(
    ("header", "idle_s", "reused"),
    [
        (b"Keep-Alive: timeout=5\r\n", 3.9, True),
        (b"Keep-Alive: timeout=5\r\n", 4.1, False),
        (b"Keep-Alive: timeout=5, max=100\r\n", 4.1, False),
        (b"Keep-Alive: max=100, timeout=5\r\n", 4.1, False),
        (b'Keep-Alive: TIMEOUT = "5"\r\n', 4.1, False),
        (b"keep-alive: timeout=1\r\n", 0.4, True),
        (b"Keep-Alive: timeout=1\r\n", 0.6, False),
        (b"Keep-Alive: timeout=0\r\n", 0.01, False),
        (b"Keep-Alive: timeout=3600\r\n", 3.9, True),
        (b"Keep-Alive: timeout=\r\n", 3.9, True),
        (b"Keep-Alive: soon\r\n", 3.9, True),
        (b"", 3.9, True),
        (b"", 4.1, False),
    ],
)
async def test_an_idle_connection_is_used_as_long_as_the_service_keeps_it(
    monkeypatch: pytest.MonkeyPatch, header: bytes, idle_s: float, reused: bool
) -> None:
    async with service(lambda writer: writer.write(OK % b""), header) as (found, client):
        assert await found.ask(client) == b"ok"
        move_clocks(monkeypatch, idle_s)
        assert await found.ask(client) == b"ok"
        assert found.requests == ([1, 1] if reused else [1, 2])


@pytest.mark.parametrize(
    ("header", "connections"),
    [
        (b"Keep-Alive: timeout=5, max=1\r\n", [1, 2, 3, 4]),
        (b"Keep-Alive: timeout=5, max=0\r\n", [1, 2, 3, 4]),
        (b"Keep-Alive: max=2\r\n", [1, 1, 2, 2]),
        (b'Keep-Alive: MAX = "3", timeout=5\r\n', [1, 1, 1, 2]),
        (b"Keep-Alive: timeout=5, max=100\r\n", [1, 1, 1, 1]),
        (b"Keep-Alive: max=\r\n", [1, 1, 1, 1]),
        (b"Keep-Alive: climax=1\r\n", [1, 1, 1, 1]),
    ],
)
async def test_a_connection_gets_no_more_requests_than_the_service_takes(
    header: bytes, connections: list[int]
) -> None:
    async with service(lambda writer: writer.write(OK % header), header) as (found, client):
        for _ in connections:
            assert await found.ask(client) == b"ok"
        assert found.requests == connections


async def test_connections_with_tls_are_kept_longer_also_those_of_a_proxy() -> None:
    plain, tls = URL("http://service.example"), URL("https://service.example")
    kept = {
        (url.scheme, proxy): DirectClient(
            service_named(), url, proxy=None if proxy is None else URL(proxy)
        ).keep_alive_s
        for url in (plain, tls)
        for proxy in (None, "http://proxy.example", "https://proxy.example")
    }
    assert kept == {
        ("http", None): KEEP_ALIVE_PLAIN_S,
        ("http", "http://proxy.example"): KEEP_ALIVE_PLAIN_S,
        ("http", "https://proxy.example"): KEEP_ALIVE_TLS_S,
        ("https", None): KEEP_ALIVE_TLS_S,
        ("https", "http://proxy.example"): KEEP_ALIVE_TLS_S,
        ("https", "https://proxy.example"): KEEP_ALIVE_TLS_S,
    }


def test_a_vanished_service_is_found_out_by_tcp() -> None:
    with socket.socket() as ours:
        probe_by_tcp(ours)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            idle_s, between_s, probes = (
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle_s + between_s * probes <= 120
