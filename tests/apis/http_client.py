"""A client of the broker's HTTP APIs on a plain socket: it sees every byte, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from exai_actors.testing.broker import RunningBroker, running_broker
from exai_actors.testing.scripted_upstream import ScriptedUpstream

MODEL = "scripted-model"
EVENT_STREAM = "text/event-stream"


class Answer:
    """A response that arrives; ``is_clean`` is None until it has ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = b""
        self.is_clean: bool | None = None

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    async def head(self) -> Answer:
        """Wait for the head."""
        raw = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        line, *fields = raw.decode("latin-1").split("\r\n")
        self.status = int(line.split(" ", 2)[1])
        named = (field.partition(": ") for field in fields if field)
        self.fields = {name.lower(): value for name, _, value in named}
        return self

    async def piece(self) -> bytes:
        """The next chunk of the body; empty at its end, however it ends."""
        try:
            size = int(await asyncio.wait_for(self._reader.readuntil(b"\r\n"), 10), 16)
            data = (await self._reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_clean = False
            return b""
        self.body += data
        if not data:
            self.is_clean = True
        return data

    async def whole(self) -> Answer:
        """Read to the end."""
        if not self.status:
            await self.head()
        if "content-length" in self.fields:
            try:
                length = int(self.fields["content-length"])
                self.body = await asyncio.wait_for(self._reader.readexactly(length), 10)
                self.is_clean = True
            except (asyncio.IncompleteReadError, ConnectionError):
                self.is_clean = False
        else:
            while await self.piece():
                pass
        return self

    def leave(self) -> None:
        """Close the connection."""
        self._writer.close()


class Client:
    """Sends requests to one broker, each on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._answers: list[Answer] = []

    async def raw(self, request: bytes) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = Answer(reader, writer)
        self._answers.append(answer)
        return answer

    async def ask(
        self, method: str, path: str, body: bytes = b"", fields: Mapping[str, str] | None = None
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return await self.raw("\r\n".join([*lines, "", ""]).encode() + body)

    async def post(self, path: str, content: Any, **fields: str) -> Answer:
        """Send a body; an underscore in the name of a field stands for a hyphen."""
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return await self.ask("POST", path, body, {"Content-Type": "application/json", **named})

    async def post_in_pieces(
        self, path: str, pieces: Sequence[bytes], *, chunked: bool = False
    ) -> Answer:
        """Send a body by several writes, each a chunk or a part of the announced length."""
        length = f"Content-Length: {sum(map(len, pieces))}"
        framing = "Transfer-Encoding: chunked" if chunked else length
        lines = f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", framing
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
        answer = Answer(reader, writer)
        self._answers.append(answer)
        return answer

    async def get(self, path: str, **fields: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return await (await self.ask("GET", path, b"", named)).whole()

    def close(self) -> None:
        for answer in self._answers:
            answer.leave()


class Setting:
    """A broker, its service, and a client of its APIs."""

    def __init__(self, service: ScriptedUpstream, broker: RunningBroker) -> None:
        self.service = service
        self.broker = broker
        self.client = Client(broker.port)

    async def until_queued(self, count: int) -> None:
        """Wait until so many requests wait for the service."""
        async with asyncio.timeout(10):
            # Statistics can only be polled.
            while self.broker.statistics().providers[0].queued != count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def until_waiting(self, count: int) -> None:
        """Wait until so many requests wait in their sessions."""
        overview = self.broker.broker._tree.overview
        async with asyncio.timeout(10):
            while sum(each.waiting for each in overview.sessions()) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def settled(self) -> None:
        """Wait until no request is in flight, and check that no permit is held."""
        statistics = await self.broker.settled()
        (provider,) = statistics.providers
        assert (provider.in_flight, provider.queued) == (0, 0)


@asynccontextmanager
async def serving(
    *replies: Any,
    http: Mapping[str, Any] | None = None,
    limit: int = 1,
    logging: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    session: Mapping[str, Any] | None = None,
    **provider: Any,
) -> AsyncIterator[Setting]:
    """A broker with one service that has all families, and further tables for it."""
    async with ScriptedUpstream(*replies) as service:
        table = {
            "name": "scripted",
            "kind": "openai",
            "base_url": service.base_url,
            "models": [MODEL],
            "families": ["chat", "messages", "responses", "embeddings"],
            "limit": limit,
            **provider,
        }
        settings = {"retry_grace_s": 0, **(http or {})}
        tables = {"provider": [table], "http": settings}
        more = {"logging": logging, "server": server, "session": session}
        tables.update({name: table for name, table in more.items() if table})
        async with running_broker(tables) as broker:
            setting = Setting(service, broker)
            try:
                yield setting
            finally:
                setting.client.close()
                with contextlib.suppress(AssertionError):
                    await broker.settled()


def chat(text: str = "hi", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    messages = [{"role": "user", "content": text}]
    body: dict[str, Any] = {"model": MODEL, "messages": messages, **more}
    return {**body, "stream": True} if stream else body


def event(content: dict[str, Any], name: str = "") -> bytes:
    """One event of a stream, named as its type unless it is of a chat."""
    kind = name or str(content.get("type", ""))
    return (f"event: {kind}\n".encode() if kind else b"") + b"data: %b\n\n" % orjson.dumps(content)


def piece(text: str, reason: str | None = None) -> bytes:
    """An event of a streamed chat completion."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]})
