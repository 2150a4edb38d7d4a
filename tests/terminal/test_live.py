"""The feed of a real broker: windows, questions, a refused token, and a broker that restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from exai_actors.client.errors import Unauthorized
from exai_actors.errors import UsageError
from exai_actors.terminal import live
from exai_actors.terminal import recorder as recorder_module
from exai_actors.terminal.live import LiveSource
from exai_actors.terminal.recorder import Recorder
from exai_actors.terminal.replay import Recording
from exai_actors.terminal.source import Window
from exai_actors.testing.broker import running_broker

TIMEOUT_S = 10.0


class Seen:
    """A listener that remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._changed = asyncio.Event()

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()

    def connected(self) -> None:
        self._note("connected")

    def lost(self, why: str) -> None:
        self._note(f"lost: {why}")

    def changed(self, table: str) -> None:
        self._note(f"changed: {table}")

    def refused(self, table: str, why: str) -> None:
        self._note(f"refused: {table}: {why}")

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def call(self, beginning: str) -> None:
        """Wait for a further call with this beginning."""
        self.calls.clear()
        await self.until(lambda: any(call.startswith(beginning) for call in self.calls))


@asynccontextmanager
async def watching(url: str, token: str | None = None) -> AsyncIterator[tuple[LiveSource, Seen]]:
    source, seen = LiveSource(url, token), Seen()
    running = asyncio.ensure_future(source.run(seen))
    try:
        yield source, seen
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_last_of_many_windows_is_the_one_that_comes() -> None:
    async with running_broker({}) as running, watching(running.url) as (source, seen):
        await seen.until(lambda: "connected" in seen.calls)
        for skip in range(30):
            source.watch("actors", Window(skip=skip, limit=5))
        source.watch("actors", Window(sort="-path", limit=1))
        await seen.until(
            lambda: "actors" in source.tables and source.tables["actors"].window.sort == "-path"
        )
        [row] = source.tables["actors"].rows.values()
        assert row[0] == max(each.path for each in running.broker.system.statistics())


async def test_a_query_that_makes_no_sense_is_refused_and_the_next_one_answered() -> None:
    async with running_broker({}) as running, watching(running.url) as (source, seen):
        await seen.until(lambda: "connected" in seen.calls)
        source.watch("actors", Window(filter="nothing>3"))
        await seen.call("refused: actors: there is no column 'nothing'")
        source.watch("actors", Window(filter="broker"))
        await seen.call("changed: actors")


async def test_questions_and_actions_are_answered_or_refused_with_a_reason() -> None:
    async with running_broker({}) as running, watching(running.url) as (source, seen):
        with pytest.raises(UsageError, match="not connected"):
            await source.ask("history")
        await seen.until(lambda: "connected" in seen.calls)
        assert (await source.ask("history"))["every_s"] == 1.0
        with pytest.raises(UsageError, match="there is no question 'weather'"):
            await source.ask("weather")
        with pytest.raises(UsageError, match="needs the role"):
            await source.act({"action": "provider.pause", "targets": ["synthetic"], "reason": "x"})


async def test_a_broker_that_restarts_is_watched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_RETRY_S", 0.02)
    monkeypatch.setattr(live, "LONGEST_RETRY_S", 0.02)
    async with running_broker({}) as running:
        port = running.port
        source, seen = LiveSource(running.url, None), Seen()
        following = asyncio.ensure_future(source.run(seen))
        source.watch("providers", Window())
        await seen.call("changed: providers")
    await seen.call("lost: ")
    with pytest.raises(UsageError, match="not connected"):
        await source.ask("history")
    async with running_broker({"server": {"port": port}}):
        await seen.call("changed: providers")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_broker_that_does_not_read_gets_the_latest_windows_and_no_late_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "ANSWER_S", 1.0)
    reads, all_read = asyncio.Event(), asyncio.Event()
    received: list[dict[str, Any]] = []

    async def serve_slowly(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps({"op": "hello_ack", "ok": True, "tables": {"actors": []}}))
        await reads.wait()
        async for message in socket:
            received.append(json.loads(message))
            if received[-1]["op"] == "watch":
                all_read.set()

    async with serve(serve_slowly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with watching(f"ws://127.0.0.1:{port}") as (source, seen):
            await seen.until(lambda: "connected" in seen.calls)
            long = "x" * 100_000
            asked = [asyncio.ensure_future(source.ask("why", long)) for _ in range(250)]
            errors = await asyncio.gather(*asked, return_exceptions=True)
            for number in range(300):
                source.watch("actors", Window(skip=number, limit=5))
                source.unwatch("actors")
            source.watch("actors", Window(limit=7))
            reads.set()
            async with asyncio.timeout(TIMEOUT_S):
                await all_read.wait()
    texts = {str(error) for error in errors}
    assert texts == {
        "100 messages wait for the broker, which does not read them",
        "the broker did not answer within 1 s",
    }
    assert [each["limit"] for each in received if each["op"] == "watch"] == [7]
    assert len(received) < 150


async def test_a_refused_token_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADA", "token-of-an-operator")
    settings = {"operator": [{"name": "ada", "token_env": "ADA", "role": "viewer"}]}
    async with running_broker(settings) as running:
        with pytest.raises(Unauthorized):
            await LiveSource(running.url, "wrong").run(Seen())


async def test_a_recording_has_all_tables_and_ends_at_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "EVERY_S", 0.25)
    monkeypatch.setattr(recorder_module, "RESYNC_S", 0.0)
    file = tmp_path / "new.exai"
    async with running_broker({}) as running:
        recorder = Recorder(running.url, None, file, 40_000)
        async with asyncio.timeout(TIMEOUT_S):
            await recorder.run()
        recorder.close()
    assert recorder.state == "recording is full"
    assert 20_000 < len(file.read_bytes()) <= 40_000
    recording = Recording(file)
    assert {"broker", "providers", "actors", "events"} <= set(recording.times)
    recording.close()
    with pytest.raises(UsageError, match="exists already"):
        Recorder(running.url, None, file, 60_000)
