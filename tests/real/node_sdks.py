"""Calls of the Node SDKs of OpenAI and Anthropic, which run in a process of their own."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

Sdk = Literal["openai", "anthropic"]

ANSWER_TIMEOUT_S = 20.0
MAX_LINE = 2**24


@dataclass(slots=True)
class SdkError:
    """The exception that an SDK has thrown, by the name of its class."""

    name: str
    message: str
    status: int | None = None
    code: str | None = None
    type: str | None = None
    request_id: str | None = None


@dataclass(slots=True)
class Call:
    """One call: the events of its stream so far, and its outcome."""

    number: int
    events: list[Any] = field(default_factory=list)
    value: Any = None
    request_id: str | None = None
    error: SdkError | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_events(self, count: int) -> None:
        """Wait until so many events have arrived; AssertionError if the call ends before."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while len(self.events) < count:
                assert not self.ended.is_set(), self
                self.changed.clear()
                await self.changed.wait()

    async def outcome(self) -> Call:
        """Wait for the end, which may be an error."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self.ended.wait()
        return self

    async def failed(self) -> SdkError:
        """Wait for the exception; AssertionError if the call succeeds."""
        await self.outcome()
        assert self.error is not None, self
        return self.error

    async def succeeded(self) -> Any:
        """Wait for the value; AssertionError with the exception of the SDK if there is one."""
        await self.outcome()
        assert self.error is None, self
        return self.value


class NodeSdks:
    """Starts calls, each with a client of its own that has the options of ``clients``."""

    def __init__(self, writer: asyncio.StreamWriter, clients: dict[Sdk, dict[str, Any]]) -> None:
        self.clients = clients
        self._writer = writer
        self._calls: dict[int, Call] = {}
        self._numbers = itertools.count(1)

    def start(self, sdk: Sdk, method: str, *arguments: Any, result: str = "") -> Call:
        """Call a method such as ``chat.completions.create``; ``result`` is a method of the stream
        that it returns, called at its end.
        """
        call = Call(next(self._numbers))
        self._calls[call.number] = call
        self._send(
            {
                "id": call.number,
                "sdk": sdk,
                "client": self.clients[sdk],
                "method": method,
                "arguments": arguments,
                "result": result,
            }
        )
        return call

    async def call(self, sdk: Sdk, method: str, *arguments: Any, result: str = "") -> Call:
        """The call, when it has ended well."""
        call = self.start(sdk, method, *arguments, result=result)
        await call.succeeded()
        return call

    def abort(self, call: Call) -> None:
        """Abort the call as a program does, by its AbortSignal."""
        self._send({"id": call.number, "abort": True})

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Receive the answers until the connection ends."""
        async for line in reader:
            answer = json.loads(line)
            call = self._calls[answer["id"]]
            if "event" in answer:
                call.events.append(answer["event"])
            else:
                call.value = answer.get("value")
                call.request_id = answer.get("requestId")
                if error := answer.get("error"):
                    call.error = SdkError(
                        error["name"],
                        error["message"],
                        error.get("status"),
                        error.get("code"),
                        error.get("type"),
                        error.get("requestId"),
                    )
                call.ended.set()
            call.changed.set()

    def _send(self, words: dict[str, Any]) -> None:
        self._writer.write(json.dumps(words).encode() + b"\n")


@asynccontextmanager
async def node_sdks(
    port: int, broker_port: int, *, api_key: str = "any", **options: Any
) -> AsyncIterator[NodeSdks]:
    """The SDKs of the process at ``port``, pointed at a broker; ``options`` are those of clients.

    The end of the block aborts its calls.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MAX_LINE)
    address = f"http://127.0.0.1:{broker_port}"
    common = {"apiKey": api_key, **options}
    sdks = NodeSdks(
        writer,
        {
            "openai": {"baseURL": f"{address}/v1", **common},
            "anthropic": {"baseURL": address, **common},
        },
    )
    reading = asyncio.create_task(sdks.read(reader))
    try:
        yield sdks
    finally:
        writer.close()
        await reading
