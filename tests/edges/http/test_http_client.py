"""Requests and responses, byte for byte."""

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import AsyncIterator

import pytest

from exai_actors.core.calls import Aborted, FailureKind
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.client import HttpClient, Target
from exai_actors.edges.http.connection import Exchange
from tests.edges.http.exchanging import (
    HEADERS,
    OK,
    LateClient,
    Recorder,
    ask,
    peer,
    serving,
    start,
    turns,
)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = LateClient()
    yield made
    await made.aclose()


async def test_a_request_has_its_headers_its_length_and_its_body(client: HttpClient) -> None:
    async with peer(OK) as service:
        target = Target("POST", service.url / "v1/chat", HEADERS)
        assert await start(client, target, b'{"a":1}').answer() == (200, b"ok")
        assert service.seen == [
            b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: application/json\r\n"
            b"Accept-Encoding: identity\r\nUser-Agent: exai\r\nContent-Length: 7\r\n\r\n"
            b'{"a":1}' % (service.url.port or 0)
        ]


async def test_a_request_without_a_body_has_no_length(client: HttpClient) -> None:
    async with peer(OK) as service:
        target = Target("GET", service.url / "v1/models", HEADERS)
        assert await start(client, target, b"").answer() == (200, b"ok")
        assert b"content-length" not in service.seen[0].lower()
        assert service.seen[0].endswith(b"User-Agent: exai\r\n\r\n")


async def test_a_trace_goes_with_its_request_only(client: HttpClient) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with peer(OK, OK) as service:
        target = Target("POST", service.url / "v1/chat", HEADERS)
        await start(client, target, trace=TraceContext(parent, "a=b")).answer()
        await start(client, target).answer()
        traced, plain = service.seen[0].split(b"{}")[:2]
        assert b"\r\ntraceparent: %b\r\ntracestate: a=b\r\n" % parent.encode() in traced
        assert b"trace" not in plain


async def test_the_fields_of_a_response_have_names_in_any_case(client: HttpClient) -> None:
    reply = b"HTTP/1.1 200 OK\r\nX-Text: caf\xc3\xa9\r\nLINK: a\r\nLink: b\r\nX-No:\r\n"
    async with peer(reply + b"Content-Length: 2\r\n\r\nok") as service:
        answered = start(client, Target("POST", service.url, {}))
        assert await answered.answer() == (200, b"ok")
        assert answered.headers is not None
        assert answered.headers["x-text"] == "caf\u00e9"
        assert answered.headers.getall("link") == ["a", "b"]
        assert answered.headers["X-NO"] == ""


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body_ends_with_its_head(
    client: HttpClient, status: int
) -> None:
    async with peer(b"HTTP/1.1 %d No\r\nContent-Length: 5\r\n\r\n" % status, OK) as service:
        target = Target("POST", service.url, {})
        assert await start(client, target).answer() == (status, b"")
        assert await start(client, target).answer() == (200, b"ok")
        assert len(service.seen) == 1


async def test_interim_responses_are_skipped(client: HttpClient) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with peer(interim + OK) as service:
        answered = start(client, Target("POST", service.url, {}))
        assert await answered.answer() == (200, b"ok")
        assert answered.headers is not None
        assert "link" not in answered.headers


async def test_an_unrequested_change_of_protocol_is_a_response(client: HttpClient) -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with peer(switching) as service:
        answered = start(client, Target("POST", service.url, {}))
        await answered.until(lambda: answered.status == 101)


@pytest.mark.parametrize("later", [False, True])
async def test_a_body_that_ends_with_its_connection_is_whole(
    client: HttpClient, later: bool
) -> None:
    async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        if later:
            await turns()
        writer.close()
        await asyncio.Event().wait()

    async with serving(answer_and_close) as url:
        assert await start(client, Target("GET", url, {}), b"").answer() == (200, b"ok")


async def test_a_connection_is_reused_after_its_response(client: HttpClient) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"
    async with peer(OK, chunked, OK) as service:
        for _ in range(3):
            assert await ask(client, service.url) == b"ok"
        assert len(service.seen) == 1


async def test_a_receiver_may_start_the_next_exchange_when_one_ends(client: HttpClient) -> None:
    class Again(Recorder):
        following: Recorder | None = None

        def ended(self) -> None:
            super().ended()
            self.following = start(client, target)

    async with peer(OK, OK) as service:
        target = Target("POST", service.url, {})
        first = start(client, target, receiver=Again())
        await first.answer()
        assert isinstance(first, Again)
        assert first.following is not None
        assert await first.following.answer() == (200, b"ok")


