"""The fast path of handshakes accepts nothing that the library refuses, and answers as it does."""

from __future__ import annotations

import asyncio
import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.http11 import Request

from exai_actors.edges.websocket.handshake import common_handshake, read_by_library
from exai_actors.edges.websocket.protocol import FIRST_MESSAGE_BYTES, MessageProtocol
from tests.edges.websocket.client_frames import HANDSHAKE, client_frame, close, text
from tests.edges.websocket.memory_socket import MemorySocket

KEY = base64.b64encode(bytes(range(16))).decode()
USUAL = (
    ("Host", "127.0.0.1:8079"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
)


def handshake(
    *headers: tuple[str, str], first: str = "GET / HTTP/1.1", end: str = "\r\n", colon: str = ": "
) -> bytes:
    lines = [first, *(f"{name}{colon}{value}" for name, value in headers)]
    return (end.join(lines) + end + end).encode("latin-1")


def with_header(name: str, value: str) -> bytes:
    """The usual handshake with one header added or replaced."""
    others = [each for each in USUAL if each[0].lower() != name.lower()]
    return handshake(*others, (name, value))


def by_library(data: bytes) -> tuple[Request, bytes] | None:
    """The request and the response of the library, without its date; None if it refuses."""
    protocol = MessageProtocol(1 << 20)
    protocol.receive_header(data)
    requests = protocol.events_received()
    if not requests:
        return None
    (request,) = requests
    assert isinstance(request, Request)
    response = protocol.accept(request)
    if response.status_code != 101:
        return None
    protocol.send_response(response)
    return request, undated(b"".join(protocol.data_to_send()))


def undated(response: bytes) -> bytes:
    response, replaced = re.subn(rb"\r\nDate: [^\r]{29}\r\n", b"\r\nDate: now\r\n", response)
    assert replaced == 1
    return response


COMMON = [
    pytest.param(handshake(*USUAL), id="plain"),
    pytest.param(with_header("Sec-WebSocket-Protocol", "mcp"), id="mcp"),
    pytest.param(with_header("Sec-WebSocket-Extensions", "permessage-deflate"), id="extension"),
    pytest.param(with_header("Connection", "keep-alive, Upgrade"), id="firefox"),
    pytest.param(with_header("Upgrade", "WebSocket"), id="another case"),
    pytest.param(with_header("Origin", "http://localhost:8079"), id="browser"),
    pytest.param(with_header("Authorization", "Bearer  a b"), id="token"),
    pytest.param(handshake(*USUAL, first="GET /admin?x=1 HTTP/1.1"), id="path"),
    pytest.param(handshake(*USUAL, colon=":"), id="no blank"),
    pytest.param(handshake(*((name.upper(), value) for name, value in USUAL)), id="upper case"),
]


@pytest.mark.parametrize("data", COMMON)
def test_a_common_handshake_is_read_and_answered_as_by_the_library(data: bytes) -> None:
    found = common_handshake(data + b"rest")
    expected = by_library(data)
    assert found is not None
    assert expected is not None
    assert undated(found.response) == expected[1]
    assert found.request == read_by_library(expected[0])
    assert found.rest == b"rest"


LEFT = [
    pytest.param(handshake(*USUAL)[:-1], id="cut off"),
    pytest.param(handshake(*USUAL, end="\n"), id="bare line feeds"),
    pytest.param(handshake(*USUAL, first="POST / HTTP/1.1"), id="another method"),
    pytest.param(handshake(*USUAL, first="GET / HTTP/1.0"), id="another version"),
    pytest.param(handshake(*USUAL, first="GET  / HTTP/1.1"), id="two blanks"),
    pytest.param(handshake(*USUAL, first="GET /ä HTTP/1.1"), id="a path beyond ASCII"),
    pytest.param(handshake(*USUAL, ("Host", "evil.example")), id="two hosts"),
    pytest.param(handshake(*USUAL, ("sec-websocket-key", KEY)), id="two keys"),
    pytest.param(handshake(*USUAL[:-1]), id="no version"),
    pytest.param(with_header("Sec-WebSocket-Version", "8"), id="version 8"),
    pytest.param(with_header("Sec-WebSocket-Key", KEY[:-2]), id="a short key"),
    pytest.param(with_header("Sec-WebSocket-Key", "A" * 24), id="a long key"),
    pytest.param(with_header("Upgrade", "websocket, h2c"), id="two upgrades"),
    pytest.param(with_header("Connection", "close"), id="no upgrade"),
    pytest.param(with_header("Connection", "Upgrade, close"), id="a rare connection"),
    pytest.param(with_header("Sec-WebSocket-Protocol", "chat, mcp"), id="several protocols"),
    pytest.param(with_header("Content-Length", "4"), id="a body"),
    pytest.param(with_header("Transfer-Encoding", "chunked"), id="a body in chunks"),
    pytest.param(with_header("X-Large", "x" * 5000), id="large"),
    pytest.param(with_header("X-Odd", "a\x00b"), id="a control character"),
    pytest.param(with_header("X-Odd", "ä"), id="a value beyond ASCII"),
    pytest.param(handshake(*USUAL, ("X", "a\r\n b")), id="a folded line"),
    pytest.param(handshake(*USUAL, *((f"X-{at}", "y") for at in range(60))), id="many headers"),
]


@pytest.mark.parametrize("data", LEFT)
def test_any_other_handshake_is_left_to_the_library(data: bytes) -> None:
    assert common_handshake(data) is None


_names = st.sampled_from([name for name, _ in USUAL] + ["Origin", "X", "Sec-WebSocket-Protocol"])
_values = st.sampled_from([value for _, value in USUAL] + ["mcp", "x,y", "", " ", "a  b", "\t"])
_spoilt = st.tuples(st.integers(0, 200), st.sampled_from(b"\r\n :,\x00a\xe4\t"))


@given(
    st.permutations(USUAL),
    st.lists(st.tuples(_names, _values), max_size=2),
    st.lists(_spoilt, max_size=2),
    st.sampled_from([": ", ":", ":  ", ":\t"]),
)
@example(list(USUAL), [("Connection", "Upgrade")], [], ": ")
def test_what_the_fast_path_accepts_is_what_the_library_would(
    headers: list[tuple[str, str]],
    more: list[tuple[str, str]],
    spoilt: list[tuple[int, int]],
    colon: str,
) -> None:
    data = bytearray(handshake(*headers, *more, colon=colon))
    for at, byte in spoilt:
        data[at % len(data)] = byte
    found = common_handshake(bytes(data))
    if found is not None:
        expected = by_library(bytes(data)[: len(data) - len(found.rest)])
        assert expected is not None
        assert undated(found.response) == expected[1]
        assert found.request == read_by_library(expected[0])


def test_the_worst_line_takes_no_longer_than_it_is() -> None:
    head = handshake(*USUAL)[:-2]
    assert common_handshake(head + b"X: " + b"a " * 2_000 + b"\r\n\r\n") is None
    assert common_handshake(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 39 + b"a" * 3_000) is None


CONVERSATIONS = {
    "messages": [text("{}"), text("x" * 3000), text("{}")],
    "fragments": [client_frame(1, b"ab", fin=False), client_frame(0, b"c")],
    "a message in two reads": [text("abcdef")[:5], text("abcdef")[5:], text("g")],
    "pings between messages": [text("a"), client_frame(9, b"p"), text("b")],
    "a pong": [text("a"), client_frame(10), text("b")],
    "a pong with words": [text("a"), client_frame(10, b"x"), text("b")],
    "binary": [client_frame(2, b"x"), text("b")],
    "a first message above its limit": [text("x" * (FIRST_MESSAGE_BYTES + 1))],
    "a later message above that": [text("a"), text("x" * (FIRST_MESSAGE_BYTES + 1))],
    "two in one read": [text("a") + text("x" * (FIRST_MESSAGE_BYTES + 1))],
    "above the limit of all": [text("a"), text("x" * 200_001)],
    "not UTF-8": [client_frame(1, b"\xff")],
    "unmasked": [client_frame(1, b"x", mask=None)],
    "reserved": [text("a"), client_frame(3, b"x")],
    "close": [text("a"), close(1000, "bye")],
    "many control frames": [client_frame(10)] * 12,
}


@pytest.mark.parametrize("admitted", [True, False])
@pytest.mark.parametrize("sent", CONVERSATIONS.values(), ids=CONVERSATIONS)
async def test_a_connection_acts_the_same_by_either_handshake(
    sent: list[bytes], admitted: bool
) -> None:
    by_us, by_library = (MemorySocket(max_frame_bytes=200_000) for _ in range(2))
    by_us.receive(HANDSHAKE)
    # Two headers of one name are not common, and mean nothing here.
    by_library.receive(HANDSHAKE[:-2] + b"X: a\r\nX: b\r\n\r\n")
    for socket in (by_us, by_library):
        if admitted:
            socket.connection.admit()
        for data in sent:
            socket.receive(data)
        socket.connection.ping()
        socket.turns.end()
        await asyncio.sleep(0)
        socket.connection.close(1000, "over")
        socket.client_leaves()
    assert by_us.probe.messages == by_library.probe.messages
    assert by_us.frames() == by_library.frames()
