"""When a socket is not read: its memory is bounded by what it takes in."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from exai_actors.edges.websocket.read_gate import Pause, ReadGate
from exai_actors.messages.connection import OutboxHigh, OutboxLow, SocketClosed, TextReceived
from tests.edges.websocket.client_frames import client_frame, close, text
from tests.edges.websocket.memory_socket import MemorySocket

MEGABYTE = 1024 * 1024


def unread(socket: MemorySocket, size: int) -> None:
    """Write answers of this size, which the client does not read."""
    socket.transport.reads = False
    assert socket.outbox is not None
    socket.outbox.send(b"x" * size)
    socket.turns.end()


async def test_a_client_with_unread_answers_is_not_read_until_it_reads() -> None:
    socket = MemorySocket()
    socket.opened()
    unread(socket, MEGABYTE - 100)
    assert socket.transport.is_reading()
    unread(socket, 200)
    assert not socket.transport.is_reading()
    socket.transport.client_reads(MEGABYTE // 2)
    assert not socket.transport.is_reading()
    socket.transport.client_reads(MEGABYTE // 2)
    assert socket.transport.is_reading()


async def test_every_cause_must_be_gone_before_a_socket_is_read() -> None:
    socket = MemorySocket()
    for order in permutations(Pause):
        gate = ReadGate(socket.transport, socket.transport.resume_reading)
        for cause in order:
            gate.pause(cause)
        for cause in reversed(order):
            assert not socket.transport.is_reading()
            assert not gate.is_open
            gate.resume(cause)
        assert socket.transport.is_reading()
        assert gate.is_open


async def test_the_end_of_one_cause_does_not_end_another() -> None:
    socket = MemorySocket()
    socket.opened()
    socket.probe.answer = "full"
    socket.receive(text("one"))
    unread(socket, 2 * MEGABYTE)
    socket.probe.answer = "accepted"
    assert await socket.probe.expect(TextReceived) == TextReceived(b"one")
    assert not socket.transport.is_reading()
    socket.transport.client_reads()
    assert socket.transport.is_reading()


async def test_a_large_read_does_not_resume_a_paused_socket() -> None:
    socket = MemorySocket()
    socket.opened()
    socket.connection.restrain()
    socket.receive(text("x" * 200_000))
    await asyncio.sleep(0)
    assert not socket.transport.is_reading()
    socket.connection.release()
    assert socket.transport.is_reading()


async def test_after_a_large_read_the_socket_is_read_once_the_actor_has_handled_it() -> None:
    reads = (
        b"".join(text(b"%d" % number) for number in range(20)),
        text(b"x" * 40_000),
        client_frame(1, b"x" * 40_000, fin=False) + client_frame(0, b"y"),
    )
    for read in reads:
        socket = MemorySocket()
        socket.opened()
        socket.receive(text("hello"))
        assert socket.transport.is_reading()
        socket.probe.handles_reads = False
        socket.receive(read)
        assert not socket.transport.is_reading()
        assert socket.outbox is not None
        socket.outbox.read_on()
        assert socket.transport.is_reading()


async def test_a_flood_is_read_at_the_pace_of_its_actor() -> None:
    socket = MemorySocket()
    socket.opened()
    socket.receive(text("hello"))
    socket.probe.handles_reads = False
    socket.receive(text("x") * 2000)
    before = len(socket.probe.messages)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(socket.probe.messages) == before < 1000
    assert socket.outbox is not None
    while len(socket.probe.messages) < 2001:
        before = len(socket.probe.messages)
        socket.outbox.read_on()
        await asyncio.sleep(0)
        assert len(socket.probe.messages) > before
    assert len(socket.probe.messages) == 2001


async def test_a_socket_that_is_closed_while_it_is_not_read_gets_its_closing_handshake() -> None:
    socket = MemorySocket()
    socket.opened()
    socket.connection.restrain()
    socket.connection.close(1001, "bye")
    assert socket.transport.is_reading()
    socket.receive(close(1001))
    socket.client_leaves()
    assert await socket.probe.expect(SocketClosed) == SocketClosed(1001, "bye")


async def test_a_client_whose_socket_is_not_read_owes_no_pong() -> None:
    socket = MemorySocket()
    socket.opened()
    assert socket.connection.expects_pong()
    socket.connection.restrain()
    assert not socket.connection.expects_pong()


UNFINISHED: dict[str, bytes] = {
    "half a frame": client_frame(1, b"x" * 1000)[:500],
    "a header": client_frame(1, b"x" * 70_000)[:4],
    "a fragment": client_frame(1, b"x", fin=False),
    "an empty fragment": client_frame(1, b"", fin=False),
    "binary": client_frame(2, b"x" * 1000)[:500],
    "fragments and a ping": client_frame(1, b"x", fin=False) + client_frame(9, b"ping"),
    "one byte": client_frame(1, b"x")[:1],
}


@pytest.mark.parametrize("case", UNFINISHED)
async def test_a_message_must_be_complete_in_time(case: str) -> None:
    socket = MemorySocket(message_timeout_s=0, close_timeout_s=0)
    socket.opened()
    socket.receive(text("hello"))
    await socket.probe.expect(TextReceived)
    socket.receive(UNFINISHED[case])
    closed = await socket.probe.expect(SocketClosed)
    assert closed == SocketClosed(1008, "message not complete in time")


async def test_the_time_begins_with_each_message_and_ends_with_it() -> None:
    socket = MemorySocket(message_timeout_s=0)
    socket.opened()
    for number in range(3):
        whole = client_frame(1, b"%d" % number * 1000)
        socket.receive(whole[:500])
        socket.receive(whole[500:])
        for _ in range(3):
            await asyncio.sleep(0)
    assert not socket.transport.has_ended
    assert len(socket.probe.messages) == 3


async def test_the_time_does_not_pass_while_the_broker_does_not_read() -> None:
    socket = MemorySocket(message_timeout_s=0, close_timeout_s=0)
    socket.opened()
    unread(socket, 2 * MEGABYTE)
    socket.receive(UNFINISHED["half a frame"])
    for _ in range(5):
        await asyncio.sleep(0)
    assert not socket.transport.has_ended
    socket.transport.client_reads()
    await socket.probe.expect(OutboxHigh)
    await socket.probe.expect(OutboxLow)
    assert (await socket.probe.expect(SocketClosed)).code == 1008


async def test_the_time_passes_while_memory_is_short() -> None:
    socket = MemorySocket(message_timeout_s=0, close_timeout_s=0)
    socket.opened()
    socket.receive(UNFINISHED["half a frame"])
    socket.connection.restrain()
    assert (await socket.probe.expect(SocketClosed)).code == 1008


async def test_a_socket_holds_its_unread_answers_and_unfinished_messages() -> None:
    socket = MemorySocket()
    socket.opened()
    assert socket.connection.held_bytes() == 0
    unread(socket, 3000)
    answers = socket.connection.held_bytes()
    assert answers >= 3000
    socket.connection.outbox.held_back = 500
    assert socket.connection.held_bytes() == answers + 500
    socket.connection.outbox.held_back = 0
    socket.receive(text("hello") + client_frame(1, b"x" * 1000, fin=False))
    assert socket.connection.held_bytes() == answers + 1000
    socket.receive(client_frame(0, b"x" * 9000)[:5000])
    assert socket.connection.held_bytes() == pytest.approx(answers + 6000, abs=10)
    socket.probe.answer = "full"
    socket.receive(client_frame(0, b"x" * 9000)[5000:] + text("y" * 2000))
    assert socket.connection.held_bytes() == answers + 12_000
