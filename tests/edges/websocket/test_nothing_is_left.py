"""A connection that ends in its handshake is freed by reference counting, with all it was sent.

The daemon runs its collector rarely, and strangers may connect as often as they like.
"""

from __future__ import annotations

import gc

import pytest
from websockets.http11 import Request

from exai_actors.edges.websocket.protocol import MAX_HEADER_BYTES, MessageProtocol
from exai_actors.messages.connection import TextReceived
from tests.edges.websocket.client_frames import HANDSHAKE, client_frame, text
from tests.edges.websocket.memory_socket import MemorySocket
from tests.garbage import only_found_by_the_collector

LINE = b"X: " + b"a" * 1000 + b"\r\n"
UNFINISHED = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + LINE * 8

HANDSHAKES = {
    "nothing": b"",
    "half a request line": b"GET / HT",
    "unfinished header": UNFINISHED,
    "unfinished header in one line": b"GET / HTTP/1.1\r\nX: " + b"a" * 8000,
    "header above the limit": UNFINISHED + LINE * 8,
    "header far above the limit": UNFINISHED + LINE * 100,
    "line above the library's limit": b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n",
    "request line above the library's limit": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n",
    "too many lines": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200,
    "header that is none": UNFINISHED + b"no colon\r\n\r\n",
    "name with a space": UNFINISHED + b"a b: c\r\n\r\n",
    "bytes of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 100 + b"\r\n",
    "greeting of SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "empty lines": b"\r\n\r\n",
    "path that is not ASCII": b"GET /\xff HTTP/1.1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.0": HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no upgrade": UNFINISHED + b"\r\n",
    "other upgrade": HANDSHAKE.replace(b"websocket", b"h2c"),
    "POST": HANDSHAKE.replace(b"GET", b"POST"),
    "body": HANDSHAKE[:-2] + b"Content-Length: 5\r\n\r\nhello",
    "chunked body": HANDSHAKE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no key": HANDSHAKE.replace(b"Sec-WebSocket-Key", b"Sec-WebSocket-Lock"),
    "two keys": HANDSHAKE[:-2] + b"Sec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n",
    "key that is not base64": HANDSHAKE.replace(b"AAAA", b"!!!!", 1),
    "key that is too short": HANDSHAKE.replace(b"AAAA", b"", 1),
    "old version": HANDSHAKE.replace(b"Version: 13", b"Version: 8"),
    "foreign page": HANDSHAKE[:-2] + b"Origin: https://evil.example\r\n\r\n",
    "foreign host": HANDSHAKE.replace(b"127.0.0.1", b"evil.example"),
    "broken extension": HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: ;;\r\n\r\n",
    "broken subprotocol": HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: ,(\r\n\r\n",
    "close in the same segment": HANDSHAKE + client_frame(8, b"\x03\xe8"),
    "fault in the same segment": HANDSHAKE + b"\xff" * 100,
    "half a frame": HANDSHAKE + text("x" * 1000)[:500],
    "no frame": HANDSHAKE,
    "a message": HANDSHAKE + text("{}"),
    "a message, and half of another": HANDSHAKE + text("{}") + text("x" * 1000)[:500],
    "a message and a ping": HANDSHAKE + text("{}") + client_frame(9, b"p"),
    "a message and a pong": HANDSHAKE + text("{}") + client_frame(10, b""),
    "a message and a close": HANDSHAKE + text("{}") + client_frame(8, b"\x03\xe8"),
}


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("handshake", HANDSHAKES.values(), ids=HANDSHAKES)
async def test_a_handshake_leaves_nothing_to_the_collector(handshake: bytes, pieces: int) -> None:
    with only_found_by_the_collector() as found:
        socket = MemorySocket(close_timeout_s=3600.0, open_timeout_s=3600.0)
        size = len(handshake) // pieces + 1
        for start in range(0, len(handshake), size):
            socket.receive(handshake[start : start + size])
        socket.client_leaves()
        # As a transport of asyncio does after its last call.
        del socket.transport.protocol
        del socket.transport, socket.connection
        gc.collect()
        assert found == []


@pytest.mark.parametrize("size", [100, MAX_HEADER_BYTES, 64 * 1024])
async def test_a_header_above_the_limit_is_refused_before_the_rest_is_read(size: int) -> None:
    socket = MemorySocket()
    sent = b"GET / HTTP/1.1\r\n" + LINE * 100
    for start in range(0, len(sent), size):
        socket.receive(sent[start : start + size])
        assert len(socket.connection._protocol.reader.buffer) <= MAX_HEADER_BYTES
    assert socket.transport.read.startswith(b"HTTP/1.1 431 ")
    assert b"more than 16384 bytes" in socket.transport.read
    assert socket.transport.sent_eof


@pytest.mark.parametrize("by", [1, 0, -1, -100])
def test_a_header_within_the_limit_is_accepted_with_all_that_follows(by: int) -> None:
    padding = MAX_HEADER_BYTES - by - len(HANDSHAKE) - len(b"A: \r\n") * 3
    lines = b"".join(b"A: %b\r\n" % (b"a" * each) for each in (6000, 6000, padding - 12000))
    header = HANDSHAKE[:-2] + lines + b"\r\n"
    assert len(header) == MAX_HEADER_BYTES - by
    protocol = MessageProtocol(1000)
    rest = protocol.receive_header(header + b"the rest" * 10_000)
    if by < 0:
        assert protocol.events_received() == []
        assert protocol.eof_sent
    else:
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        assert len(protocol.reader.buffer) + len(rest) == len(b"the rest" * 10_000)


async def test_frames_behind_a_long_header_are_not_lost() -> None:
    socket = MemorySocket()
    header = HANDSHAKE[:-2] + LINE * 15 + b"\r\n"
    expected = [TextReceived(b"%d" % number) for number in range(500)]
    assert MAX_HEADER_BYTES - 2000 < len(header) < MAX_HEADER_BYTES
    socket.receive(header + b"".join(text(each.data) for each in expected))
    socket.connection.admit()
    assert [await socket.probe.expect(TextReceived) for _ in expected] == expected


@pytest.mark.parametrize("sent", [b"", UNFINISHED])
async def test_a_client_that_leaves_before_its_handshake_ends_its_socket_immediately(
    sent: bytes,
) -> None:
    socket = MemorySocket(close_timeout_s=3600.0)
    if sent:
        socket.receive(sent)
    socket.connection.eof_received()
    assert socket.transport.has_ended


async def test_a_refusal_reaches_a_client_that_has_closed_its_side() -> None:
    socket = MemorySocket(close_timeout_s=3600.0)
    socket.transport.reads = False
    socket.receive(HANDSHAKE.replace(b"Version: 13", b"Version: 8"))
    socket.connection.eof_received()
    assert not socket.transport.has_ended
    socket.transport.client_reads()
    assert socket.transport.read.startswith(b"HTTP/1.1 400 ")
    socket.client_leaves()
