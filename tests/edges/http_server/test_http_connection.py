"""One HTTP connection: requests in, responses out, limits, and everything that breaks off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.edges.http_server import connection
from tests.edges.http_server.http_socket import HttpSocket, Request

GET = b"GET /health?full=1 HTTP/1.1\r\nHost: broker\r\n\r\n"
PLAIN = (("Content-Type", "text/plain"),)


def post(body: bytes, *fields: bytes, length: int | None = None) -> bytes:
    lines = [b"POST /v1/chat HTTP/1.1", b"Host: broker", *fields]
    if not any(field.lower().startswith(b"transfer-encoding") for field in fields):
        lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join([*lines, b"", b""]) + body


def answer(request: Request) -> None:
    request.exchange.respond(200, PLAIN, request.head.target.encode())


def test_a_request_is_handled_when_its_head_has_arrived() -> None:
    socket = HttpSocket()
    socket.send(GET[:20])
    assert socket.requests == []
    socket.send(GET[20:])
    [request] = socket.requests
    assert (request.head.method, request.head.path, request.head.query) == (
        "GET",
        "/health",
        "full=1",
    )
    assert request.head.field("host") == "broker"
    assert request.is_complete


def test_a_whole_response_has_its_length_and_keeps_the_connection() -> None:
    socket = HttpSocket(answer)
    socket.send(GET)
    head, _, body = socket.received().partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/plain",
        b"Date: Sat, 28 Nov 2026 12:00:00 GMT",
        b"Content-Length: 14",
    ]
    assert body == b"/health?full=1"
    socket.send(GET)
    assert socket.status() == 200
    assert not socket.has_ended()


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_whole_response_is_one_write(method: str) -> None:
    socket = HttpSocket(answer)
    socket.send(GET.replace(b"GET", method.encode()))
    assert socket.transport.writes == 1
    assert socket.received().endswith(b"\r\n\r\n" + b"/health?full=1" * (method != "HEAD"))


def test_a_response_without_a_body_is_sent_at_its_end() -> None:
    socket = HttpSocket()
    socket.send(GET)
    socket.requests[0].exchange.begin(200, PLAIN, 0)
    assert socket.status() == 200


def test_a_response_that_breaks_off_before_its_body_sends_nothing() -> None:
    socket = HttpSocket()
    socket.send(GET)
    socket.requests[0].exchange.begin(200, PLAIN, 5)
    socket.requests[0].exchange.end()
    assert socket.received() == b""
    assert socket.has_ended()


class Guest:
    """Implements ``ports.Kept``."""

    has_left = False

    def left(self) -> None:
        self.has_left = True


class TestKept:
    """What stays beside a connection for its next request."""

    def test_it_is_there_for_the_next_request(self) -> None:
        socket, guest = HttpSocket(), Guest()
        socket.send(GET)
        answer(socket.requests[0])
        assert socket.requests[0].exchange.keep(guest)
        socket.send(GET)
        assert socket.requests[1].exchange.kept is guest
        assert not guest.has_left

    def test_it_leaves_with_the_connection(self) -> None:
        socket, guest = HttpSocket(answer), Guest()
        socket.send(GET)
        assert socket.requests[0].exchange.keep(guest)
        socket.connection.connection_lost(None)
        assert guest.has_left

    def test_it_gives_way_to_another(self) -> None:
        socket, first, second = HttpSocket(answer), Guest(), Guest()
        socket.send(GET)
        exchange = socket.requests[0].exchange
        for guest in (first, first, second):
            assert exchange.keep(guest)
        assert (first.has_left, second.has_left) == (True, False)
        exchange.forget(first)
        assert exchange.kept is second
        exchange.forget(second)
        assert exchange.kept is None

    @pytest.mark.parametrize("end", ["close", "drain", "lost"])
    def test_it_is_not_kept_if_no_request_can_come(self, end: str) -> None:
        socket = HttpSocket(answer)
        socket.send(
            GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if end == "close" else GET
        )
        if end == "drain":
            socket.connection.close_when_idle()
        elif end == "lost":
            socket.transport.abort()
        assert not socket.requests[0].exchange.keep(Guest())


def test_a_response_of_unknown_length_is_chunked() -> None:
    socket = HttpSocket()
    socket.send(GET)
    exchange = socket.requests[0].exchange
    exchange.begin(200, ())
    assert b"Transfer-Encoding: chunked" in socket.received()
    exchange.write(b"ten bytes!")
    exchange.write(b"")
    assert socket.received() == b"a\r\nten bytes!\r\n"
    exchange.end()
    assert socket.received() == b"0\r\n\r\n"
    socket.send(GET)
    assert len(socket.requests) == 2


def test_http_1_0_gets_no_chunks_but_an_end_of_the_connection() -> None:
    socket = HttpSocket()
    socket.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    exchange = socket.requests[0].exchange
    exchange.begin(200, ())
    exchange.write(b"body")
    exchange.end()
    head, _, body = socket.received().partition(b"\r\n\r\n")
    assert (b"chunked" in head, b"Connection: close" in head, body) == (False, True, b"body")
    assert socket.transport.sent_eof


def test_http_1_0_keeps_a_connection_on_request() -> None:
    socket = HttpSocket(answer)
    socket.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"Connection: keep-alive" in socket.received()
    assert not socket.transport.sent_eof
    socket.send(b"GET / HTTP/1.0\r\n\r\n")
    assert b"Connection: close" in socket.received()
    assert socket.transport.sent_eof


def test_head_gets_the_length_and_no_body() -> None:
    socket = HttpSocket(answer)
    socket.send(b"HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\n")
    assert socket.received().endswith(b"Content-Length: 4\r\n\r\n")
    socket.send(GET)
    assert socket.status() == 200


def test_a_response_without_content_has_no_length() -> None:
    socket = HttpSocket(lambda request: request.exchange.respond(204, (), b""))
    socket.send(GET)
    assert b"Content-Length" not in socket.received()


@pytest.mark.parametrize("asked", [b"Connection: close", b"connection: Close"])
def test_a_client_that_asks_for_it_gets_a_closed_connection(asked: bytes) -> None:
    socket = HttpSocket(answer)
    socket.send(b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % asked)
    assert b"Connection: close" in socket.received()
    assert socket.transport.sent_eof


@given(st.binary(max_size=300), st.booleans(), st.lists(st.integers(1, 60), max_size=30))
def test_a_body_arrives_whole_wherever_it_is_cut(
    body: bytes, chunked: bool, cuts: list[int]
) -> None:
    if chunked:
        middle = len(body) // 2
        parts = [part for part in (body[:middle], body[middle:]) if part]
        data = post(
            b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nA: b\r\n\r\n",
            b"Transfer-Encoding: chunked",
        )
    else:
        data = post(body)
    socket = HttpSocket()
    for cut in cuts:
        socket.send(data[:cut])
        data = data[cut:]
    socket.send(data)
    [request] = socket.requests
    assert (request.received, request.is_complete) == (body, True)


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    socket = HttpSocket()
    socket.send(GET + post(b"two") + GET)
    assert len(socket.requests) == 1
    answer(socket.requests[0])
    socket.timers.turn()
    assert len(socket.requests) == 2
    answer(socket.requests[1])
    socket.timers.turn()
    answer(socket.requests[2])
    assert socket.received().count(b"HTTP/1.1 200 OK") == 3


def test_a_body_that_arrives_before_its_turn_is_not_lost() -> None:
    socket = HttpSocket()
    socket.send(GET + post(b"early"))
    answer(socket.requests[0])
    socket.timers.turn()
    assert (socket.requests[1].received, socket.requests[1].is_complete) == (b"early", True)


def test_reading_stops_while_too_many_requests_wait() -> None:
    socket = HttpSocket(pipelined=2)
    socket.send(GET * 2)
    assert socket.is_read()
    socket.send(GET)
    assert not socket.is_read()
    answer(socket.requests[0])
    socket.timers.turn()
    assert socket.is_read()


@pytest.mark.parametrize("rest", [GET * 8 + GET[:10], post(b"x" * 4097, length=5000)])
def test_a_client_that_leaves_while_it_is_not_read_is_noticed(
    rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: list[object] = []
    monkeypatch.setattr(connection, "has_left", lambda transport: transport not in here)
    socket = HttpSocket(head_bytes=4096)
    here.append(socket.transport)
    socket.send(GET + rest)
    assert not socket.is_read()
    socket.timers.advance(0.05)
    assert [each.is_gone for each in socket.requests] == [False]
    here.clear()
    socket.timers.advance(0.05)
    assert [each.is_gone for each in socket.requests] == [True]
    assert socket.timers.armed() == 0


def test_a_client_that_is_read_again_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "has_left", lambda _: True)
    socket = HttpSocket(pipelined=1)
    socket.send(GET * 2)
    assert not socket.is_read()
    answer(socket.requests[0])
    socket.timers.turn()
    assert socket.is_read()
    socket.timers.advance(0.05)
    assert not socket.requests[1].is_gone


class TestInAdvance:
    """A client sends more requests while its first one takes long, and may be gone behind them."""

    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "has_left", lambda _: False)
        monkeypatch.setattr(connection, "_READ_IN_ADVANCE", 1000)
        monkeypatch.setattr(connection, "_DISCARDED_IN_ADVANCE", 5000)

    def test_a_little_is_read_and_answered_in_its_turn(self) -> None:
        socket = HttpSocket(pipelined=1)
        socket.send(GET * 2)
        for _ in range(3):
            assert not socket.is_read()
            socket.timers.advance(0.05)
            socket.timers.advance(0.05)
            assert socket.is_read()
            socket.send(GET)
        for number in range(5):
            answer(socket.requests[number])
            socket.timers.turn()
        assert socket.received().count(b"HTTP/1.1 200 OK") == 5
        assert not socket.has_ended()

    def test_what_follows_is_refused_and_the_end_behind_it_is_read(self) -> None:
        socket = HttpSocket(pipelined=1)
        socket.send(GET * 60)
        socket.timers.advance(0.05)
        assert not socket.is_read()
        socket.timers.advance(0.05)
        assert socket.is_read()
        socket.send(GET * 50)
        assert socket.is_read()
        for request in socket.requests:  # it grows
            answer(request)
            socket.timers.turn()
        received = socket.received()
        assert 1 < received.count(b"HTTP/1.1 200 OK") == len(socket.requests) < 60
        assert b"HTTP/1.1 400 Bad Request" in received
        assert b"Too much arrived" in received

    def test_what_is_discarded_has_a_limit(self) -> None:
        socket = HttpSocket(pipelined=1)
        socket.send(GET * 60)
        socket.timers.advance(0.05)
        socket.timers.advance(0.05)
        socket.send(b"x" * 5000)
        assert not socket.has_ended()
        socket.send(b"x")
        assert socket.has_ended()
        assert socket.requests[0].is_gone

    def test_what_was_discarded_before_the_refusal_does_not_break_it_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        socket = HttpSocket()
        socket.send(GET + b"nonsense\r\n\r\n")
        for _ in range(4):
            socket.send(b"x" * 1000)
        monkeypatch.setattr(connection, "_DISCARDED_WHILE_CLOSING", 1000)
        answer(socket.requests[0])
        socket.send(b"x" * 1000)
        assert not socket.has_ended(), "the client may still have to read the refusal"
        socket.send(b"x")
        assert socket.has_ended()

    def test_a_request_behind_an_unread_response_is_not_refused(self) -> None:
        body = b"x" * 2000
        socket = HttpSocket(head_bytes=1000, outbox_high_bytes=100, outbox_low_bytes=50)
        socket.send(GET + post(body, length=4000))
        socket.transport.reads = False
        socket.requests[0].exchange.respond(200, PLAIN, b"x" * 200)
        for _ in range(3):
            socket.timers.advance(0.05)
            assert not socket.is_read()
        socket.transport.client_reads()
        socket.timers.turn()
        socket.send(body)
        assert socket.requests[1].received == body * 2

    def test_a_client_that_is_answered_is_only_kept_waiting(self) -> None:
        socket = HttpSocket(pipelined=1)
        socket.send(GET * 40)
        for number in range(20):
            socket.timers.advance(0.05)
            answer(socket.requests[number])
            socket.timers.turn()
        assert socket.received().count(b"HTTP/1.1 200 OK") == 20


def test_reading_stops_while_too_much_of_a_body_waits() -> None:
    socket = HttpSocket(head_bytes=4096)
    socket.send(GET + post(b"x" * 4097, length=5000))
    assert not socket.is_read()
    answer(socket.requests[0])
    socket.timers.turn()
    assert socket.is_read()
    assert socket.requests[1].exchange.received_bytes == 4097


def test_expect_continue_is_answered_unless_the_response_is_known() -> None:
    socket = HttpSocket()
    socket.send(post(b"", b"Expect: 100-continue", length=3))
    assert socket.received() == b"HTTP/1.1 100 Continue\r\n\r\n"
    socket.send(b"abc")
    assert socket.requests[0].received == b"abc"
    refusing = HttpSocket(lambda request: request.exchange.respond(403, (), b""))
    refusing.send(post(b"", b"Expect: 100-continue", length=3))
    assert b"100 Continue" not in refusing.transport.read
    assert b"Connection: close" in refusing.received()


REFUSED = {
    "two_lengths": (post(b"abc", b"Content-Length: 3"), 400),
    "different_lengths": (post(b"abc", b"Content-Length: 4"), 400),
    "length_beside_chunks": (post(b"", b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
    "chunks_beside_length": (post(b"", b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400),
    "signed_length": (post(b"abc").replace(b": 3", b": +3"), 400),
    "unknown_coding": (post(b"", b"Transfer-Encoding: gzip, chunked"), 501),
    "coding_not_last": (post(b"", b"Transfer-Encoding: chunked, gzip"), 400),
    "coding_twice": (post(b"", *[b"Transfer-Encoding: chunked"] * 2), 400),
    "chunks_in_1_0": (post(b"", b"Transfer-Encoding: chunked").replace(b"1.1", b"1.0"), 501),
    "bad_chunk_size": (post(b"zz\r\n", b"Transfer-Encoding: chunked"), 400),
    "bare_line_feed": (GET.replace(b"\r\n", b"\n"), 400),
    "space_before_colon": (GET.replace(b"Host:", b"Host :"), 400),
    "folded_field": (GET.replace(b"broker", b"broker\r\n folded"), 400),
    "nul_in_field": (GET.replace(b"broker", b"bro\0ker"), 400),
    "no_host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two_hosts": (GET.replace(b"\r\n\r\n", b"\r\nHost: other\r\n\r\n"), 400),
    "no_http": (b"\x16\x03\x01\x02\x00\x01", 400),
    "unknown_method": (GET.replace(b"GET", b"GRAB"), 400),
    "http_2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "connect": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", 400),
    "compressed_body": (post(b"abc", b"Content-Encoding: gzip"), 415),
    "other_expectation": (post(b"abc", b"Expect: a-miracle"), 417),
    "announced_too_large": (post(b"", length=1001), 413),
    "many_fields": (GET.replace(b"\r\n\r\n", b"\r\nA: b" * 40 + b"\r\n\r\n"), 431),
    "long_field": (GET.replace(b"broker", b"b" * 5000), 431),
    "long_target": (GET.replace(b"/health", b"/" + b"h" * 5000), 431),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_hostile_request_is_refused_and_the_connection_closed(name: str, size: int) -> None:
    data, status = REFUSED[name]
    socket = HttpSocket(head_bytes=4096, head_fields=20, body_bytes=1000)
    for start in range(0, len(data), size):
        socket.send(data[start : start + size])
    assert socket.status() == status
    assert socket.transport.sent_eof
    assert all(request.is_gone for request in socket.requests)
    socket.send(GET)
    assert socket.received() == b""


def test_a_head_without_end_is_refused_early() -> None:
    socket = HttpSocket(head_bytes=4096)
    socket.send(b"GET /")
    for _ in range(4):
        socket.send(b"a" * 1000)
    assert socket.received() == b""
    socket.send(b"a" * 1000)
    assert socket.status() == 431


def test_a_body_beyond_the_limit_ends_its_request() -> None:
    socket = HttpSocket(body_bytes=10)
    socket.send(post(b"", b"Transfer-Encoding: chunked") + b"8\r\n12345678\r\n")
    socket.send(b"8\r\n12345678\r\n")
    assert socket.status() == 413
    assert socket.requests[0].is_gone


def test_a_request_refused_behind_another_waits_for_its_turn() -> None:
    socket = HttpSocket()
    socket.send(GET + b"nonsense\r\n\r\n")
    assert socket.received() == b""
    answer(socket.requests[0])
    ok, refused = socket.received().split(b"\r\n\r\n", 1)
    assert (ok[9:12], refused.partition(b"HTTP/1.1 ")[2][:3]) == (b"200", b"400")


def test_a_slow_head_is_refused() -> None:
    socket = HttpSocket(head_timeout_s=10.0)
    socket.timers.advance(9.0)
    socket.send(GET[:5])
    socket.timers.advance(9.9)
    assert socket.received() == b""
    socket.send(GET[5:9])
    socket.timers.advance(0.1)
    assert socket.status() == 408
    assert socket.transport.sent_eof


def test_a_client_that_sends_nothing_is_dropped() -> None:
    socket = HttpSocket(head_timeout_s=10.0)
    socket.timers.advance(10.0)
    assert (socket.transport.has_ended, socket.received()) == (True, b"")


def test_a_slow_body_is_refused_and_a_steady_one_is_not() -> None:
    socket = HttpSocket(body_timeout_s=30.0)
    socket.send(post(b"", length=100))
    for _ in range(3):
        socket.timers.advance(29.0)
        socket.send(b"x")
    socket.timers.advance(30.0)
    assert socket.status() == 408
    assert socket.requests[0].is_gone


def test_a_long_answer_is_waited_for_without_a_timer() -> None:
    socket = HttpSocket()
    socket.send(post(b"abc"))
    socket.timers.advance(3600.0)
    assert socket.timers.armed() == 0
    answer(socket.requests[0])
    assert socket.status() == 200


def test_an_idle_connection_is_closed() -> None:
    socket = HttpSocket(answer, idle_timeout_s=75.0)
    socket.send(GET)
    socket.timers.advance(74.0)
    assert not socket.has_ended()
    socket.timers.advance(1.0)
    assert socket.has_ended()


@pytest.mark.parametrize("reads", [True, False])
def test_a_client_that_leaves_ends_its_requests_once(reads: bool) -> None:
    socket = HttpSocket()
    socket.transport.reads = reads
    socket.send(GET + GET)
    socket.requests[0].exchange.begin(200, ())
    socket.transport.lose()
    assert socket.requests[0].is_gone
    assert (len(socket.requests), socket.removed, socket.timers.armed()) == (1, 1, 0)
    socket.requests[0].exchange.write(b"too late")
    socket.requests[0].exchange.end()
    socket.timers.turn()
    assert len(socket.requests) == 1


def test_an_answered_request_is_not_gone_when_its_client_leaves() -> None:
    socket = HttpSocket(answer)
    socket.send(GET)
    socket.transport.lose()
    assert not socket.requests[0].is_gone


def test_an_aborted_response_is_cut_off_without_its_last_chunk() -> None:
    socket = HttpSocket()
    socket.send(GET)
    socket.requests[0].exchange.begin(200, ())
    socket.requests[0].exchange.write(b"half")
    socket.requests[0].exchange.abort()
    assert socket.has_ended()
    assert b"0\r\n\r\n" not in socket.received()
    assert not socket.requests[0].is_gone


def test_a_response_shorter_than_announced_is_cut_off() -> None:
    socket = HttpSocket()
    socket.send(GET)
    socket.requests[0].exchange.begin(200, (), 10)
    socket.requests[0].exchange.write(b"half")
    socket.requests[0].exchange.end()
    assert socket.has_ended()


def test_a_response_longer_than_announced_is_refused() -> None:
    socket = HttpSocket()
    socket.send(GET)
    socket.requests[0].exchange.begin(200, (), 2)
    with pytest.raises(ValueError, match="longer than its Content-Length"):
        socket.requests[0].exchange.write(b"half")


def test_only_the_first_response_counts() -> None:
    socket = HttpSocket(answer)
    socket.send(GET)
    socket.received()
    socket.requests[0].exchange.respond(500, (), b"again")
    socket.requests[0].exchange.begin(500, ())
    socket.requests[0].exchange.abort()
    assert (socket.received(), socket.transport.has_ended) == (b"", False)


def test_a_response_before_the_end_of_its_request_closes_the_connection() -> None:
    socket = HttpSocket(answer)
    socket.send(post(b"half", length=100))
    assert b"Connection: close" in socket.received()
    socket.send(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    assert len(socket.requests) == 1


def test_a_closing_connection_ends_by_itself() -> None:
    socket = HttpSocket(answer, close_timeout_s=1.0)
    socket.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    socket.timers.advance(0.9)
    assert not socket.has_ended()
    socket.timers.advance(0.1)
    assert socket.has_ended()


def test_a_client_that_floods_a_closing_connection_is_dropped() -> None:
    socket = HttpSocket()
    socket.send(b"nonsense\r\n\r\n")
    for _ in range(17):
        socket.send(b"x" * 65_536)
    assert socket.has_ended()


def test_a_client_that_does_not_read_pauses_its_response_and_is_dropped_in_the_end() -> None:
    socket = HttpSocket(outbox_high_bytes=100, outbox_low_bytes=50, outbox_bytes=1000)
    socket.send(GET)
    socket.transport.reads = False
    exchange = socket.requests[0].exchange
    exchange.begin(200, ())
    exchange.write(b"x" * 100)
    pauses = [socket.requests[0].is_paused]
    socket.transport.client_reads()
    pauses.append(socket.requests[0].is_paused)
    assert pauses == [True, False]
    socket.transport.reads = False
    exchange.write(b"x" * 1001)
    assert socket.has_ended()
    assert socket.requests[0].is_gone


def test_a_response_with_room_is_paused_when_that_is_full() -> None:
    socket = HttpSocket(outbox_high_bytes=100, outbox_low_bytes=50)
    socket.send(GET)
    [request] = socket.requests
    request.exchange.room = 1000
    socket.transport.reads = False
    request.exchange.begin(200, ())
    pauses = []
    for _ in range(2):
        request.exchange.write(b"x" * 600)
        pauses.append(request.is_paused)
    assert pauses == [False, True]
    socket.transport.client_reads()
    assert not request.is_paused


def test_a_client_that_reads_slower_than_its_response_comes_is_served_on() -> None:
    socket = HttpSocket(outbox_high_bytes=100, outbox_low_bytes=50)
    socket.send(GET)
    exchange = socket.requests[0].exchange
    exchange.room = 10_000
    socket.transport.reads = False
    exchange.begin(200, ())
    for _ in range(3):
        exchange.write(b"x" * 600)
        socket.transport.client_reads(200)
        socket.timers.advance(11)
        assert not socket.has_ended()
    exchange.write(b"x" * 600)
    socket.timers.advance(11)
    assert socket.has_ended(), "it has read nothing meanwhile"


def test_another_protocol_is_not_switched_to() -> None:
    socket = HttpSocket(answer)
    upgrade = GET.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
    socket.send(upgrade + GET)
    socket.timers.turn()
    assert socket.received().count(b"HTTP/1.1 200 OK") == 2


OFFERS_HTTP_2 = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEA"


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize(
    "request_bytes",
    [
        post(GET, *OFFERS_HTTP_2),
        post(
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(GET), GET),
            *OFFERS_HTTP_2,
            b"Transfer-Encoding: chunked",
        ),
    ],
    ids=["length", "chunks"],
)
def test_a_request_that_offers_another_protocol_has_its_body(
    request_bytes: bytes, size: int
) -> None:
    socket = HttpSocket()
    data = request_bytes * 2 + GET
    for start in range(0, len(data), size):
        socket.send(data[start : start + size])
    for number in range(3):
        answer(socket.requests[number])
        socket.timers.turn()
    assert [each.head.method for each in socket.requests] == ["POST", "POST", "GET"]
    assert [each.received for each in socket.requests] == [GET, GET, b""]
    assert all(each.is_complete for each in socket.requests)


def test_a_body_that_is_too_large_is_refused_though_its_request_offers_another_protocol() -> None:
    socket = HttpSocket(body_bytes=10)
    chunks = b"8\r\n12345678\r\n" * 2
    socket.send(post(chunks, *OFFERS_HTTP_2, b"Transfer-Encoding: chunked"))
    assert socket.status() == 413


def test_a_draining_server_finishes_the_request_and_closes() -> None:
    idle, busy = HttpSocket(), HttpSocket()
    busy.send(GET)
    for socket in (idle, busy):
        socket.connection.close_when_idle()
    assert [each.has_ended() for each in (idle, busy)] == [True, False]
    answer(busy.requests[0])
    assert b"Connection: close" in busy.received()
    assert busy.transport.sent_eof
