"""Fast path, general path and the library alone are equivalent for any bytes, however split."""

from __future__ import annotations

import asyncio
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from exai_actors.edges.websocket.fast_frames import whole_text_frames
from exai_actors.edges.websocket.protocol import MessageProtocol
from exai_actors.messages.connection import (
    BinaryReceived,
    ConnectionMessage,
    SocketClosed,
    TextReceived,
)
from tests.edges.websocket.client_frames import HANDSHAKE, client_frame, close, text
from tests.edges.websocket.memory_socket import MemorySocket

MAX_BYTES = 300
LIKE_A_TEXT_FRAME = b"\x81\x80\x81\x80"

payloads = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=10),
    st.integers(120, 130).map(lambda size: b"x" * size),
    st.integers(MAX_BYTES - 2, MAX_BYTES + 2).map(lambda size: b"y" * size),
)
plain_texts = st.builds(text, st.text(max_size=60))
any_frames = st.builds(
    client_frame,
    st.sampled_from([0, 1, 1, 1, 2, 8, 9, 10, 3]),
    payloads,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0] * 9 + [4]),
    mask=st.sampled_from([b"\0\0\0\0", b"\x12\x34\x56\x78", LIKE_A_TEXT_FRAME, None]),
    length_bytes=st.sampled_from([None, 2, 8]),
)


