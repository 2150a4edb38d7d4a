"""The bridge and the connections that it loses and finds again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio import client
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from exai_actors.daemon.mcp_bridge.bridge import FIRST_GRACE_S, LOST_GRACE_S, Bridge, Host

TOKEN = "a-token-of-sixteen-or-more"
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}


class Desk:
    """A host in memory; ``now`` is the bridge's time."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.now = 0.0
        self.frames: asyncio.Queue[Any] = asyncio.Queue()
        self.reports: asyncio.Queue[str] = asyncio.Queue()
        self.is_full = False
        host = Host(lambda frame: self.frames.put_nowait(json.loads(frame)), lambda: self.is_full)
        self.bridge = Bridge(url, token, host, self.reports.put_nowait, lambda: self.now)

    def ask(self, method: str, params: dict[str, Any] | None = None, id_: int = 1) -> None:
        message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params or {}}
        self.bridge.received(json.dumps(message).encode())

    def call(self, tool: str, arguments: dict[str, Any] | None = None, id_: int = 1) -> None:
        self.ask("tools/call", {"name": tool, "arguments": arguments or {}}, id_)

    async def answer(self) -> Any:
        return await self.frames.get()

    async def text(self) -> str:
        text: str = (await self.answer())["result"]["content"][0]["text"]
        return text


@asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Desk]:
    task = asyncio.create_task(desk.bridge.run())
    try:
        yield desk
    finally:
        desk.bridge.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


Behave = Callable[["Broker", ServerConnection], Awaitable[None]]


class Broker:
    """A broker that a test scripts: ``behave`` is called with each connection after its hello."""

    def __init__(self, behave: Behave) -> None:
        self.hellos: list[Any] = []
        self.calls: list[Any] = []
        self.connections = 0
        self._behave = behave
        self._server: Server

    async def __aenter__(self) -> str:
        self._server = await serve(self._serve, "127.0.0.1", 0)
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def take_call(self, connection: ServerConnection) -> Any:
        frame = json.loads(await connection.recv())
        self.calls.append(frame)
        return frame

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections += 1
        self.hellos.append(json.loads(await connection.recv()))
        await self._behave(self, connection)


ACCEPTED = json.dumps({"op": "hello_ack", "ok": True, "session_id": "s"})


async def answer_calls(broker: Broker, connection: ServerConnection) -> None:
    await connection.send(ACCEPTED)
    while True:
        call = await broker.take_call(connection)
        content = [{"type": "text", "text": f"answer to {call['params']['arguments']}"}]
        result = {"content": content, "isError": False}
        await connection.send(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}))


async def test_the_first_answers_need_no_broker() -> None:
    desk = Desk("ws://127.0.0.1:1")
    desk.ask("initialize", INITIALIZE)
    assert (await desk.answer())["result"]["serverInfo"]["name"] == "exai"
    desk.ask("tools/list")
    assert "chat" in [tool["name"] for tool in (await desk.answer())["result"]["tools"]]
    desk.bridge.received(b"{")
    assert (await desk.answer())["error"]["code"] == -32700
    desk.bridge.received(None)
    assert "too long" in (await desk.answer())["error"]["message"]


async def test_a_call_that_came_before_the_connection_is_answered() -> None:
    broker = Broker(answer_calls)
    async with broker as url:
        desk = Desk(url, TOKEN)
        desk.call("chat", {"prompt": "Hi?"})
        async with running(desk):
            assert await desk.text() == "answer to {'prompt': 'Hi?'}"
            desk.call("chat", {"prompt": "More?"}, id_=2)
            assert await desk.text() == "answer to {'prompt': 'More?'}"
    assert broker.connections == 1
    assert broker.hellos[0]["token"] == TOKEN


async def test_unanswered_calls_are_sent_once_more_under_the_same_key_and_session() -> None:
    async def lose_the_first(broker: Broker, connection: ServerConnection) -> None:
        if broker.connections > 1:
            await answer_calls(broker, connection)
            return
        await connection.send(ACCEPTED)
        await broker.take_call(connection)
        connection.transport.abort()

    broker = Broker(lose_the_first)
    async with broker as url, running(Desk(url)) as desk:
        desk.call("chat", {"prompt": "Hi?"})
        assert await desk.text() == "answer to {'prompt': 'Hi?'}"
        assert await desk.reports.get()
        assert "connected" in await desk.reports.get()
    first, second = broker.calls
    assert first == second
    assert len({hello["session_id"] for hello in broker.hellos}) == 1


class HalfClosed:
    """A connection whose end is noticed by a write before it is by the reader."""

    def __init__(self) -> None:
        self._frames = 0
        self._noticed = asyncio.Event()

    async def __aenter__(self) -> HalfClosed:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def send(self, _frame: bytes, *, text: bool) -> None:
        assert text
        self._frames += 1
        if self._frames > 1:
            self._noticed.set()
            raise ConnectionClosedError(None, None)

    async def __aiter__(self) -> AsyncIterator[str]:
        yield ACCEPTED
        await self._noticed.wait()
        await asyncio.sleep(0)


