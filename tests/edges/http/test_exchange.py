"""Requests and responses on aiohttp's connections, below its session: byte for byte."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from yarl import URL

from exai_actors.edges.http.connector import Connector
from exai_actors.edges.http.exchange import Response, Target, exchange
from exai_actors.wire.openai.content_coding import PORTION_BYTES

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "exai"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """Whatever is at the other end of the connections; ``seen`` is what it read of each."""

    def __init__(self) -> None:
        self.url = URL()
        self.seen: list[bytes] = []


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[URL]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


@asynccontextmanager
async def peer(*replies: bytes, reads: int = -1) -> AsyncIterator[Peer]:
    """Answers the requests of one connection in turn; ``reads`` 0 does so without reading any."""
    found = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.seen.append(b"")
        for reply in replies:
            if reads:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                found.seen[-1] += head + await reader.readexactly(size)
            writer.write(reply)
        await closed.wait()
        writer.close()

    closed = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        yield found
        closed.set()


@pytest.fixture
async def connector() -> AsyncIterator[Connector]:
    made = Connector(0, 5.0)
    yield made
    await made.close()


async def turns_until(came: Callable[[], bool]) -> None:
    """Give the loop turns until it has come."""
    for _ in range(100_000):
        if came():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def whole(response: Response) -> list[bytes]:
    """The body in the portions in which it is read."""
    portions = []
    while portion := await response.content.readany():
        portions.append(portion)
    return portions


async def test_a_request_has_its_headers_its_length_and_its_body(connector: Connector) -> None:
    async with peer(OK) as service:
        target = Target("POST", service.url / "v1/chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, target, b'{"a":1}')
        assert (response.status, await response.content.readany()) == (200, b"ok")
        assert service.seen == [
            b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: application/json\r\n"
            b"Accept-Encoding: identity\r\nUser-Agent: exai\r\nContent-Length: 7\r\n\r\n"
            b'{"a":1}' % (service.url.port or 0)
        ]


async def test_a_request_without_a_body_has_no_length(connector: Connector) -> None:
    async with peer(OK) as service:
        target = Target("GET", service.url / "v1/models", headers=HEADERS, proxy=None)
        response = await exchange(connector, target)
        assert await response.content.readany() == b"ok"
        assert b"content-length" not in service.seen[0].lower()
        assert service.seen[0].endswith(b"User-Agent: exai\r\n\r\n")


async def test_interim_responses_are_passed_over(connector: Connector) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with peer(interim + OK) as service:
        target = Target("POST", service.url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, target, b"{}")
        assert (response.status, await response.content.readany()) == (200, b"ok")


async def test_a_connection_that_was_read_to_its_end_serves_the_next_request(
    connector: Connector,
) -> None:
    async with peer(OK, OK) as service:
        target = Target("POST", service.url / "chat", headers=HEADERS, proxy=None)
        for _ in range(2):
            response = await exchange(connector, target, b"{}")
            assert await response.content.readany() == b"ok"
        assert len(service.seen) == 1


async def test_what_comes_after_an_answer_is_not_the_answer_to_the_next_request(
    connector: Connector,
) -> None:
    more = asyncio.Event()

    async def answer_and_add(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(OK)
        await more.wait()
        writer.write(OK.replace(b"ok", b"no"))
        await reader.read()
        writer.close()

    async with serving(answer_and_add) as url:
        target = Target("POST", url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, target, b"{}")
        assert await response.content.readany() == b"ok"
        (pooled,) = (protocol for pool in connector._conns.values() for protocol, _ in pool)
        more.set()
        await turns_until(lambda: pooled.should_close)
        response = await exchange(connector, target, b"{}")
        assert await response.content.readany() == b"ok"


@pytest.mark.parametrize("broken", [b"zz\r\nfoo\r\n", b"ffffffffffffffffff\r\n", b"-5\r\n"])
@pytest.mark.parametrize("with_end_of_chunk", [False, True])
async def test_a_body_with_a_broken_chunk_is_an_error_at_once(
    connector: Connector, broken: bytes, with_end_of_chunk: bool
) -> None:
    end = b"\r\n"
    chunk = b"2\r\nok" if with_end_of_chunk else b"2\r\nok" + end
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        await begun.wait()
        writer.write(end + broken if with_end_of_chunk else broken)
        await reader.read()
        writer.close()

    async with serving(serve) as url:
        target = Target("GET", url / "models", headers=HEADERS, proxy=None)
        response = await exchange(connector, target)
        assert await response.content.readany() == b"ok"
        reading = asyncio.create_task(response.content.readany())
        await asyncio.sleep(0)
        begun.set()
        async with asyncio.timeout(5):
            with pytest.raises(aiohttp.ClientPayloadError):
                await reading
        response.hang_up()


async def test_a_request_that_was_answered_before_it_was_sent_ends_its_connection(
    connector: Connector,
) -> None:
    async with peer(OK, reads=0) as service:
        target = Target("POST", service.url / "chat", headers=HEADERS, proxy=None)
        too_much_for_the_sockets = b"x" * 32_000_000
        response = await exchange(connector, target, too_much_for_the_sockets)
        assert await response.content.readany() == b"ok"
        async with asyncio.timeout(10):
            response = await exchange(connector, target, b"{}")
        assert await response.content.readany() == b"ok"
        assert len(service.seen) == 2


async def test_a_response_that_is_let_go_unread_ends_its_connection(connector: Connector) -> None:
    async with peer(OK[:-1], OK) as service:
        target = Target("POST", service.url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, target, b"{}")
        response.hang_up()
        response = await exchange(connector, target, b"{}")
        response.hang_up()
        assert len(service.seen) == 2


async def test_a_compressed_body_is_inflated_a_portion_at_a_time(connector: Connector) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with peer(head + bomb) as service:
        target = Target("GET", service.url / "models", headers=HEADERS, proxy=None)
        response = await exchange(connector, target)
        portions = await whole(response)
        assert b"".join(portions) == b"x" * 50_000_000
        assert max(len(portion) for portion in portions) <= PORTION_BYTES
        assert response.content.at_eof()


async def test_a_compressed_body_that_is_cut_off_is_an_error(connector: Connector) -> None:
    packed = gzip.compress(b"ok")[:-1]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with peer(head + packed) as service:
        target = Target("GET", service.url / "models", headers=HEADERS, proxy=None)
        response = await exchange(connector, target)
        with pytest.raises(aiohttp.ClientPayloadError):
            await whole(response)


async def test_what_is_not_http_is_an_error_of_the_response(connector: Connector) -> None:
    async with peer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as service:
        target = Target("POST", service.url / "chat", headers=HEADERS, proxy=None)
        with pytest.raises(aiohttp.ClientResponseError):
            await exchange(connector, target, b"{}")


async def test_a_proxy_is_told_the_whole_address_and_who_asks(connector: Connector) -> None:
    async with peer(OK) as proxy:
        named = proxy.url.with_user("me").with_password("secret")
        service = URL("http://service.example/v1/chat?version=2")
        target = Target("POST", service, headers=HEADERS, proxy=named)
        response = await exchange(connector, target, b"{}")
        assert await response.content.readany() == b"ok"
        line, _, rest = proxy.seen[0].partition(b"\r\n")
        assert line == b"POST http://service.example/v1/chat?version=2 HTTP/1.1"
        assert b"\r\nHost: service.example\r\n" in b"\r\n" + rest
        assert b"\r\nProxy-Authorization: Basic " in rest
