from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.frames import CLOSE, PONG

from exai_actors.core.statistics import StrangerStatistics
from exai_actors.edges.websocket.connection import WebSocketConnection
from exai_actors.messages.connection import (
    BinaryReceived,
    ConnectionMessage,
    SocketClosed,
    TextReceived,
)
from exai_actors.messages.recipient import Offer
from tests.edges.websocket.client_frames import client_frame, close, text
from tests.edges.websocket.memory_socket import ConnectionProbe, MemorySocket, MemoryTransport


class Counted(ConnectionProbe):
    """A probe with room for some messages that counts the offers."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 1000
        self.offers = 0
        self._awaited = 0
        self._reached = asyncio.Event()

    def offer(self, message: ConnectionMessage, /) -> Offer:
        self.offers += 1
        if self.offers >= self._awaited:
            self._reached.set()
        if len(self.messages) >= self.room:
            return "full"
        return super().offer(message)

    async def offered(self, times: int) -> None:
        """Wait for this many more offers."""
        self._reached.clear()
        self._awaited = self.offers + times
        await self._reached.wait()


def opened() -> tuple[MemorySocket, Counted]:
    socket = MemorySocket()
    probe = Counted()
    socket.probe = probe
    socket.opened()
    return socket, probe


async def test_a_full_actor_pauses_reading_and_gets_everything_in_order_later() -> None:
    socket, probe = opened()
    probe.answer = "full"
    socket.receive(text("one") + text("two") + client_frame(2, b"\0\0\0") + text("four"))
    assert not socket.transport.is_reading_now
    await probe.offered(3)
    assert probe.messages == []
    assert not socket.transport.is_reading_now
    probe.answer = "accepted"
    await probe.expect(TextReceived)
    assert probe.messages == [
        TextReceived(b"one"),
        TextReceived(b"two"),
        BinaryReceived(3),
        TextReceived(b"four"),
    ]
    assert socket.transport.is_reading_now


async def test_an_actor_that_fills_up_again_is_offered_the_rest_later() -> None:
    socket, probe = opened()
    probe.room = 3
    numbers = [str(number).encode() for number in range(10)]
    socket.receive(b"".join(map(text, numbers)))
    while len(probe.messages) < len(numbers):
        assert not socket.transport.is_reading_now
        await probe.offered(1)
        probe.room += 2
    assert probe.messages == [TextReceived(number) for number in numbers]
    assert socket.transport.is_reading_now


async def test_messages_waiting_for_a_full_actor_are_dropped_when_the_client_is_gone() -> None:
    socket, probe = opened()
    probe.answer = "full"
    socket.receive(text("a late request"))
    await probe.offered(1)
    probe.answer = "accepted"
    socket.client_leaves()
    # Longer than until the next offer would come.
    await asyncio.sleep(0.02)
    assert [type(message) for message in probe.messages] == [SocketClosed]


async def test_a_socket_whose_actor_has_ended_is_closed_with_an_internal_error() -> None:
    socket, probe = opened()
    probe.answer = "closed"
    socket.receive(text("is it running?") + text("hello?"))
    assert probe.offers == 1
    (frame,) = socket.frames()
    assert frame.opcode is CLOSE
    assert bytes(frame.data)[:2] == (1011).to_bytes(2, "big")


async def test_a_socket_whose_full_actor_ends_is_closed() -> None:
    socket, probe = opened()
    probe.answer = "full"
    socket.receive(text("one"))
    probe.answer = "closed"
    await probe.offered(1)
    assert [frame.opcode for frame in socket.frames()] == [CLOSE]


async def test_nothing_is_delivered_after_the_actor_closed_the_socket() -> None:
    socket, probe = opened()
    assert socket.outbox is not None
    socket.outbox.close(4001, "missing hello")
    socket.receive(text("too late") + close(4001))
    socket.client_leaves()
    assert probe.messages == [SocketClosed(4001, "missing hello")]


async def test_messages_before_a_close_are_delivered_and_the_end_last() -> None:
    socket, probe = opened()
    socket.receive(text("a last call") + close(1000, "bye"))
    socket.client_leaves()
    assert probe.messages == [TextReceived(b"a last call"), SocketClosed(1000, "bye")]


async def test_a_client_that_half_closes_and_does_not_read_is_dropped() -> None:
    socket = MemorySocket(close_timeout_s=0.01)
    outbox = socket.opened()
    socket.transport.reads = False
    outbox.send(b"never read")
    socket.turns.end()
    socket.connection.eof_received()
    socket.turns.end()
    assert await socket.probe.expect(SocketClosed) == SocketClosed(1006, "")
    assert socket.transport.has_ended


def another(socket: MemorySocket, address: str = "127.0.0.1") -> MemoryTransport:
    """Another socket of the same server."""
    connection = WebSocketConnection(socket.server, asyncio.get_running_loop())
    transport = MemoryTransport(connection, address)
    connection.connection_made(transport)
    return transport


@pytest.mark.parametrize("upgraded", [False, True])
async def test_the_oldest_stranger_makes_room_for_a_newcomer(upgraded: bool) -> None:
    first = MemorySocket(max_strangers=3)
    if upgraded:
        first.opened()
    others = [another(first) for _ in range(2)]
    ended = [[each.has_ended for each in (first.transport, *others)]]
    others.append(another(first))
    ended.append([each.has_ended for each in (first.transport, *others)])
    assert ended == [[False] * 3, [True, False, False, False]]
    assert first.server.strangers() == StrangerStatistics(3, 1)
    if upgraded:
        assert first.probe.messages == [
            SocketClosed(1008, "Server overloaded - global connection limit reached")
        ]


async def test_an_admitted_client_never_makes_room_for_a_stranger() -> None:
    client = MemorySocket(max_strangers=3)
    client.opened().admit()
    strangers = [another(client) for _ in range(50)]
    assert not client.transport.has_ended
    assert [each.has_ended for each in strangers] == [True] * 47 + [False] * 3
    client.client_leaves()
    assert client.server.strangers() == StrangerStatistics(3, 47)


async def test_strangers_of_one_address_do_not_displace_those_of_another() -> None:
    first = MemorySocket(max_strangers=10)
    for _ in range(20):
        another(first, "10.0.0.1")
    honest = another(first, "10.0.0.2")
    for _ in range(200):
        another(first, "10.0.0.1")
    assert not honest.has_ended


async def test_a_stranger_that_is_gone_needs_no_place() -> None:
    socket = MemorySocket(max_strangers=2)
    for _ in range(5):
        another(socket).lose()
    assert socket.server.strangers() == StrangerStatistics(1, 0)


async def test_a_client_admitted_after_it_gave_way_takes_no_place() -> None:
    socket = MemorySocket(max_strangers=1)
    outbox = socket.opened()
    another(socket)
    outbox.admit()
    assert socket.server.strangers() == StrangerStatistics(1, 1)
    assert not socket.server._admitted


async def test_the_actors_run_after_every_32_reads() -> None:
    socket, probe = opened()
    early = []
    for _ in range(100):
        socket.receive(text("one of many"))
        early.append(socket.turns.early)
    # The handshake was the first read.
    assert [early.index(times) + 2 for times in (1, 2, 3)] == [32, 64, 96]
    assert len(probe.messages) == 100


async def test_data_that_comes_when_the_turn_is_over_is_handled_in_a_later_one() -> None:
    socket, probe = opened()
    socket.receive(text("the first"))
    probe.messages.clear()
    socket.server.reads.is_over = True
    socket.receive(text("late"))
    assert probe.messages == []
    assert not socket.transport.is_reading_now
    assert socket.connection.held_bytes() == len(text("late"))
    await asyncio.sleep(0)
    assert probe.messages == [TextReceived(b"late")]
    assert socket.transport.is_reading_now


async def test_the_first_message_of_a_client_waits_for_no_turn() -> None:
    socket, probe = opened()
    socket.server.reads.is_over = True
    socket.receive(text("hello"))
    assert probe.messages == [TextReceived(b"hello")]


async def test_a_ping_is_answered_although_the_turn_is_over() -> None:
    socket, _ = opened()
    socket.receive(text("the first"))
    socket.server.reads.is_over = True
    socket.receive(client_frame(9, b"ping"))
    assert [(each.opcode, each.data) for each in socket.frames()] == [(PONG, b"ping")]
    socket.receive(client_frame(9, b"x" * 100))
    assert len(socket.frames()) == 1, "a long one waits for its turn"


async def test_a_client_that_leaves_while_its_data_waits_for_a_turn_is_forgotten() -> None:
    socket, probe = opened()
    socket.receive(text("the first"))
    probe.messages.clear()
    socket.server.reads.is_over = True
    socket.receive(text("late"))
    socket.client_leaves()
    await asyncio.sleep(0)
    assert [type(each) for each in probe.messages] == [SocketClosed]
    assert socket.connection not in socket.server.sockets


async def test_a_socket_that_fills_the_read_buffer_is_read_again_in_the_next_turn() -> None:
    socket, _ = opened()
    buffer_size = len(socket.connection.get_buffer(-1))
    is_reading = []
    for data in (text(b"x" * 1000), text(b"y" * 100_000)[:buffer_size]):
        socket.receive(data)
        is_reading.append(socket.transport.is_reading_now)
    await asyncio.sleep(0)
    is_reading.append(socket.transport.is_reading_now)
    assert is_reading == [True, False, True]


async def test_a_full_actor_keeps_a_socket_paused_that_fills_the_read_buffer() -> None:
    socket, probe = opened()
    probe.answer = "full"
    buffer_size = len(socket.connection.get_buffer(-1))
    socket.receive((text(b"x") + text(b"y" * 100_000))[:buffer_size])
    await probe.offered(2)
    assert not socket.transport.is_reading_now


async def test_an_ended_socket_leaves_no_timer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    timers: list[asyncio.TimerHandle] = []

    def recorded(*args: Any) -> asyncio.TimerHandle:
        timers.append(call_later(*args))
        return timers[-1]

    monkeypatch.setattr(loop, "call_later", recorded)
    unfinished = MemorySocket()
    unfinished.client_leaves()
    closing = MemorySocket()
    closing.opened().close(1000, "")
    closing.client_leaves()
    assert timers
    assert all(timer.cancelled() for timer in timers)


async def test_a_handshake_that_arrived_while_the_process_stood_still_is_in_time() -> None:
    socket = MemorySocket(open_timeout_s=0.0)
    # The loop runs the timer that is due first, and then reads.
    for _ in range(3):
        await asyncio.sleep(0)
    socket.opened()
    socket.client_leaves()
    assert [type(each) for each in socket.probe.messages] == [SocketClosed]


async def test_an_answer_to_a_client_that_has_closed_its_side_is_written() -> None:
    socket, probe = opened()
    socket.receive(text("a last question"))
    socket.connection.eof_received()
    assert socket.outbox is not None
    socket.outbox.send(b"the answer")
    socket.turns.end()
    assert [each.data for each in socket.frames()] == [b"the answer"]
    assert probe.messages == [TextReceived(b"a last question"), SocketClosed(1006, "")]
