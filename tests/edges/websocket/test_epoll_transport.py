"""What a protocol may rely on: the same on our transport and on asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.edges.websocket.served import KINDS, Recorder, Served, read_all, read_exactly, served

BIG = bytes(range(256)) * 40_000


@pytest.fixture
def faults() -> list[dict[str, Any]]:
    """What the loop had to report."""
    return []


@pytest.fixture(params=KINDS)
async def it(request: pytest.FixtureRequest, faults: list[dict[str, Any]]) -> AsyncIterator[Served]:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with served(request.param) as it:
        yield it


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


async def test_data_comes_after_the_introduction_and_the_end_comes_last(it: Served) -> None:
    client = it.connect()
    client.send(b"sent at once")
    client.close()
    await it.has_made(1)
    await it.recorders[0].lost()
    assert it.recorders[0].calls == ["made", b"sent at once", "eof", "lost"]
    assert it.recorders[0].exc is None


async def test_small_writes_and_none_arrive_in_order(it: Served) -> None:
    client, recorder = await it.connected()
    for data in (b"one", b"", bytearray(b"two"), memoryview(b"three")):
        recorder.transport.write(data)
    assert recorder.transport.get_write_buffer_size() == 0
    assert await read_exactly(client, 11) == b"onetwothree"


async def test_what_the_client_does_not_read_yet_is_sent_later_and_told_at_the_marks(
    it: Served,
) -> None:
    client, recorder = await it.connected()
    recorder.transport.set_write_buffer_limits(high=100_000, low=50_000)
    recorder.transport.write(BIG)
    assert recorder.calls == ["made", "pause"]
    recorder.transport.write(b"and this")
    assert recorder.transport.get_write_buffer_size() > 100_000
    assert await read_exactly(client, len(BIG) + 8) == BIG + b"and this"
    await recorder.until(lambda: recorder.transport.get_write_buffer_size() == 0)
    assert recorder.calls == ["made", "pause", "resume"]
    recorder.transport.write(b"at once again")
    assert recorder.transport.get_write_buffer_size() == 0
    assert await read_exactly(client, 13) == b"at once again"


async def test_a_write_does_not_overtake_what_waits_though_there_is_room_again(it: Served) -> None:
    client, recorder = await it.connected()
    recorder.transport.write(BIG)
    read = bytearray()
    with contextlib.suppress(BlockingIOError):
        while piece := client.recv(1 << 20):
            read += piece
    recorder.transport.write(b"tail")
    read += await read_exactly(client, len(BIG) + 4 - len(read))
    assert read == BIG + b"tail"


async def test_readiness_that_turns_out_to_be_nothing_is_passed_over(it: Served) -> None:
    client, recorder = await it.connected()
    other_client, other = await it.connected()

    def steal_the_others_data(recorder: Recorder) -> None:
        victim = other if recorder is not other else it.recorders[0]
        with socket.socket(
            fileno=os.dup(victim.transport.get_extra_info("socket").fileno())
        ) as same:
            same.recv(100)
        recorder.on_data = victim.on_data = lambda _: None

    recorder.on_data = other.on_data = steal_the_others_data
    client.send(b"stolen or not")
    other_client.send(b"stolen or not")
    await it.settled()
    assert sorted([recorder.data, other.data]) == [b"", b"stolen or not"]
    for each in (client, other_client):
        each.send(b", and more")
    await recorder.until(lambda: recorder.data.endswith(b", and more"))
    await other.until(lambda: other.data.endswith(b", and more"))


async def test_closing_sends_what_waits_first(it: Served) -> None:
    client, recorder = await it.connected()
    recorder.transport.write(BIG)
    recorder.transport.close()
    recorder.transport.close()
    assert recorder.transport.is_closing()
    assert not recorder.transport.is_reading()
    recorder.transport.write(b"last words")
    assert await read_exactly(client, len(BIG) + 10) == BIG + b"last words"
    await recorder.lost()
    assert recorder.calls == ["made", "pause", "resume", "lost"]
    assert recorder.exc is None


async def test_aborting_forgets_what_waits(it: Served) -> None:
    client, recorder = await it.connected()
    recorder.transport.write(BIG)
    recorder.transport.abort()
    assert recorder.transport.get_write_buffer_size() == 0
    recorder.transport.write(b"nobody hears")
    await recorder.lost()
    assert len(await read_all(client)) < len(BIG)
    assert recorder.calls == ["made", "pause", "lost"]


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_end_is_told_once_and_never_from_inside_a_call(it: Served, end: str) -> None:
    def leave(recorder: Recorder) -> None:
        recorder.is_inside = True
        getattr(recorder.transport, end)()
        recorder.transport.abort()
        recorder.transport.write(b"x")
        recorder.is_inside = False

    _, recorder = await it.connected()
    leave(recorder)
    await recorder.lost()
    leave(recorder)
    await asyncio.sleep(0)
    assert recorder.calls == ["made", "lost"]


async def test_a_protocol_may_refuse_its_connection_when_introduced(it: Served) -> None:
    it.prepare = lambda recorder: setattr(
        recorder, "on_made", lambda recorder: recorder.transport.abort()
    )
    client, recorder = await it.connected()
    await recorder.lost()
    assert await read_all(client) == b""
    assert recorder.calls == ["made", "lost"]


async def test_a_protocol_may_begin_without_reading(it: Served) -> None:
    it.prepare = lambda recorder: setattr(
        recorder, "on_made", lambda recorder: recorder.transport.pause_reading()
    )
    client, recorder = await it.connected()
    client.send(b"later")
    await it.settled()
    assert recorder.calls == ["made"]
    recorder.transport.resume_reading()
    await recorder.until(lambda: recorder.data == b"later")


async def test_nothing_is_read_while_paused_and_nothing_is_lost(it: Served) -> None:
    client, recorder = await it.connected()
    recorder.on_data = lambda recorder: recorder.transport.pause_reading()
    client.send(b"first")
    await recorder.until(lambda: recorder.data == b"first")
    assert not recorder.transport.is_reading()
    client.send(b" second")
    client.shutdown(socket.SHUT_WR)
    await it.settled()
    assert recorder.calls == ["made", b"first"]
    recorder.transport.resume_reading()
    await recorder.until(lambda: recorder.data == b"first second")
    recorder.transport.resume_reading()
    await recorder.lost()
    assert recorder.calls == ["made", b"first second", "eof", "lost"]


async def test_a_half_closed_client_gets_its_answer_when_the_protocol_wants(it: Served) -> None:
    client, recorder = await it.connected()
    recorder.on_eof = lambda recorder: True
    client.shutdown(socket.SHUT_WR)
    await recorder.until(lambda: "eof" in recorder.calls)
    for _ in range(3):
        await asyncio.sleep(0)
    recorder.transport.write(BIG)
    assert await read_exactly(client, len(BIG)) == BIG
    recorder.transport.close()
    await recorder.lost()
    assert recorder.calls == ["made", "eof", "pause", "resume", "lost"]


async def test_otherwise_it_gets_what_was_written_and_the_end(it: Served) -> None:
    client, recorder = await it.connected()
    recorder.on_eof = lambda recorder: recorder.transport.write(BIG)
    client.shutdown(socket.SHUT_WR)
    assert await read_all(client) == BIG
    await recorder.lost()
    assert recorder.calls == ["made", "eof", "pause", "resume", "lost"]


@pytest.mark.parametrize("data", [b"short", BIG])
async def test_the_end_of_our_stream_comes_behind_all_data_and_reading_goes_on(
    it: Served, data: bytes
) -> None:
    client, recorder = await it.connected()
    assert recorder.transport.can_write_eof()
    recorder.transport.write(data)
    recorder.transport.write_eof()
    recorder.transport.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        recorder.transport.write(b"more")
    assert await read_all(client) == data
    client.send(b"still heard")
    await recorder.until(lambda: recorder.data == b"still heard")


async def test_a_reset_is_the_error_that_the_protocol_is_told(it: Served) -> None:
    client, recorder = await it.connected()
    reset(client)
    await recorder.lost()
    assert recorder.calls == ["made", "lost"]
    assert isinstance(recorder.exc, ConnectionResetError)


async def test_a_reset_before_all_was_sent_ends_the_writing(it: Served) -> None:
    client, recorder = await it.connected()
    recorder.transport.write(BIG)
    recorder.transport.pause_reading()
    reset(client)
    await recorder.lost()
    assert recorder.calls == ["made", "pause", "lost"]
    assert isinstance(recorder.exc, OSError)


async def test_writing_to_a_socket_that_was_reset_ends_it_without_an_error_to_the_writer(
    it: Served,
) -> None:
    client, recorder = await it.connected()
    recorder.transport.pause_reading()
    reset(client)
    for _ in range(3):
        recorder.transport.write(b"anybody?")
    await recorder.lost()
    assert recorder.calls == ["made", "lost"]
    assert isinstance(recorder.exc, OSError)


@pytest.mark.parametrize("event", ["made", "data", "eof"])
async def test_a_protocol_that_raises_ends_its_own_connection_and_is_reported(
    it: Served, faults: list[dict[str, Any]], event: str
) -> None:
    def fail(_recorder: Recorder) -> None:
        raise ValueError("a bug")

    other_client, other = await it.connected()
    if event != "made":
        it.prepare = lambda recorder: setattr(recorder, f"on_{event}", fail)
    client, failing = await it.connected()
    if event == "made":
        # asyncio reports this one and reads all the same; ending it is what its last rites show.
        failing.transport.abort()
    elif event == "data":
        client.send(b"x")
    else:
        client.shutdown(socket.SHUT_WR)
    await failing.lost()
    other_client.send(b"still here")
    await other.until(lambda: other.data == b"still here")
    if event != "made":
        assert isinstance(failing.exc, ValueError)
        assert [str(fault["exception"]) for fault in faults] == ["a bug"]


async def test_a_protocol_that_raises_at_a_mark_is_reported_and_goes_on(
    it: Served, faults: list[dict[str, Any]]
) -> None:
    def fail(_recorder: Recorder) -> None:
        raise ValueError("a bug")

    client, recorder = await it.connected()
    recorder.on_pause = fail
    recorder.transport.write(BIG)
    assert await read_exactly(client, len(BIG)) == BIG
    assert [str(fault["exception"]) for fault in faults] == ["a bug"]
    assert not recorder.transport.is_closing()


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [
        ({}, 16 * 1024, 64 * 1024),
        ({"high": 1000}, 250, 1000),
        ({"low": 1000}, 1000, 4000),
        ({"high": 0}, 0, 0),
        ({"high": 1000, "low": 1000}, 1000, 1000),
    ],
)
async def test_the_marks_are_what_asyncio_makes_of_them(
    it: Served, asked: dict[str, int], low: int, high: int
) -> None:
    _, recorder = await it.connected()
    recorder.transport.set_write_buffer_limits(**asked)
    assert recorder.transport.get_write_buffer_limits() == (low, high)
    with pytest.raises(ValueError, match="must be >="):
        recorder.transport.set_write_buffer_limits(high=1, low=2)


async def test_lower_marks_count_at_once(it: Served) -> None:
    _, recorder = await it.connected()
    recorder.transport.set_write_buffer_limits(high=1 << 30)
    recorder.transport.write(BIG)
    assert recorder.calls == ["made"]
    recorder.transport.set_write_buffer_limits(high=1000)
    assert recorder.calls == ["made", "pause"]


async def test_the_transport_tells_who_is_at_its_ends(it: Served) -> None:
    client, recorder = await it.connected()
    transport = recorder.transport
    assert transport.get_extra_info("peername") == client.getsockname()
    assert transport.get_extra_info("sockname") == client.getpeername()
    assert transport.get_extra_info("socket").getpeername() == client.getsockname()
    assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert transport.get_extra_info("unknown", "nothing") == "nothing"
    assert transport.get_protocol() is recorder
