"""A good frame is answered although what ends the connection follows it in the same segment."""

from __future__ import annotations

import asyncio

import pytest
from websockets.frames import CLOSE, TEXT

from exai_actors.testing.broker import running_broker
from tests.edges.websocket.client_frames import (
    HANDSHAKE,
    client_frame,
    close,
    server_frames,
    text,
)

ENDINGS = {
    "text that is not UTF-8": (client_frame(1, b"\xff\xfe"), 1007),
    "text cut inside a character": (text(b"\xe2\x82"), 1007),
    "frame without a mask": (client_frame(1, b"x", mask=None), 1002),
    "reserved bit": (client_frame(1, b"x", rsv=4), 1002),
    "unknown opcode": (client_frame(3, b"x"), 1002),
    "continuation of nothing": (client_frame(0, b"x"), 1002),
    "long ping": (client_frame(9, b"x" * 126), 1002),
    "frame above the limit": (client_frame(2, length_bytes=8)[:2] + b"\x7f" * 8 + b"mask", 1009),
    "close": (close(1000), 1000),
}
REQUESTS = {
    "ping": b'{"op":"ping","request_id":"r"}',
    "list of tools": b'{"op":"list_tools","request_id":"r"}',
    "local tool": b'{"op":"call_tool","request_id":"r","name":"echo","arguments":{"text":"x"}}',
    "unknown operation": b'{"op":"nonsense","request_id":"r"}',
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(("ending", "code"), ENDINGS.values(), ids=ENDINGS)
async def test_the_answer_comes_before_the_close(request_: bytes, ending: bytes, code: int) -> None:
    async with running_broker() as broker:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text(b'{"op":"hello"}'))
        await reader.readuntil(b'"session_id"')
        await reader.readuntil(b"}")
        writer.write(text(request_) + ending)
        frames = server_frames(await reader.read())
        writer.close()
        await writer.wait_closed()
    assert [each.opcode for each in frames[-2:]] == [TEXT, CLOSE]
    assert b'"r"' in frames[-2].data
    assert int.from_bytes(frames[-1].data[:2], "big") == code
