from __future__ import annotations

import asyncio

import pytest
from websockets.frames import CLOSE, PING, PONG, TEXT

from exai_actors.edges.websocket.fast_frames import text_frame_header
from exai_actors.edges.websocket.outbox import SocketOutbox, TurnEnd
from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.messages.connection import OutboxHigh, OutboxLow, SocketClosed
from tests.edges.websocket.client_frames import client_frame, close, server_frames
from tests.edges.websocket.memory_socket import MemorySocket, MemoryTransport, Turns

MEGABYTE = 1024 * 1024


async def test_the_frames_of_one_turn_leave_in_one_write_and_in_order() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    before = socket.transport.writes
    for number in range(5):
        outbox.send(b"frame %d" % number)
    assert socket.transport.writes == before
    socket.turns.end()
    assert socket.transport.writes == before + 1
    assert [frame.data for frame in socket.frames()] == [b"frame %d" % n for n in range(5)]


async def test_a_turn_is_scheduled_once_for_all_outboxes_sent_to_in_it() -> None:
    turns = Turns()
    turn_end = TurnEnd(turns.schedule)
    sockets = [MemorySocket() for _ in range(3)]
    outboxes = [
        SocketOutbox(socket.connection, socket.transport, turn_end, MEGABYTE) for socket in sockets
    ]
    for outbox in (*outboxes, *outboxes):
        outbox.send(b"hello")
    assert len(turns.scheduled) == 1
    turns.end()
    assert [socket.transport.writes for socket in sockets] == [1, 1, 1]
    outboxes[0].send(b"a later turn")
    assert len(turns.scheduled) == 1


async def test_what_a_turn_asks_of_a_service_goes_out_before_what_it_then_tells_clients() -> None:
    socket = MemorySocket()
    server = WebSocketServer(host="127.0.0.1", port=0, open_connection=lambda *_: socket.probe)
    outbox = SocketOutbox(socket.connection, socket.transport, server.turn_end, MEGABYTE)
    written_when_asked: list[int] = []

    async def ask() -> None:
        written_when_asked.append(socket.transport.writes)

    asking = asyncio.get_running_loop().create_task(ask())
    outbox.send(b"hello")
    await asking
    await asyncio.sleep(0)
    assert written_when_asked == [0]
    assert socket.transport.writes == 1


async def test_what_answers_a_batch_is_written_with_it() -> None:
    socket = MemorySocket()
    turns = Turns()
    turn_end = TurnEnd(turns.schedule)
    outbox = SocketOutbox(socket.connection, socket.transport, turn_end, MEGABYTE)
    turn_end.hold()
    outbox.send(b"one")
    outbox.send(b"two")
    assert socket.transport.writes == 0
    turn_end.release()
    assert socket.transport.writes == 1
    assert turns.scheduled == []
    outbox.send(b"later")
    turns.end()
    assert socket.transport.writes == 2


