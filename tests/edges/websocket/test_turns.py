"""Each socket has a budget of frames for a turn of the loop, and a stranger one for its life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from websockets.frames import CLOSE, PONG

from exai_actors.edges.websocket.fast_frames import MAX_FRAMES
from exai_actors.edges.websocket.protocol import (
    FRAMES_PER_TURN,
    STRANGERS_CONTROL_FRAMES,
    STRANGERS_FRAMES,
)
from exai_actors.messages.connection import BinaryReceived, SocketClosed, TextReceived
from tests.edges.websocket.client_frames import HANDSHAKE, client_frame, close, text
from tests.edges.websocket.memory_socket import MemorySocket

PING = client_frame(9)
TINY = {
    "pings": PING,
    "pings with a payload": client_frame(9, b"x" * 125),
    "pongs": client_frame(10),
    "pings between empty texts": PING + text(b""),
    "empty texts": text(b""),
    "empty binary messages": client_frame(2),
    "texts with a longer length than needed": client_frame(1, length_bytes=8),
    "messages in empty fragments": client_frame(1, fin=False) + client_frame(0),
}


def admitted() -> MemorySocket:
    socket = MemorySocket()
    socket.opened()
    socket.connection.admit()
    socket.receive(text("the first"))
    return socket


def reached(socket: MemorySocket) -> int:
    """The frames that had an effect so far."""
    return len(socket.probe.messages) + sum(each.opcode is PONG for each in socket.frames())


def ended(socket: MemorySocket) -> bool:
    """Whether the server has ended the stream, after the end of a turn."""
    socket.turns.end()
    return socket.transport.sent_eof


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until the condition holds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to hold")


@pytest.mark.parametrize("tiny", TINY.values(), ids=TINY)
async def test_a_flood_of_tiny_frames_is_spread_over_turns_and_nothing_is_lost(tiny: bytes) -> None:
    socket = admitted()
    count = 60_000 // len(tiny)
    socket.receive(tiny * count + text("the last"))
    effects = [reached(socket)]
    while socket.probe.messages[-1] != TextReceived(b"the last"):
        assert not socket.transport.is_reading_now
        await asyncio.sleep(0)
        effects.append(reached(socket))
    assert max(after - before for before, after in pairwise([0, *effects])) <= MAX_FRAMES + 1
    assert len(effects) > count / MAX_FRAMES
    await asyncio.sleep(0)
    assert socket.transport.is_reading_now
    pings = count if client_frame(9)[:1] in tiny[:1] else 0
    assert sum(each.opcode is PONG for each in socket.frames()) == pings


async def test_pongs_of_one_turn_leave_in_one_write() -> None:
    socket = admitted()
    before = socket.transport.writes
    socket.receive(PING * FRAMES_PER_TURN)
    assert socket.transport.writes == before + 1
    assert len(socket.frames()) == FRAMES_PER_TURN


async def test_a_fault_in_a_flood_ends_it_in_its_place() -> None:
    socket = admitted()
    good = FRAMES_PER_TURN * 2
    socket.receive(PING * good + b"\xff" * 100 + PING * good)
    await until(lambda: ended(socket))
    opcodes = [each.opcode for each in socket.frames()]
    assert opcodes == [PONG] * good + [CLOSE]


async def test_a_close_in_a_flood_is_answered_in_its_place() -> None:
    socket = admitted()
    socket.receive(text(b"x") * MAX_FRAMES * 2 + close(1000, "bye"))
    await until(lambda: ended(socket))
    socket.client_leaves()
    assert len(socket.probe.messages) == 1 + MAX_FRAMES * 2 + 1
    assert socket.probe.messages[-1] == SocketClosed(1000, "bye")


async def test_a_client_that_vanishes_in_a_flood_leaves_nothing_scheduled() -> None:
    socket = admitted()
    socket.receive(PING * 5000)
    before = reached(socket)
    socket.transport.lose()
    for _ in range(5):
        await asyncio.sleep(0)
    assert reached(socket) == before + 1
    assert isinstance(socket.probe.messages[-1], SocketClosed)


async def test_a_full_actor_keeps_the_socket_unread_after_the_flood_was_parsed() -> None:
    socket = admitted()
    socket.probe.take(TextReceived)
    socket.probe.answer = "full"
    socket.receive(client_frame(2, b"x") * FRAMES_PER_TURN * 3)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not socket.transport.is_reading_now
    socket.probe.answer = "accepted"
    for _ in range(FRAMES_PER_TURN * 3):
        assert await socket.probe.expect(BinaryReceived) == BinaryReceived(1)
    assert socket.transport.is_reading_now


@pytest.mark.parametrize(
    ("frame", "allowed"),
    [
        (PING, STRANGERS_CONTROL_FRAMES),
        (client_frame(9, b"x" * 125), STRANGERS_CONTROL_FRAMES),
        (client_frame(10), STRANGERS_CONTROL_FRAMES),
        (client_frame(2), STRANGERS_FRAMES),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_stranger_may_send_few_frames(frame: bytes, allowed: int, at_once: bool) -> None:
    socket = MemorySocket()
    socket.opened()
    if at_once:
        socket.receive(frame * allowed)
    else:
        for _ in range(allowed):
            socket.receive(frame)
    for _ in range(3):
        await asyncio.sleep(0)
    assert all(each.opcode is PONG for each in socket.frames())
    socket.receive(frame)
    await until(lambda: ended(socket))
    said = socket.frames()[-1]
    assert said.opcode is CLOSE
    assert bytes(said.data)[2:] == b"too many frames before hello was answered"


async def test_a_stranger_may_not_send_a_message_in_empty_fragments_without_end() -> None:
    socket = MemorySocket()
    socket.opened()
    socket.receive(client_frame(1, fin=False) + client_frame(0, fin=False) * 1000)
    await until(lambda: ended(socket))
    socket.client_leaves()
    assert socket.probe.messages == [
        SocketClosed(1008, "too many frames before hello was answered")
    ]


async def test_a_flood_that_comes_with_the_handshake_is_cut_off() -> None:
    socket = MemorySocket()
    socket.receive(HANDSHAKE + PING * 10_000)
    for _ in range(3):
        await asyncio.sleep(0)
    assert socket.transport.sent_eof
    assert sum(each.opcode is PONG for each in socket.frames()) == STRANGERS_CONTROL_FRAMES


async def test_an_admitted_client_may_send_as_many_frames_as_it_likes() -> None:
    socket = MemorySocket()
    socket.opened()
    socket.receive(PING * STRANGERS_CONTROL_FRAMES)
    socket.connection.admit()
    for _ in range(1000):
        socket.receive(PING)
        await asyncio.sleep(0)
    assert len(socket.frames()) == 1000 + STRANGERS_CONTROL_FRAMES
