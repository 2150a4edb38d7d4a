"""Streams: pieces in order, then the result; leaving the loop cancels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from exai_actors.client import (
    BrokerClient,
    ConnectionLost,
    ProviderError,
    RequestCancelled,
    RequestTimeout,
    StreamGap,
    UsageError,
    connect,
)
from tests.client.scripted_peer import ScriptedPeer, scripted_peer


@pytest.fixture
async def peer() -> AsyncIterator[ScriptedPeer]:
    async with scripted_peer() as peer:
        yield peer


@pytest.fixture
async def broker(peer: ScriptedPeer) -> AsyncIterator[BrokerClient]:
    async with connect(peer.url, max_unread=100) as broker:
        await peer.receive("hello")
        yield broker


async def _collect(broker: BrokerClient, request_id: str = "s") -> list[str]:
    return [piece async for piece in broker.stream("chat", request_id=request_id)]


async def _begun(peer: ScriptedPeer) -> None:
    frame = await peer.receive("call_tool")
    assert frame["stream"] is True


async def test_pieces_come_in_order_before_the_result(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    stream = broker.stream("chat", prompt="hi", request_id="s")

    async def read() -> list[str]:
        return [piece async for piece in stream]

    reading = asyncio.create_task(read())
    await _begun(peer)
    with pytest.raises(UsageError, match="after the last piece"):
        _ = stream.result
    await peer.chunk("s", 0, "Hel")
    await peer.chunk("s", 1, "lo")
    await peer.send({"op": "stream_complete", "request_id": "s"})
    await peer.answer("s", "Hello")
    assert await reading == ["Hel", "lo"]
    assert stream.result.text == "Hello"
    peer.expect_silence()


async def test_reasoning_comes_apart_from_the_pieces(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    reasoning: list[str] = []
    stream = broker.stream("chat", prompt="hi", request_id="s", on_reasoning=reasoning.append)

    async def read() -> list[str]:
        return [piece async for piece in stream]

    reading = asyncio.create_task(read())
    frame = await peer.receive("call_tool")
    assert frame["stream_reasoning"] is True
    for number, piece in enumerate(["let me ", "think"]):
        await peer.send(
            {"op": "reasoning_chunk", "request_id": "s", "chunk": piece, "sequence": number}
        )
    await peer.chunk("s", 2, "42")
    await peer.answer("s", "42")
    assert await reading == ["42"]
    assert reasoning == ["let me ", "think"]


async def test_without_the_function_no_reasoning_is_asked_for(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    reading = asyncio.create_task(_collect(broker))
    assert "stream_reasoning" not in await peer.receive("call_tool")
    await peer.answer("s", "42")
    assert await reading == ["42"]


async def test_nothing_is_sent_before_the_iteration_begins(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    broker.stream("chat", prompt="never read")
    pinging = asyncio.create_task(broker.ping())
    await peer.send({"op": "pong", "request_id": (await peer.receive("ping"))["request_id"]})
    await pinging


async def test_a_break_cancels_the_call(peer: ScriptedPeer, broker: BrokerClient) -> None:
    stream = broker.stream("chat", request_id="s")

    async def first() -> str:
        got = ""
        async for piece in stream:
            got = piece
            break
        return got

    reading = asyncio.create_task(first())
    await _begun(peer)
    await peer.chunk("s", 0, "one")
    assert await reading == "one"
    assert (await peer.receive("cancel"))["request_id"] == "s"


async def test_an_exception_in_the_loop_cancels_the_call(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    async def fail() -> None:
        async for piece in broker.stream("chat", request_id="s"):
            raise LookupError(piece)

    reading = asyncio.create_task(fail())
    await _begun(peer)
    await peer.chunk("s", 0, "one")
    with pytest.raises(LookupError, match="one"):
        await reading
    assert (await peer.receive("cancel"))["request_id"] == "s"


async def test_cancelling_the_reading_task_cancels_the_call(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    reading = asyncio.create_task(_collect(broker))
    await _begun(peer)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError) as kept:
        await reading
    assert (await peer.receive("cancel"))["request_id"] == "s"
    assert kept.tb is not None


async def test_the_end_of_a_with_block_cancels_an_unfinished_stream(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    async with broker.stream("chat", request_id="s") as stream:
        await _begun(peer)
        pieces = aiter(stream)
        await peer.chunk("s", 0, "one")
        assert await anext(pieces) == "one"
    assert (await peer.receive("cancel"))["request_id"] == "s"


async def test_closing_a_stream_ends_the_task_that_reads_it(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    stream = broker.stream("chat", request_id="s")

    async def read() -> list[str]:
        return [piece async for piece in stream]

    reading = asyncio.create_task(read())
    await _begun(peer)
    await stream.aclose()
    with pytest.raises(RequestCancelled, match="abandoned"):
        await reading
    assert (await peer.receive("cancel"))["request_id"] == "s"


async def test_a_stream_read_to_its_end_is_not_cancelled(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    async with broker.stream("chat", request_id="s") as stream:
        await _begun(peer)
        await peer.answer("s", "all")
        assert [piece async for piece in stream] == ["all"]
    pinging = asyncio.create_task(broker.ping())
    await peer.send({"op": "pong", "request_id": (await peer.receive("ping"))["request_id"]})
    await pinging


async def test_a_stream_can_be_iterated_only_once(peer: ScriptedPeer, broker: BrokerClient) -> None:
    async with broker.stream("chat", request_id="s") as stream:
        await peer.answer("s", "all")
        assert [piece async for piece in stream] == ["all"]
        with pytest.raises(UsageError, match="iterated only once"):
            aiter(stream)


async def test_a_tool_that_does_not_stream_returns_one_piece(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    reading = asyncio.create_task(_collect(broker))
    await _begun(peer)
    await peer.answer("s", "0.1.0")
    assert await reading == ["0.1.0"]


async def test_a_failed_stream_raises_after_its_pieces(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    got: list[str] = []

    async def read() -> None:
        async for piece in broker.stream("chat", request_id="s"):
            got.extend([piece])

    reading = asyncio.create_task(read())
    await _begun(peer)
    await peer.chunk("s", 0, "half")
    await peer.refuse("s", "PROVIDER_ERROR")
    with pytest.raises(ProviderError):
        await reading
    assert got == ["half"]


async def test_a_lost_connection_ends_a_stream(peer: ScriptedPeer, broker: BrokerClient) -> None:
    reading = asyncio.create_task(_collect(broker))
    await _begun(peer)
    (await peer.socket()).transport.abort()
    with pytest.raises(ConnectionLost):
        await reading


async def test_a_stream_has_its_own_timeout(peer: ScriptedPeer, broker: BrokerClient) -> None:
    with pytest.raises(RequestTimeout):
        async for _ in broker.stream("chat", request_id="s", timeout_s=0.05):
            pass
    await _begun(peer)
    assert (await peer.receive("cancel"))["request_id"] == "s"


async def test_an_unread_stream_blocks_no_other_call_and_loses_no_text(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    text = "".join(f"<{n}>" for n in range(1_000))
    async with broker.stream("chat", request_id="s") as unread:
        await _begun(peer)
        for n in range(1_000):
            await peer.chunk("s", n, f"<{n}>")
        other = asyncio.create_task(broker.call("chat", request_id="other"))
        await peer.receive("call_tool")
        await peer.answer("other", "quick")
        assert (await other).text == "quick"
        await peer.answer("s", text)
        pieces = [piece async for piece in unread]
    assert "".join(pieces) == text
    assert sum(map(len, pieces[:-1])) <= 100


async def test_missing_pieces_come_at_the_end(peer: ScriptedPeer, broker: BrokerClient) -> None:
    reading = asyncio.create_task(_collect(broker))
    await _begun(peer)
    await peer.chunk("s", 0, "a")
    await peer.chunk("s", 2, "c")
    await peer.answer("s", "abcd")
    assert await reading == ["a", "bcd"]


async def test_a_gap_that_the_result_cannot_fill_is_an_error(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    async with broker.stream("chat", request_id="s") as stream:
        await _begun(peer)
        await peer.chunk("s", 0, "plain")
        await peer.chunk("s", 2, "lost")
        await peer.answer("s", '{"content": "plain and lost"}')
        with pytest.raises(StreamGap, match="after 5 characters"):
            _ = [piece async for piece in stream]
        assert stream.result.text == '{"content": "plain and lost"}'