@st.composite
def fragmented_messages(draw: st.DrawFn) -> bytes:
    """A message in fragments, perhaps cut inside a character, with pings between them."""
    opcode = draw(st.sampled_from([1, 2]))
    whole = draw(st.one_of(st.text(max_size=30).map(str.encode), st.binary(max_size=20)))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    parts = [whole[a:b] for a, b in pairwise([0, *cuts, len(whole)])]
    frames = [
        client_frame(0 if index else opcode, part, fin=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]
    between = draw(st.sampled_from([b"", client_frame(9, b"are you there?")]))
    return between.join(frames)


pieces = st.lists(
    st.one_of(plain_texts, plain_texts, fragmented_messages(), any_frames), max_size=8
)
endings = st.sampled_from([b"", b"", close(), close(3000, "bye"), b"\x81", text("cut off")[:-3]])


@st.composite
def chunked_streams(draw: st.DrawFn) -> list[bytes]:
    """Frames and half frames, split anywhere, often inside a header."""
    parts = [*draw(pieces), draw(endings)]
    stream = b"".join(parts)
    starts = [0, *accumulate(map(len, parts))]
    near_a_start = st.builds(int.__add__, st.sampled_from(starts), st.integers(0, 14))
    cuts = draw(st.lists(st.one_of(near_a_start, st.integers(0, len(stream))), max_size=8))
    ends = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    return [stream[a:b] for a, b in pairwise(ends) if a < b]


def received(
    chunks: list[bytes], *, fast: bool = True
) -> tuple[list[ConnectionMessage], bytes, bool]:
    """The actor's messages, the bytes the client reads, and whether the server ended the stream."""
    loop = asyncio.new_event_loop()
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(MessageProtocol, "is_between_messages", lambda self: False)
        socket = MemorySocket(loop=loop, max_frame_bytes=MAX_BYTES)
        socket.opened()
        for chunk in chunks:
            socket.receive(chunk)
        server_ended = socket.transport.sent_eof
        socket.client_leaves()
    loop.close()
    written = socket.transport.read.partition(b"\r\n\r\n")[2]
    return socket.probe.messages, written, server_ended


def received_by_the_library(stream: bytes) -> tuple[list[ConnectionMessage], bytes, bool]:
    """The same from the library alone, with messages assembled as its ``recv()`` does."""
    protocol = ServerProtocol(max_size=MAX_BYTES)
    protocol.receive_data(HANDSHAKE)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    messages: list[ConnectionMessage] = []
    fragments: list[Frame] = []
    # One byte at a time, so that text which is not UTF-8 ends it before the next frame is parsed.
    for byte in stream:
        if protocol.state is not OPEN:
            break
        protocol.receive_data(bytes((byte,)))
        for event in protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (TEXT, BINARY, CONT):
                continue
            fragments.append(event)
            if not event.fin:
                continue
            data = b"".join(bytes(each.data) for each in fragments)
            is_text = fragments[0].opcode is TEXT
            fragments = []
            if not is_text:
                messages.append(BinaryReceived(len(data)))
                continue
            try:
                data.decode()
            except UnicodeDecodeError as exc:
                protocol.fail(1007, f"{exc.reason} at position {exc.start}")
            else:
                messages.append(TextReceived(data))
    written = protocol.data_to_send()
    ended = protocol.eof_sent
    protocol.receive_eof()
    said = protocol.close_sent
    messages.append(SocketClosed(int(said.code), said.reason) if said else SocketClosed(1006, ""))
    return messages, b"".join(written), ended


@settings(max_examples=200)
@given(chunked_streams())
def test_the_fast_path_changes_nothing_for_any_bytes_in_any_chunks(
    chunks: list[bytes],
) -> None:
    assert received(chunks) == received(chunks, fast=False)


@settings(max_examples=200)
@given(chunked_streams())
def test_any_bytes_in_any_chunks_have_the_same_effect_as_in_the_library(
    chunks: list[bytes],
) -> None:
    assert received(chunks) == received_by_the_library(b"".join(chunks))


@pytest.mark.parametrize("length_bytes", [None, 2, 8])
def test_the_rest_of_a_split_frame_is_not_taken_for_a_new_frame(length_bytes: int | None) -> None:
    payload = b"looks like an empty text frame when masked"
    frame = client_frame(1, payload, mask=LIKE_A_TEXT_FRAME, length_bytes=length_bytes)
    for cut in range(1, len(frame)):
        messages, _, _ = received([frame[:cut], frame[cut:]])
        assert messages == [TextReceived(payload), SocketClosed(1006, "")], cut


def test_a_text_frame_inside_a_fragmented_message_is_a_protocol_error() -> None:
    chunks = [client_frame(1, b"first part", fin=False), text("not the second")]
    expected = SocketClosed(1002, "expected a continuation frame")
    assert received(chunks)[0] == [expected]


@given(st.lists(st.text(max_size=200), min_size=1), st.binary(max_size=3))
def test_whole_text_frames_are_taken_up_to_the_first_other_frame(
    texts: list[str], rest: bytes
) -> None:
    stream = b"".join(map(text, texts))
    frames, taken = whole_text_frames(stream + close() + rest, 1000)
    assert frames == [each.encode() for each in texts]
    assert taken == len(stream)


@pytest.mark.parametrize(
    "other",
    [
        client_frame(1, b"not final", fin=False),
        client_frame(0, b"continued"),
        client_frame(2, b"binary"),
        client_frame(1, b"reserved bit", rsv=4),
        client_frame(1, b"not masked", mask=None),
        client_frame(1, b"\xff\xfe not text"),
        client_frame(1, b"x" * 1001),
        client_frame(1, b"x" * 1001, length_bytes=8),
        client_frame(9, b"ping"),
        text("incomplete")[:-1],
        client_frame(1, b"x" * 500)[:7],
        client_frame(1, b"x" * 500, length_bytes=8)[:13],
        b"\x81",
        b"",
    ],
)
def test_other_frames_are_left_to_the_library(other: bytes) -> None:
    first = text("taken")
    assert whole_text_frames(first + other, 1000) == ([b"taken"], len(first))


def test_whole_text_frames_bypass_the_parser_of_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.new_event_loop()
    socket = MemorySocket(loop=loop)
    socket.opened()
    socket.receive(text("the first"))
    monkeypatch.setattr(MessageProtocol, "receive_data", None)
    socket.receive(text("one") + text("two"))
    assert socket.probe.messages[1:] == [TextReceived(b"one"), TextReceived(b"two")]
    loop.close()


@settings(max_examples=200)
@given(chunked_streams())
def test_the_parser_is_between_messages_exactly_if_a_new_message_can_begin(
    chunks: list[bytes],
) -> None:
    """A further text frame is understood if and only if the parser is between messages."""
    protocol = MessageProtocol(MAX_BYTES)
    protocol.receive_data(HANDSHAKE)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    assert not protocol.is_between_messages()
    protocol.send_response(protocol.accept(request))
    assert not protocol.is_between_messages()
    protocol.receive_data(text("the first"))
    assert protocol.is_between_messages()
    for chunk in chunks:
        protocol.receive_data(chunk)
    protocol.events_received()
    stands_between = protocol.is_between_messages()
    is_open = protocol.state is OPEN
    protocol.receive_data(text("probe"))
    understood = any(
        isinstance(event, Frame) and event.opcode is TEXT and event.data == b"probe"
        for event in protocol.events_received()
    )
    assert stands_between == (is_open and understood)
