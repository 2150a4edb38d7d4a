"""Calls of the bridge whose connection to a real broker breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from exai_actors.testing.broker import running_broker
from exai_actors.testing.config import provider_at
from exai_actors.testing.scripted_replies import Gate, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.mcp_bridge.test_bridge import Desk, running


class Wire:
    """A TCP proxy in front of the broker that a test can cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.loses_answers = False

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self.cut()
            server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(
            self._copy(reader, far_writer),
            self._copy(far_reader, writer, is_answer=True),
            return_exceptions=True,
        )

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool = False
    ) -> None:
        while data := await reader.read(65_536):
            if not (is_answer and self.loses_answers):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def bridged(upstream: ScriptedUpstream) -> AsyncIterator[tuple[Wire, Desk, Any]]:
    config = {"provider": [provider_at(upstream.base_url)]}
    async with (
        running_broker(config) as broker,
        Wire(broker.port).open() as wire,
        running(Desk(wire.url)) as desk,
    ):
        yield wire, desk, broker


async def test_a_call_that_was_cut_off_is_sent_again_and_answered() -> None:
    # The broker may have noticed the end of the first connection before the call comes again, and
    # have aborted it, or not, and then one call answers both.
    gate = Gate()
    async with (
        ScriptedUpstream(default=lambda _: answer(gate, "Hello.")) as upstream,
        bridged(upstream) as (wire, desk, broker),
    ):
        desk.call("chat", {"prompt": "Hi?"})
        await gate.reached()
        wire.cut()
        gate.open()
        assert await desk.text() == "Hello."
        assert (await broker.settled()).in_flight == 0


async def test_a_call_whose_answer_was_lost_does_not_run_twice() -> None:
    async with (
        ScriptedUpstream(answer("Hello."), answer("A second answer.")) as upstream,
        bridged(upstream) as (wire, desk, broker),
    ):
        desk.call("list_models")
        await desk.text()
        wire.loses_answers = True
        desk.call("chat", {"prompt": "Hi?"}, id_=2)
        await upstream.wait_for_completed(1)
        assert (await broker.settled()).in_flight == 0
        wire.loses_answers = False
        wire.cut()
        assert await desk.text() == "Hello."
        upstream.clear_scripts()
