"""HttpUpstream reports whether a call was cut off before the service had finished it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohappyeyeballs
import pytest

from exai_actors.edges.http import direct_client
from exai_actors.messages.provider import UpstreamEnded
from exai_actors.testing.scripted_replies import HANG, Reply, answer, body, hang
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.edges.http.calling import StartedCall, caller_for


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as started:
        yield started


async def is_cut_off(started: StartedCall) -> bool:
    return (await started.probe.expect_eventually(UpstreamEnded)).cut_off


async def test_an_aborted_call_without_an_answer_is_cut_off(upstream: ScriptedUpstream) -> None:
    upstream.then(hang())
    async with caller_for(upstream.base_url) as caller:
        started = caller.start()
        await upstream.wait_for_started()
        started.call.abort()
        assert await is_cut_off(started)


async def test_an_aborted_stream_is_cut_off(upstream: ScriptedUpstream) -> None:
    upstream.then(answer("Hel", HANG))
    async with caller_for(upstream.base_url) as caller:
        started = caller.start()
        await started.piece()
        started.call.abort()
        assert await is_cut_off(started)


@pytest.mark.parametrize(
    ("reply", "options"),
    [
        (hang(), {"first_byte_timeout_s": 0.02}),
        (answer("Hel", HANG), {"idle_timeout_s": 0.02}),
        (answer("Hel", HANG), {"total_timeout_s": 0.02}),
        (answer("x" * 10_000, HANG), {"max_answer_bytes": 1024}),
    ],
)
async def test_a_call_that_we_give_up_is_cut_off(
    upstream: ScriptedUpstream, reply: Reply, options: dict[str, Any]
) -> None:
    upstream.then(reply)
    async with caller_for(upstream.base_url, **options) as caller:
        assert await is_cut_off(caller.start())


@pytest.mark.parametrize("reply", [answer("whole"), body(b"{}", status=500), body(b"no JSON")])
async def test_a_call_that_the_service_has_finished_is_not_cut_off(
    upstream: ScriptedUpstream, reply: Reply
) -> None:
    upstream.then(reply)
    async with caller_for(upstream.base_url) as caller:
        assert not await is_cut_off(caller.start(stream=False))


async def test_an_answer_whose_body_never_ends_is_not_cut_off(upstream: ScriptedUpstream) -> None:
    # After [DONE] the service has finished, though its connection cannot be used again.
    upstream.then(answer("whole", b"data: [DONE]\n\n", HANG, done=False))
    async with caller_for(upstream.base_url) as caller:
        assert not await is_cut_off(caller.start())


async def test_a_call_that_never_began_is_not_cut_off(upstream: ScriptedUpstream) -> None:
    async with caller_for(upstream.base_url) as caller:
        started = caller.start()
        started.call.abort()
        assert not await is_cut_off(started)


async def test_a_call_whose_connection_the_service_closed_is_not_cut_off() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with caller_for(f"http://127.0.0.1:{port}/v1") as caller:
            assert not await is_cut_off(caller.start())


@pytest.mark.parametrize(
    "response",
    [
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n",
    ],
)
async def test_a_call_whose_response_breaks_a_rule_is_cut_off(response: bytes) -> None:
    async def answer_badly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer_badly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with caller_for(f"http://127.0.0.1:{port}/v1") as caller:
            assert await is_cut_off(caller.start())


async def test_a_refused_connection_is_not_cut_off() -> None:
    async with caller_for("http://127.0.0.1:1/v1") as caller:
        assert not await is_cut_off(caller.start())


async def test_the_round_trip_is_the_time_of_the_fastest_new_connection(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with caller_for(upstream.base_url) as caller:
        service = caller.upstream
        assert service.round_trip_s == 0.0
        await caller.start().end()
        first = service.round_trip_s
        assert 0 < first < 5
        await caller.start("on the pooled connection").end()
        assert service.round_trip_s == first

        connect = aiohappyeyeballs.start_connection

        async def connect_slowly(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(first)
            return await connect(*args, **options)

        monkeypatch.setattr(direct_client, "start_connection", connect_slowly)
        await asyncio.gather(*(caller.start().end() for _ in range(2)))
        assert upstream.connections == 2
        assert service.round_trip_s == first


@pytest.mark.parametrize("ends", ["abort", "timeout"])
async def test_a_call_that_never_had_a_connection_is_not_cut_off(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    connecting = asyncio.Event()

    async def connect(*_: Any, **__: Any) -> None:
        connecting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(direct_client, "start_connection", connect)
    limit_s = 0.01 if ends == "timeout" else 50.0
    async with caller_for("http://127.0.0.1:1/v1", connect_timeout_s=limit_s) as caller:
        started = caller.start()
        await connecting.wait()
        if ends == "abort":
            started.call.abort()
        assert not await is_cut_off(started)