async def test_what_was_sent_before_a_batch_is_written_in_its_own_time() -> None:
    socket = MemorySocket()
    turns = Turns()
    turn_end = TurnEnd(turns.schedule)
    outbox = SocketOutbox(socket.connection, socket.transport, turn_end, MEGABYTE)
    outbox.send(b"before")
    turn_end.hold()
    outbox.send(b"within")
    turn_end.release()
    assert socket.transport.writes == 0
    turns.end()
    assert [frame.data for frame in socket.frames()] == [b"before", b"within"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_frame_of_any_length_is_one_the_client_can_read(size: int) -> None:
    (frame,) = server_frames(text_frame_header(size) + b"x" * size)
    assert (frame.opcode, frame.fin, frame.data) == (TEXT, True, b"x" * size)


async def test_what_was_sent_before_a_close_leaves_before_it_and_what_comes_after_is_dropped() -> (
    None
):
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.send(b"last words")
    outbox.close(1000, "done")
    outbox.send(b"too late")
    socket.turns.end()
    frames = socket.frames()
    assert [frame.opcode for frame in frames] == [TEXT, CLOSE]
    assert frames[1].data == (1000).to_bytes(2, "big") + b"done"


async def test_a_close_of_the_client_is_answered_behind_what_was_sent_before() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.send(b"the answer")
    socket.receive(close(1000))
    outbox.send(b"too late")
    socket.turns.end()
    assert [frame.opcode for frame in socket.frames()] == [TEXT, CLOSE]


async def test_pings_and_pongs_do_not_overtake_what_was_sent_before() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.send(b"first")
    socket.connection.ping()
    outbox.send(b"second")
    socket.receive(client_frame(9, b"and you?"))
    assert [frame.opcode for frame in socket.frames()] == [TEXT, PING, TEXT, PONG]


async def test_closing_twice_sends_one_close_frame_with_the_first_reason() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.close(4003, "unauthorized")
    outbox.close(1000, "")
    (frame,) = socket.frames()
    assert frame.data == (4003).to_bytes(2, "big") + b"unauthorized"


async def test_a_reason_too_long_for_a_close_frame_is_cut_between_characters() -> None:
    socket = MemorySocket()
    socket.opened().close(1008, "ä" * 100)
    (frame,) = socket.frames()
    assert bytes(frame.data)[2:].decode() == "ä" * 61


async def test_the_marks_are_told_once_each_and_in_turn() -> None:
    socket = MemorySocket(outbox_high_bytes=1000, outbox_low_bytes=100)
    outbox = socket.opened()
    socket.transport.reads = False
    for _ in range(4):
        outbox.send(b"x" * 600)
        socket.turns.end()
    assert socket.probe.messages == [OutboxHigh()]
    socket.transport.client_reads(1500)
    assert socket.probe.messages == [OutboxHigh()]
    socket.transport.client_reads()
    assert socket.probe.messages == [OutboxHigh(), OutboxLow()]


async def test_a_frame_far_above_the_high_mark_reaches_a_client_that_reads() -> None:
    socket = MemorySocket(outbox_high_bytes=1000, outbox_low_bytes=100)
    outbox = socket.opened()
    socket.transport.reads = False
    answer = b"y" * (10 * MEGABYTE)
    outbox.send(answer)
    socket.turns.end()
    while socket.transport.buffer:
        socket.transport.client_reads(MEGABYTE)
    (frame,) = socket.frames()
    assert frame.data == answer
    assert socket.probe.messages == [OutboxHigh(), OutboxLow()]


async def test_what_a_client_takes_while_it_is_behind_is_counted_whatever_is_sent_meanwhile() -> (
    None
):
    socket = MemorySocket(outbox_high_bytes=1000, outbox_low_bytes=100)
    outbox = socket.opened()
    socket.transport.reads = False
    outbox.send(b"x" * 5000)
    socket.turns.end()
    before = outbox.bytes_taken()
    outbox.send(b"y" * 3000)
    socket.turns.end()
    assert outbox.bytes_taken() == before
    socket.transport.client_reads(1200)
    outbox.send(b"z" * 3000)
    socket.turns.end()
    assert outbox.bytes_taken() == before + 1200


async def test_more_unread_bytes_than_the_limit_end_a_slow_consumer() -> None:
    socket = MemorySocket(outbox_high_bytes=1000, outbox_low_bytes=100, outbox_limit_bytes=5000)
    outbox = socket.opened()
    socket.transport.reads = False
    frames = 0
    while not socket.transport.has_ended:
        outbox.send(b"x" * 1200)
        socket.turns.end()
        frames += 1
    assert frames == 5
    closed = socket.probe.messages[-1]
    assert isinstance(closed, SocketClosed)
    assert closed.code == 1008
    assert "slow consumer" in closed.reason


async def test_an_aborted_socket_ends_at_once_and_its_actor_is_told_once() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.send(b"never read")
    outbox.abort()
    outbox.abort()
    outbox.close(1000, "")
    outbox.send(b"dropped")
    socket.turns.end()
    assert socket.transport.has_ended
    assert socket.frames() == []
    assert [type(message) for message in socket.probe.messages] == [SocketClosed]


async def test_a_closing_socket_that_is_read_from_is_not_cut_off() -> None:
    socket = MemorySocket(close_timeout_s=0.01)
    outbox = socket.opened()
    socket.transport.reads = False
    outbox.send(b"z" * 3000)
    outbox.close(1000, "")
    rounds = list[int]()
    while not socket.transport.has_ended:
        rounds.append(len(socket.transport.buffer))
        socket.transport.client_reads(1000)
        await wait_for_the_next_look(socket.transport)
    assert len(rounds) >= 3
    assert bytes(socket.frames()[0].data) == b"z" * 3000


async def wait_for_the_next_look(transport: MemoryTransport) -> None:
    looked = asyncio.Event()
    measure = transport.get_write_buffer_size

    def look() -> int:
        looked.set()
        return measure()

    transport.get_write_buffer_size = look  # type: ignore[method-assign]
    await looked.wait()
    transport.get_write_buffer_size = measure  # type: ignore[method-assign]