async def test_a_late_second_answer_does_not_answer_the_next_request(client: HttpClient) -> None:
    answered, more = asyncio.Event(), asyncio.Event()

    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(OK)
        await more.wait()
        writer.write(OK.replace(b"ok", b"no"))
        answered.set()
        await reader.read()

    async with serving(answer_twice) as url:
        assert await ask(client, url) == b"ok"
        more.set()
        await answered.wait()
        await turns()
        assert await ask(client, url) == b"ok"


@pytest.mark.parametrize("extra", [OK.replace(b"ok", b"no"), b"junk", b"\r\n\r\nHTTP/1.1 "])
async def test_what_follows_a_response_in_one_piece_belongs_to_no_other(
    client: HttpClient, extra: bytes
) -> None:
    async with peer(OK + extra, OK) as service:
        assert await ask(client, service.url) == b"ok"
        assert await ask(client, service.url) == b"ok"


async def test_a_new_connection_on_which_the_service_speaks_first_is_used(
    client: HttpClient,
) -> None:
    connections = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read()

    async with serving(greet) as url:
        for _ in range(5):
            failed = await start(client, Target("POST", url, {})).failure()
            assert failed.kind is FailureKind.MALFORMED
    assert connections == 5


async def test_the_reset_of_an_idle_connection_is_not_reported_to_the_loop(
    client: HttpClient,
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

    async with serving(answer_and_reset) as url:
        assert await ask(client, url) == b"ok"
        reset.set()
        await turns()
        reset.clear()
        assert await ask(client, url) == b"ok"
        reset.set()
        await turns()
    gc.collect()
    await turns()
    assert reported == []


async def test_a_connection_does_not_keep_the_responses_it_has_carried(client: HttpClient) -> None:
    async with peer(OK) as service:
        answered = start(client, Target("POST", service.url, {}))
        await answered.answer()
        await turns()
        kept = weakref.ref(answered)
        del answered
        gc.collect()
        assert kept() is None


@pytest.mark.parametrize("broken", [b"zz\r\nfoo\r\n", b"ffffffffffffffffff\r\n", b"-5\r\n"])
@pytest.mark.parametrize("with_end_of_chunk", [False, True])
async def test_a_body_with_a_broken_chunk_fails_immediately(
    client: HttpClient, broken: bytes, with_end_of_chunk: bool
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

    async with serving(serve) as url:
        answered = start(client, Target("GET", url, {}), b"")
        await answered.until(lambda: answered.body == b"ok")
        begun.set()
        failed = await answered.failure()
        assert failed.kind is FailureKind.MALFORMED
        assert "breaks the rules of HTTP" in failed.message


async def test_a_chunk_that_breaks_behind_text_loses_no_text(client: HttpClient) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with peer(head + b"2\r\nok\r\nzz\r\n") as service:
        answered = start(client, Target("POST", service.url, {}))
        assert (await answered.failure()).kind is FailureKind.MALFORMED
        assert answered.status == 200


async def test_an_answer_before_the_request_was_sent_ends_the_connection(
    client: HttpClient,
) -> None:
    async with peer(OK, reads=False) as service:
        too_much_for_the_sockets = b"x" * 32_000_000
        assert await ask(client, service.url, too_much_for_the_sockets) == b"ok"
        assert await ask(client, service.url) == b"ok"
        assert len(service.seen) == 2


async def test_an_aborted_exchange_ends_its_connection(client: HttpClient) -> None:
    async with peer(OK[:-1], OK) as service:
        target = Target("POST", service.url, {})
        aborted = start(client, target)
        await aborted.until(lambda: aborted.body == b"o")
        assert aborted.exchange is not None
        aborted.exchange.abort()
        aborted.exchange.abort()
        ended_immediately = aborted.end is not None
        assert not ended_immediately
        await aborted.until(lambda: aborted.end is not None)
        assert aborted.end == Aborted()
        after = start(client, target)
        await after.until(lambda: after.body == b"o")
        aborted.exchange.abort()
        await turns()
        assert after.end is None
        assert len(service.seen) == 2


async def test_an_abort_before_there_is_a_connection_sends_nothing(client: HttpClient) -> None:
    async with peer(OK) as service:
        aborted = start(client, Target("POST", service.url, {}))
        assert aborted.exchange is not None
        aborted.exchange.abort()
        await aborted.until(lambda: aborted.end is not None)
        assert aborted.end == Aborted()
        assert b"".join(service.seen) == b""


async def test_a_receiver_may_abort_when_it_is_connected(client: HttpClient) -> None:
    class Aborts(Recorder):
        def connected(self) -> None:
            super().connected()
            if self.exchange is not None:
                self.exchange.abort()

    async with peer(OK) as service:
        aborted = start(client, Target("POST", service.url, {}), receiver=Aborts())
        await aborted.until(lambda: aborted.end is not None)
        assert aborted.end == Aborted()


async def test_a_paused_exchange_gets_its_data_and_its_end_later(client: HttpClient) -> None:
    async with peer(OK) as service:
        paused = start(client, Target("POST", service.url, {}))
        await paused.connects()
        assert paused.exchange is not None
        paused.exchange.pause()
        await turns(200)
        assert paused.body == b""
        paused.exchange.resume()
        assert await paused.answer() == (200, b"ok")


async def test_an_exchange_that_is_paused_by_its_data_ends_after_it(client: HttpClient) -> None:
    class Pauses(Recorder):
        def data(self, data: bytes, /) -> None:
            super().data(data)
            assert self.exchange is not None
            self.exchange.pause()

    async with peer(OK) as service:
        paused = start(client, Target("POST", service.url, {}), receiver=Pauses())
        await paused.until(lambda: paused.body == b"ok")
        await turns(200)
        assert paused.end is None
        assert paused.exchange is not None
        paused.exchange.resume()
        await paused.answer()


@pytest.mark.parametrize(
    ("late", "end"), [(b"1\r\nk\r\n0\r\n\r\n", "ended"), (b"1\r\nk\r\nbroken\r\n", "")]
)
async def test_data_that_was_read_before_a_pause_comes_after_it(
    client: HttpClient, late: bytes, end: str
) -> None:
    chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n"
    async with peer(chunk) as service:
        paused = start(client, Target("POST", service.url, {}))
        await paused.until(lambda: paused.body == b"o")
        exchange = paused.exchange
        assert isinstance(exchange, Exchange)
        assert exchange.connection is not None
        exchange.pause()
        exchange.connection.data_received(late)
        await turns()
        assert (paused.body, paused.end) == (b"o", None)
        exchange.resume()
        await paused.until(lambda: paused.end is not None)
        assert paused.body == b"ok"
        assert (paused.end == "ended") == bool(end)


async def test_a_rule_broken_before_a_pause_is_named_if_the_connection_ends_in_it(
    client: HttpClient,
) -> None:
    chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n"
    async with peer(chunk) as service:
        paused = start(client, Target("POST", service.url, {}))
        await paused.until(lambda: paused.body == b"o")
        exchange = paused.exchange
        assert isinstance(exchange, Exchange)
        assert exchange.connection is not None
        exchange.pause()
        exchange.connection.data_received(b"1\r\nk\r\nbroken\r\n")
        exchange.connection.close()
        failed = await paused.failure()
        assert (paused.body, failed.kind) == (b"ok", FailureKind.MALFORMED)


async def test_a_paused_exchange_makes_the_service_wait(client: HttpClient) -> None:
    size, written = 50_000_000, 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(b"x" * 100_000)
            written += 100_000
            await writer.drain()
        await asyncio.Event().wait()

    async with serving(flood) as url:
        paused = start(client, Target("POST", url, {}))
        await paused.until(lambda: paused.status is not None)
        assert paused.exchange is not None
        paused.exchange.pause()
        before = -1
        while before != (before := written):
            await turns(200)
        assert written < size
        paused.exchange.resume()
        await paused.answer()
        assert len(paused.body) == size


async def test_a_compressed_body_arrives_as_it_was_sent(client: HttpClient) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\n"
    async with peer(head + b"packed") as service:
        assert await ask(client, service.url) == b"packed"


async def test_a_response_that_is_not_http_fails(client: HttpClient) -> None:
    async with peer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as service:
        failed = await start(client, Target("POST", service.url, {})).failure()
        assert failed.kind is FailureKind.MALFORMED
        assert failed.message.startswith("answered with something that is not HTTP")


async def test_closing_the_client_ends_every_exchange(client: HttpClient) -> None:
    async with peer(OK[:-1]) as service:
        target = Target("POST", service.url, {})
        begun = start(client, target)
        await begun.until(lambda: begun.body == b"o")
        connecting = start(client, target)
        await client.aclose()
        assert [begun.end, connecting.end] == [Aborted(), Aborted()]
