"""A scripted server for the client, with behaviour that a real broker never shows.

It can fall silent, vanish, or send invalid frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection, serve

HELLO_ACK = {"op": "hello_ack", "ok": True, "session_id": "session-1"}


class ScriptedPeer:
    """Answers hello with ``hello_ack``; the test sends everything else."""

    def __init__(self, hello_ack: dict[str, Any] | bytes | None) -> None:
        self.port = 0
        self._hello_ack = hello_ack
        self._frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sockets: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self._socket: ServerConnection | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def receive(self, op: str) -> dict[str, Any]:
        """The next frame from the client, whose op must be ``op``."""
        async with asyncio.timeout(5):
            frame = await self._frames.get()
        assert frame["op"] == op, frame
        return frame

    def expect_silence(self) -> None:
        """Assert that every frame was taken by ``receive``."""
        assert self._frames.empty(), self._frames.get_nowait()

    async def send(self, frame: dict[str, Any] | str | bytes) -> None:
        data = orjson.dumps(frame) if isinstance(frame, dict) else frame
        await (await self.socket()).send(data, text=True)

    async def answer(self, request_id: str, text: str, **more: Any) -> None:
        outputs = [{"type": "text", "text": text}]
        frame = {"op": "call_tool_res", "request_id": request_id, "ok": True, "outputs": outputs}
        await self.send({**frame, "text": text, **more})

    async def chunk(self, request_id: str, sequence: int, text: str) -> None:
        frame = {"op": "stream_chunk", "request_id": request_id, "sequence": sequence}
        await self.send({**frame, "chunk": text})

    async def refuse(self, request_id: str, code: str, **details: Any) -> None:
        error = {"code": code, "message": "no", "details": details}
        await self.send({"op": "call_tool_res", "request_id": request_id, "error": error})

    async def socket(self) -> ServerConnection:
        """The connection of the latest client."""
        if self._socket is None or not self._sockets.empty():
            self._socket = await self._sockets.get()
        return self._socket

    async def _serve(self, socket: ServerConnection) -> None:
        self._sockets.put_nowait(socket)
        async for message in socket:
            frame = orjson.loads(message)
            self._frames.put_nowait(frame)
            if frame["op"] == "hello" and self._hello_ack is not None:
                ack = self._hello_ack
                await socket.send(ack if isinstance(ack, bytes) else orjson.dumps(ack), text=True)


@asynccontextmanager
async def scripted_peer(
    hello_ack: dict[str, Any] | bytes | None = HELLO_ACK,
) -> AsyncIterator[ScriptedPeer]:
    peer = ScriptedPeer(hello_ack)
    async with serve(peer._serve, "127.0.0.1", 0, compression=None, close_timeout=0.2) as server:
        peer.port = next(iter(server.sockets)).getsockname()[1]
        yield peer
