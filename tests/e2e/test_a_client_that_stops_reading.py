"""A client that stops reading its stream delays no other client, and loses nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from exai_actors.testing.broker import running_broker
from exai_actors.testing.scripted_replies import answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.edges.websocket.client_frames import HANDSHAKE, text

# Together more than the sockets between service, broker and client hold.
PIECE = "x" * 100_000
PIECES = 200
ASK = {"op": "call_tool", "request_id": "slow", "name": "chat", "stream": True}


class SlowClient:
    """A client that reads only when it is told to, into a small buffer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, frame: dict[str, Any]) -> None:
        self._writer.write(text(orjson.dumps(frame)))

    async def next(self) -> dict[str, Any]:
        """The next frame."""
        head = await self._reader.readexactly(2)
        size = head[1]
        if size >= 126:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        frame: dict[str, Any] = orjson.loads(await self._reader.readexactly(size))
        return frame


@asynccontextmanager
async def slow_client(port: int) -> AsyncIterator[SlowClient]:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=client)
    try:
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        slow = SlowClient(reader, writer)
        slow.send({"op": "hello"})
        assert (await slow.next())["ok"]
        yield slow
    finally:
        writer.transport.abort()


async def test_a_client_that_stops_reading_delays_no_other() -> None:
    async with ScriptedUpstream(answer(*[PIECE] * PIECES)) as upstream:
        provider = {"name": "kimi", "kind": "openai", "base_url": upstream.base_url, "limit": 2}
        async with (
            running_broker({"provider": [provider]}) as broker,
            slow_client(broker.port) as slow,
        ):
            slow.send(ASK | {"arguments": {"prompt": "a flood"}})
            await upstream.wait_for_started()
            async with broker.connect() as other:
                before = -1
                while before != (before := upstream.requests[0].steps_done):
                    for number in range(20):
                        # The default reply is an echo.
                        async with other.stream("chat", prompt=f"number {number}") as stream:
                            pieces = [piece async for piece in stream]
                        assert "".join(pieces) == f"echo: number {number}"
            assert upstream.requests[0].steps_done < PIECES, "the flood was read to its end"
            frames = [await slow.next()]
            while frames[-1]["op"] != "call_tool_res":
                frames.append(await slow.next())
    chunks = [frame for frame in frames if frame["op"] == "stream_chunk"]
    assert [frame["sequence"] for frame in chunks] == list(range(len(chunks)))
    assert "".join(frame["chunk"] for frame in chunks) == PIECE * PIECES == frames[-1]["text"]
    assert max(len(frame["chunk"]) for frame in chunks) > 500_000, "pieces were merged"
