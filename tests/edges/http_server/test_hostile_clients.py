"""Clients that want to hold up the others, or to fill the memory, over HTTP."""

from __future__ import annotations

import pytest

from exai_actors.edges.http_server.settings import HttpServerSettings
from tests.edges.http_server.http_socket import HttpSocket, Request

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
STATUS = b"HTTP/1.1 "


def answer(request: Request) -> None:
    request.exchange.respond(200, (), b"ok")


@pytest.mark.parametrize(
    "followed_by",
    [
        b"",
        POST + b"hello",
        b"hello" + GET,
        b"hel",
        b"hello\x16\x03\x01 no request",
        b"hello" + UPGRADE * 3,
        b"hello" + CHUNKED + b"zz\r\n",
    ],
)
def test_nothing_is_written_behind_a_response_that_closes(followed_by: bytes) -> None:
    socket = HttpSocket(answer)
    socket.send(POST + followed_by)
    assert socket.received().count(STATUS) == 1
    assert socket.transport.sent_eof
    socket.timers.advance(socket.settings.close_timeout_s)
    assert socket.has_ended()


def test_nothing_is_written_behind_the_last_response_of_a_draining_server() -> None:
    socket = HttpSocket()
    socket.send(GET * 3)
    socket.connection.close_when_idle()
    answer(socket.requests[0])
    socket.timers.turn()
    assert socket.received().count(STATUS) == 1
    assert len(socket.requests) == 1


@pytest.mark.parametrize("request_bytes", [GET, UPGRADE, CHUNKED + b"1\r\na\r\n0\r\n\r\n"])
def test_one_request_of_a_socket_begins_in_each_turn(request_bytes: bytes) -> None:
    socket = HttpSocket(lambda request: None)
    socket.connection.data_received(request_bytes * 2_000)
    assert len(socket.requests) == 1
    for number in range(1, 2_001):
        answer(socket.requests[-1])
        assert len(socket.requests) == number
        assert number > 1_980 or not socket.is_read()
        socket.timers.turn()
    assert socket.received().count(STATUS) == 2_000
    assert socket.is_read()


def test_answers_that_are_ready_at_once_do_not_fill_a_turn() -> None:
    socket = HttpSocket(answer)
    socket.connection.data_received(GET * 2_000)
    assert len(socket.requests) == 1
    socket.timers.turn()
    assert socket.received().count(STATUS) == 2_000


def test_tiny_chunks_do_not_fill_a_turn() -> None:
    socket = HttpSocket()
    socket.connection.data_received(CHUNKED + b"1\r\na\r\n" * 10_000)
    assert socket.requests[0].exchange.received_bytes < 200
    assert not socket.is_read()
    socket.timers.turn()
    assert socket.requests[0].exchange.received_bytes == 10_000
    assert socket.is_read()


def test_a_client_that_reads_nothing_is_not_read_either() -> None:
    socket = HttpSocket(answer)
    high = socket.settings.outbox_high_bytes
    socket.transport.reads = False
    socket.send(GET * 10_000)
    assert high < len(socket.transport.buffer) < high + 1_000
    assert not socket.is_read()
    answered = len(socket.requests)
    socket.timers.turn()
    assert len(socket.requests) == answered
    socket.transport.client_reads()
    socket.timers.turn()
    assert socket.received().count(STATUS) == 10_000
    assert socket.is_read()


def test_a_client_that_leaves_responses_unread_is_aborted_unless_it_reads_on() -> None:
    socket = HttpSocket(answer)
    socket.transport.reads = False
    socket.send(GET * 10_000)
    for _ in range(3):
        socket.transport.client_reads(1_000)
        socket.timers.advance(socket.settings.unread_timeout_s)
        assert not socket.has_ended()
    socket.timers.advance(socket.settings.unread_timeout_s)
    assert socket.has_ended()
    assert socket.timers.armed() == 0


@pytest.mark.parametrize(
    "endless",
    [
        b"0\r\nTrailer: " + b"a" * 100_000,
        b"0\r\n" + b"Trailer: a\r\n" * 10_000,
        b"1;extension=" + b"a" * 100_000,
        b"1" + b";a" * 50_000,
        b"3\r\nabc\r\n0\r\n" + b"a" * 100_000,
    ],
)
@pytest.mark.parametrize("size", [999, 200_000])
def test_what_surrounds_the_chunks_of_a_body_has_the_limit_of_a_head(
    endless: bytes, size: int
) -> None:
    socket = HttpSocket()
    socket.send(CHUNKED)
    for start in range(0, len(endless), size):
        socket.send(endless[start : start + size])
    assert socket.status() in {400, 431}
    assert socket.requests[0].is_gone


def test_a_long_body_in_small_chunks_is_not_taken_for_that() -> None:
    socket = HttpSocket(body_bytes=200_000)
    socket.send(CHUNKED + b"1;note=x\r\na\r\n" * 100_000 + b"0\r\nTrailer: a\r\n\r\n")
    assert socket.requests[0].received == b"a" * 100_000
    assert socket.requests[0].is_complete


def test_a_head_behind_a_long_body_has_its_whole_limit() -> None:
    socket = HttpSocket(head_bytes=5_000, body_bytes=100_000)
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000
    head = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 3_900
    socket.send(body + head)
    answer(socket.requests[0])
    socket.send(b"\r\n\r\n")
    assert len(socket.requests) == 2


def test_the_memory_guard_sees_what_a_connection_holds_and_can_restrain_it() -> None:
    socket = HttpSocket()
    assert socket.connection.held_bytes() == 0
    socket.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + b"a" * 6_000)
    assert socket.connection.held_bytes() == 6_000
    socket.connection.restrain()
    assert not socket.is_read()
    socket.send(b"a" * 2_000)
    assert socket.requests[0].exchange.received_bytes == 6_000
    assert socket.connection.held_bytes() == 8_000
    socket.connection.release()
    socket.send(b"a" * 1_000)
    assert socket.requests[0].is_complete
    socket.transport.reads = False
    socket.requests[0].exchange.respond(200, (), b"b" * 5_000)
    assert 5_000 < socket.connection.held_bytes() < 5_500
    socket.connection.give_up()
    assert socket.has_ended()


def test_by_default_strangers_fill_little_memory_over_http() -> None:
    settings = HttpServerSettings()
    unread = 256 * 1024  # the largest read of an event loop
    each = settings.outbox_high_bytes + settings.body_bytes + unread
    assert settings.max_connections * each < 512 * 1024 * 1024