async def test_an_end_that_a_write_notices_first_is_reported_once_and_the_call_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections: list[Callable[..., Any]] = [lambda *_, **__: HalfClosed(), client.connect]
    monkeypatch.setattr(
        client, "connect", lambda *given, **more: connections.pop(0)(*given, **more)
    )
    async with Broker(answer_calls) as url, running(Desk(url)) as desk:
        desk.call("chat", {"prompt": "Hi?"})
        assert await desk.text() == "answer to {'prompt': 'Hi?'}"
        assert "the connection was closed" in await desk.reports.get()
        assert "connected" in await desk.reports.get()
        assert desk.reports.empty()


async def test_a_call_whose_connection_is_lost_twice_fails() -> None:
    async def lose(broker: Broker, connection: ServerConnection) -> None:
        await connection.send(ACCEPTED)
        await broker.take_call(connection)
        connection.transport.abort()

    broker = Broker(lose)
    async with broker as url, running(Desk(url)) as desk:
        desk.call("chat", {"prompt": "Hi?"})
        answer = await desk.answer()
    assert answer["result"]["isError"] is True
    assert "lost twice" in answer["result"]["content"][0]["text"]
    assert len(broker.calls) == 2


async def test_without_a_broker_a_call_fails_and_says_how_to_start_one() -> None:
    url = "ws://127.0.0.1:1"
    async with running(Desk(url)) as desk:
        report = await desk.reports.get()
        desk.call("chat", {"prompt": "Hi?"})
        desk.now = FIRST_GRACE_S - 0.1
        desk.bridge.tick()
        assert desk.frames.empty()
        desk.now = FIRST_GRACE_S
        desk.bridge.tick()
        answer = await desk.answer()
        assert desk.reports.empty()
    text = answer["result"]["content"][0]["text"]
    assert answer["result"]["isError"] is True
    for said in (report, text):
        assert url in said
        assert "connection refused" in said
        assert "exai serve" in said


async def test_a_call_waits_longer_for_a_broker_that_was_there() -> None:
    gone = asyncio.Event()

    async def vanish(broker: Broker, connection: ServerConnection) -> None:
        await connection.send(ACCEPTED)
        await broker.take_call(connection)
        gone.set()
        await connection.close(1001, "the broker is shutting down")

    broker = Broker(vanish)
    async with broker as url:
        desk = Desk(url)
        task = asyncio.create_task(desk.bridge.run())
        desk.call("chat", {"prompt": "Hi?"})
        await gone.wait()
        await desk.reports.get()
    await desk.reports.get()
    desk.now = LOST_GRACE_S - 0.1
    desk.bridge.tick()
    assert desk.frames.empty()
    desk.now = LOST_GRACE_S
    desk.bridge.tick()
    assert (await desk.answer())["result"]["isError"] is True
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("error", "words"), [("unauthorized", "EXAI_TOKEN"), ("overloaded", "no room here")]
)
async def test_a_refused_client_says_why(error: str, words: str) -> None:
    async def refuse(_: Broker, connection: ServerConnection) -> None:
        ack = {"op": "hello_ack", "ok": False, "error": error, "message": "no room here"}
        await connection.send(json.dumps(ack))
        await connection.close(4003, error)

    async with Broker(refuse) as url, running(Desk(url)) as desk:
        desk.call("chat", {"prompt": "Hi?"})
        assert words in await desk.reports.get()
        desk.now = FIRST_GRACE_S
        desk.bridge.tick()
        answer = await desk.answer()
    assert words in answer["result"]["content"][0]["text"]


async def test_another_kind_of_server_is_reported() -> None:
    async def close_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(close_early, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(Desk(f"ws://127.0.0.1:{port}")) as desk:
        assert "cannot be used" in await desk.reports.get()
    server.close()


async def test_a_host_that_leaves_cancels_its_calls_at_the_broker() -> None:
    cancelled: asyncio.Queue[Any] = asyncio.Queue()

    async def hold(broker: Broker, connection: ServerConnection) -> None:
        await connection.send(ACCEPTED)
        await broker.take_call(connection)
        cancelled.put_nowait("called")
        cancelled.put_nowait(json.loads(await connection.recv()))

    async with Broker(hold) as url, running(Desk(url)) as desk:
        desk.call("chat", {"prompt": "Hi?"})
        await cancelled.get()
        desk.bridge.close()
        await desk.bridge.flush()
        note = await cancelled.get()
    assert note["method"] == "notifications/cancelled"
    assert desk.bridge.unsent == 0


async def test_calls_that_the_end_of_the_input_cuts_short_without_a_broker_say_so() -> None:
    url = "ws://127.0.0.1:1"
    async with running(Desk(url)) as desk:
        desk.call("chat", {"prompt": "Hi?"})
        desk.bridge.close()
        answer = await desk.answer()
    text = answer["result"]["content"][0]["text"]
    assert answer["result"]["isError"] is True
    for said in ("the input ended", url, "exai serve"):
        assert said in text


def test_a_host_that_does_not_read_gets_answers_but_no_reports() -> None:
    frames: list[bytes] = []
    host = Host(frames.append, lambda: True)
    host.send(b"a report")
    host.end(b"an answer", 200)
    assert frames == [b"an answer"]
