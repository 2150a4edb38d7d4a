"""Requests and responses on aiohttp's connections, below its session: byte for byte."""

import asyncio
import gc
import gzip
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from yarl import URL

from exai_actors.edges.http.connector import Connector
from exai_actors.edges.http.exchange import Endpoint, Response, exchange
from exai_actors.wire.openai.content_coding import PORTION_BYTES

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "exai"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """The other end of the connections; ``seen`` is the data that it read from each."""

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
    """Answers the requests of one connection in turn; with ``reads`` 0, without reading them."""
    found = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.seen.append(b"")
        task = asyncio.current_task()
        assert task is not None
        serving.append(task)
        try:
            for reply in replies:
                if reads:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                    found.seen[-1] += head + await reader.readexactly(int(length or 0))
                writer.write(reply)
            await closed.wait()
        except asyncio.IncompleteReadError:
            pass  # the client went away without another request
        finally:
            writer.close()

    closed = asyncio.Event()
    serving: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        yield found
        closed.set()
    await asyncio.gather(*serving)


@pytest.fixture
async def connector() -> AsyncIterator[Connector]:
    made = Connector(0, 5.0)
    yield made
    await made.close()


async def turns(count: int = 20) -> None:
    """Give the loop turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def whole(response: Response) -> list[bytes]:
    """The body, in the portions that were read."""
    portions = []
    while portion := await response.content.readany():
        portions.append(portion)
    return portions


async def test_a_request_has_its_headers_its_length_and_its_body(connector: Connector) -> None:
    async with peer(OK) as service:
        endpoint = Endpoint("POST", service.url / "v1/chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint, b'{"a":1}')
        assert (response.status, await response.content.readany()) == (200, b"ok")
        assert service.seen == [
            b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: application/json\r\n"
            b"Accept-Encoding: identity\r\nUser-Agent: exai\r\nContent-Length: 7\r\n\r\n"
            b'{"a":1}' % (service.url.port or 0)
        ]


async def test_a_request_without_a_body_has_no_length(connector: Connector) -> None:
    async with peer(OK) as service:
        endpoint = Endpoint("GET", service.url / "v1/models", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint)
        assert await response.content.readany() == b"ok"
        assert b"content-length" not in service.seen[0].lower()
        assert service.seen[0].endswith(b"User-Agent: exai\r\n\r\n")


async def test_interim_responses_are_skipped(connector: Connector) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with peer(interim + OK) as service:
        endpoint = Endpoint("POST", service.url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint, b"{}")
        assert (response.status, await response.content.readany()) == (200, b"ok")


async def test_an_unrequested_change_of_protocol_is_a_response(connector: Connector) -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with peer(switching) as service:
        endpoint = Endpoint("POST", service.url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint, b"{}")
        assert response.status == 101
        response.close()


async def test_a_body_that_ends_with_its_connection_is_whole_even_if_read_later(
    connector: Connector,
) -> None:
    async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        writer.close()

    async with serving(answer_and_close) as url:
        endpoint = Endpoint("GET", url / "models", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint)
        await turns()
        assert await whole(response) == [b"ok"]


async def test_a_connection_is_reused_after_its_response_was_read(
    connector: Connector,
) -> None:
    async with peer(OK, OK) as service:
        endpoint = Endpoint("POST", service.url / "chat", headers=HEADERS, proxy=None)
        for _ in range(2):
            response = await exchange(connector, endpoint, b"{}")
            assert await response.content.readany() == b"ok"
        assert len(service.seen) == 1


async def test_a_late_second_answer_does_not_answer_the_next_request(
    connector: Connector,
) -> None:
    answered, more = asyncio.Event(), asyncio.Event()

    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(OK)
        await more.wait()
        writer.write(OK.replace(b"ok", b"no"))
        answered.set()
        await reader.read()
        writer.close()

    async with serving(answer_twice) as url:
        endpoint = Endpoint("POST", url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint, b"{}")
        assert await response.content.readany() == b"ok"
        more.set()
        await answered.wait()
        await turns()
        response = await exchange(connector, endpoint, b"{}")
        assert await response.content.readany() == b"ok"


async def test_a_new_connection_on_which_the_service_speaks_first_is_used(
    connector: Connector,
) -> None:
    connections = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read()
        writer.close()

    async with serving(greet) as url:
        endpoint = Endpoint("POST", url / "chat", headers=HEADERS, proxy=None)
        for _ in range(5):
            with pytest.raises(aiohttp.ClientResponseError):
                await exchange(connector, endpoint, b"{}")
    assert connections == 5


async def test_the_reset_of_a_pooled_connection_is_not_reported_to_the_loop(
    connector: Connector,
) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    reset = asyncio.Event()

    async def answer_and_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(OK)
        await reset.wait()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with serving(answer_and_reset) as url:
        endpoint = Endpoint("POST", url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint, b"{}")
        assert await response.content.readany() == b"ok"
        reset.set()
        await turns()
        reset.clear()
        response = await exchange(connector, endpoint, b"{}")
        assert await response.content.readany() == b"ok"
        reset.set()
        await turns()
    gc.collect()
    await turns()
    assert reported == []


async def test_a_connection_does_not_keep_the_responses_it_has_carried(
    connector: Connector,
) -> None:
    async with peer(OK) as service:
        endpoint = Endpoint("POST", service.url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint, b"{}")
        assert await response.content.readany() == b"ok"
        kept = weakref.ref(response.headers)
        del response
        gc.collect()
        assert kept() is None


@pytest.mark.parametrize("broken", [b"zz\r\nfoo\r\n", b"ffffffffffffffffff\r\n", b"-5\r\n"])
@pytest.mark.parametrize("with_end_of_chunk", [False, True])
async def test_a_body_with_a_broken_chunk_fails_immediately(
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
        endpoint = Endpoint("GET", url / "models", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint)
        assert await response.content.readany() == b"ok"
        reading = asyncio.create_task(response.content.readany())
        await asyncio.sleep(0)
        begun.set()
        async with asyncio.timeout(5):
            with pytest.raises(aiohttp.ClientPayloadError):
                await reading
        response.close()


async def test_an_answer_before_the_request_was_sent_ends_the_connection(
    connector: Connector,
) -> None:
    async with peer(OK, reads=0) as service:
        endpoint = Endpoint("POST", service.url / "chat", headers=HEADERS, proxy=None)
        too_much_for_the_sockets = b"x" * 32_000_000
        response = await exchange(connector, endpoint, too_much_for_the_sockets)
        assert await response.content.readany() == b"ok"
        async with asyncio.timeout(10):
            response = await exchange(connector, endpoint, b"{}")
        assert await response.content.readany() == b"ok"
        assert len(service.seen) == 2


async def test_closing_an_unread_response_ends_its_connection(connector: Connector) -> None:
    async with peer(OK[:-1], OK) as service:
        endpoint = Endpoint("POST", service.url / "chat", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint, b"{}")
        response.close()
        response = await exchange(connector, endpoint, b"{}")
        response.close()
        assert len(service.seen) == 2


async def test_a_compressed_body_is_inflated_one_portion_at_a_time(connector: Connector) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with peer(head + bomb) as service:
        endpoint = Endpoint("GET", service.url / "models", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint)
        portions = await whole(response)
        assert b"".join(portions) == b"x" * 50_000_000
        assert max(len(portion) for portion in portions) <= PORTION_BYTES
        assert response.content.at_eof()


async def test_a_truncated_compressed_body_fails(connector: Connector) -> None:
    packed = gzip.compress(b"ok")[:-1]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with peer(head + packed) as service:
        endpoint = Endpoint("GET", service.url / "models", headers=HEADERS, proxy=None)
        response = await exchange(connector, endpoint)
        with pytest.raises(aiohttp.ClientPayloadError):
            await whole(response)


async def test_a_response_that_is_not_http_fails(connector: Connector) -> None:
    async with peer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as service:
        endpoint = Endpoint("POST", service.url / "chat", headers=HEADERS, proxy=None)
        with pytest.raises(aiohttp.ClientResponseError):
            await exchange(connector, endpoint, b"{}")


async def test_a_proxy_gets_the_whole_address_and_its_credentials(connector: Connector) -> None:
    async with peer(OK) as proxy:
        named = proxy.url.with_user("me").with_password("secret")
        service = URL("http://service.example/v1/chat?version=2")
        endpoint = Endpoint("POST", service, headers=HEADERS, proxy=named)
        response = await exchange(connector, endpoint, b"{}")
        assert await response.content.readany() == b"ok"
        line, _, rest = proxy.seen[0].partition(b"\r\n")
        assert line == b"POST http://service.example/v1/chat?version=2 HTTP/1.1"
        assert b"\r\nHost: service.example\r\n" in b"\r\n" + rest
        assert b"\r\nProxy-Authorization: Basic " in rest
