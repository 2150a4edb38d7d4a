"""A pooled connection that the service closes, before or while the next request is on its way."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from yarl import URL

from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.connector import Connector
from exai_actors.edges.http.exchange import Endpoint, StaleConnectionError, exchange

OK = b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok"


class Call:
    """The part of a call that ``exchange`` knows."""

    def __init__(self, *, fresh: bool = False) -> None:
        self.fresh = fresh
        self.trace: TraceContext | None = None

    def connected(self) -> None: ...


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

    async def ask(self, connector: Connector, call: Call | None = None) -> bytes:
        endpoint = Endpoint("POST", self.url / "chat", headers={}, proxy=None)
        response = await exchange(connector, endpoint, b"{}", call or Call())
        return await response.content.readany()


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@asynccontextmanager
async def service(
    then: Callable[[asyncio.StreamWriter], None] = close, headers: bytes = b"", *, tls: bool = False
) -> AsyncIterator[tuple[Service, Connector]]:
    found = Service(headers, then)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    connector = Connector(0, 5.0, tls=tls)
    try:
        yield found, connector
    finally:
        await connector.close()
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
    async with service(then) as (found, connector):
        assert await found.ask(connector) == b"ok"
        with pytest.raises(StaleConnectionError):
            await found.ask(connector)
        assert found.requests == [1, 1]
        assert await found.ask(connector, Call(fresh=True)) == b"ok"


TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\n%bContent-Length: 4\r\n\r\nlate"


async def test_a_408_that_closes_a_used_connection_is_stale() -> None:
    async with service(after(TIMED_OUT % b"Connection: close\r\n", close)) as (found, connector):
        assert await found.ask(connector) == b"ok"
        with pytest.raises(StaleConnectionError):
            await found.ask(connector)
        assert await found.ask(connector, Call(fresh=True)) == b"ok"


async def test_a_408_that_keeps_its_connection_is_an_answer() -> None:
    async with service(after(TIMED_OUT % b"", close)) as (found, connector):
        assert await found.ask(connector) == b"ok"
        assert await found.ask(connector) == b"late"


async def test_a_408_on_a_new_connection_is_an_answer() -> None:
    closing = TIMED_OUT % b"Connection: close\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(closing)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        connector = Connector(0, 5.0)
        endpoint = Endpoint("POST", url, headers={}, proxy=None)
        assert (await exchange(connector, endpoint, b"{}", Call())).status == 408
        await connector.close()


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
        connector = Connector(0, 5.0)
        with pytest.raises((aiohttp.ClientError, OSError)) as failed:
            await exchange(connector, Endpoint("POST", url, headers={}, proxy=None), b"{}", Call())
        assert not isinstance(failed.value, StaleConnectionError)
        await connector.close()


@pytest.mark.parametrize("then", [close, reset])
@pytest.mark.parametrize(
    "sends",
    [b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 102 Processing\r\n\r\n"],
)
async def test_an_end_after_the_first_byte_of_an_answer_is_not_stale(
    then: Callable[[asyncio.StreamWriter], None], sends: bytes
) -> None:
    async with service(after(sends, then)) as (found, connector):
        assert await found.ask(connector) == b"ok"
        with pytest.raises((aiohttp.ClientError, OSError)) as failed:
            await found.ask(connector)
        assert not isinstance(failed.value, StaleConnectionError)


async def test_a_fresh_connection_is_opened_although_others_are_idle() -> None:
    async with service() as (found, connector):
        await found.ask(connector)
        await found.ask(connector, Call(fresh=True))
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
    async with service(lambda writer: writer.write(OK % b""), header) as (found, connector):
        assert await found.ask(connector) == b"ok"
        real = time.monotonic
        for clock in ("time.monotonic", "aiohttp.connector.monotonic"):
            monkeypatch.setattr(clock, lambda: real() + idle_s)
        assert await found.ask(connector) == b"ok"
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
    async with service(lambda writer: writer.write(OK % header), header) as (found, connector):
        for _ in connections:
            assert await found.ask(connector) == b"ok"
        assert found.requests == connections


@pytest.mark.parametrize(("idle_s", "reused"), [(14.0, True), (16.0, False)])
async def test_a_proxy_with_tls_keeps_connections_longer(
    monkeypatch: pytest.MonkeyPatch, idle_s: float, reused: bool
) -> None:
    async with service(lambda writer: writer.write(OK % b""), tls=True) as (found, connector):
        assert await found.ask(connector) == b"ok"
        real = time.monotonic
        for clock in ("time.monotonic", "aiohttp.connector.monotonic"):
            monkeypatch.setattr(clock, lambda: real() + idle_s)
        assert await found.ask(connector) == b"ok"
        assert found.requests == ([1, 1] if reused else [1, 2])


async def test_a_vanished_service_is_found_out_by_tcp() -> None:
    async with service() as (found, connector):
        endpoint = Endpoint("POST", found.url / "chat", headers={}, proxy=None)
        connection, was_used = await connector.take(endpoint.request)
        assert not was_used
        assert connection.transport is not None
        ours = connection.transport.get_extra_info("socket")
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            idle_s, between_s, probes = (
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle_s + between_s * probes <= 120
        connection.close()
