"""A client of the op protocol, as a user's script would be, over any carrier of frames."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

ANSWER_TIMEOUT_S = 40.0

Frame = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The pieces of one call in order, and its final frame."""

    pieces: list[str]
    result: Frame

    @property
    def text(self) -> str:
        """The whole answer; AssertionError if the call failed."""
        assert "error" not in self.result, self.result
        text = self.result["text"]
        assert isinstance(text, str)
        return text

    @property
    def error(self) -> Frame:
        """The code, message and details of the error; AssertionError if there is none."""
        error = self.result.get("error")
        assert isinstance(error, dict), self.result
        return error


class FrameClient(ABC):
    """Speaks the op protocol; ``received`` has all received frames in order."""

    def __init__(self) -> None:
        self.received: list[Frame] = []
        self._numbers = itertools.count(1)

    @abstractmethod
    async def send(self, frame: Frame) -> None:
        """Send one frame."""

    @abstractmethod
    async def _receive(self) -> Frame: ...

    async def receive(self) -> Frame:
        """The next frame; AssertionError if the connection ends instead."""
        frame = await self._receive()
        self.received.append(frame)
        return frame

    async def until(self, **fields: Any) -> Frame:
        """Receive up to the first frame that has all of these fields, and return it."""
        while True:
            frame = await self.receive()
            if all(frame.get(name) == value for name, value in fields.items()):
                return frame

    async def hello(self, token: str = "") -> Frame:
        """Send hello as the old clients do, and return the reply."""
        await self.send({"op": "hello", "token": token})
        return await self.receive()

    async def submit(self, request_id: str, *, stream: bool = False, **arguments: Any) -> None:
        """Call ``chat`` without waiting for a reply."""
        frame: Frame = {
            "op": "call_tool",
            "request_id": request_id,
            "name": "chat",
            "arguments": arguments,
        }
        await self.send(frame | ({"stream": True} if stream else {}))

    async def chat(self, *, stream: bool = False, **arguments: Any) -> Answer:
        """Call ``chat`` and receive to its end. No other call may be in flight."""
        request_id = f"call-{next(self._numbers)}"
        await self.submit(request_id, stream=stream, **arguments)
        before = len(self.received)
        result = await self.until(op="call_tool_res", request_id=request_id)
        chunks = [f for f in self.received[before:] if f.get("op") == "stream_chunk"]
        return Answer([chunk["chunk"] for chunk in chunks], result)


class SocketClient(FrameClient):
    """A client in this process, for tests that are not about clients."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__()
        self._socket = socket

    async def send(self, frame: Frame) -> None:
        await self._socket.send(orjson.dumps(frame).decode())

    async def _receive(self) -> Frame:
        frame = orjson.loads(await self._socket.recv())
        assert isinstance(frame, dict), frame
        return frame


@asynccontextmanager
async def session(url: str) -> AsyncIterator[SocketClient]:
    """A connection after its hello."""
    async with connect(url, max_size=None) as socket:
        client = SocketClient(socket)
        acknowledged = await client.hello()
        assert acknowledged["ok"] is True, acknowledged
        yield client
