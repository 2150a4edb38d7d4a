from __future__ import annotations

import asyncio

import pytest
from websockets.frames import CLOSE, PING, PONG, TEXT

from exai_actors.edges.websocket.fast_frames import text_frame_header
from exai_actors.edges.websocket.outbox import (
    MAX_POSTPONED_S,
    MAX_TURNS_BEFORE_END,
    SocketOutbox,
    WriteCoalescer,
)
from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.messages.connection import OutboxHigh, OutboxLow, SocketClosed
from tests.edges.websocket.client_frames import client_frame, close, server_frames
from tests.edges.websocket.memory_socket import MemorySocket, MemoryTransport, Turns

MEGABYTE = 1024 * 1024


async def test_frames_of_one_turn_are_written_together_and_in_order() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    before = socket.transport.writes
    for number in range(5):
        outbox.send(b"frame %d" % number)
    assert socket.transport.writes == before
    socket.turns.end()
    assert socket.transport.writes == before + 1
    assert [frame.data for frame in socket.frames()] == [b"frame %d" % n for n in range(5)]


async def test_one_callback_writes_all_outboxes_of_a_turn() -> None:
    turns = Turns()
    coalescer = WriteCoalescer(turns.schedule)
    sockets = [MemorySocket() for _ in range(3)]
    outboxes = [
        SocketOutbox(socket.connection, socket.transport, coalescer, MEGABYTE) for socket in sockets
    ]
    for outbox in (*outboxes, *outboxes):
        outbox.send(b"hello")
    assert len(turns.scheduled) == 1
    turns.end()
    assert [socket.transport.writes for socket in sockets] == [1, 1, 1]
    outboxes[0].send(b"a later turn")
    assert len(turns.scheduled) == 1


async def test_tasks_started_in_a_turn_run_before_its_frames_are_written() -> None:
    socket = MemorySocket()
    server = WebSocketServer(host="127.0.0.1", port=0, open_connection=lambda *_: socket.probe)
    outbox = SocketOutbox(socket.connection, socket.transport, server.coalescer, MEGABYTE)
    written_when_asked: list[int] = []

    async def ask() -> None:
        written_when_asked.append(socket.transport.writes)

    asking = asyncio.get_running_loop().create_task(ask())
    outbox.send(b"hello")
    await asking
    await asyncio.sleep(0)
    assert written_when_asked == [0]
    assert socket.transport.writes == 1


async def test_writing_waits_for_busy_actors_but_not_for_long() -> None:
    socket = MemorySocket()
    turns = Turns()
    is_busy, now = True, 100.0
    coalescer = WriteCoalescer(turns.schedule, lambda: is_busy, lambda: now)
    outbox = SocketOutbox(socket.connection, socket.transport, coalescer, MEGABYTE)
    outbox.send(b"progress")
    turns.end()
    outbox.send(b"result")
    turns.end()
    assert socket.transport.writes == 0
    is_busy = False
    turns.end()
    assert socket.transport.writes == 1
    is_busy = True
    outbox.send(b"while actors never rest")
    for _ in range(3):
        now += MAX_POSTPONED_S / 4
        turns.end()
    assert socket.transport.writes == 1
    now += MAX_POSTPONED_S / 2
    turns.end()
    assert socket.transport.writes == 2
    outbox.send(b"in a turn that takes long")
    now += 2 * MAX_POSTPONED_S
    turns.end()
    assert socket.transport.writes == 3


async def test_an_end_waits_for_the_answers_of_busy_actors_however_long_turns_take() -> None:
    turns = Turns()
    is_busy, now, ends = True, 100.0, list[str]()
    coalescer = WriteCoalescer(turns.schedule, lambda: is_busy, lambda: now)
    coalescer.call_after(lambda: ends.append("after the answer"))
    for _ in range(5):
        now += 10 * MAX_POSTPONED_S
        turns.end()
    assert ends == []
    is_busy = False
    turns.end()
    assert ends == ["after the answer"]
    is_busy = True
    coalescer.call_after(lambda: ends.append("though actors never rest"))
    for _ in range(MAX_TURNS_BEFORE_END + 1):
        assert len(ends) == 1
        now += 10 * MAX_POSTPONED_S
        turns.end()
    assert len(ends) == 2
    assert not turns.scheduled


async def test_a_piece_is_written_in_its_turn() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.send_now(b"piece 1")
    assert [frame.data for frame in socket.frames()] == [b"piece 1"]
    outbox.send_now(b"piece 2")
    assert [frame.data for frame in socket.frames()] == [b"piece 1", b"piece 2"]
    assert not socket.turns.scheduled


async def test_a_piece_does_not_overtake_earlier_frames() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.send(b"ack")
    outbox.send_now(b"piece")
    assert socket.frames() == []
    outbox.send(b"result")
    socket.turns.end()
    assert [frame.data for frame in socket.frames()] == [b"ack", b"piece", b"result"]


async def test_a_piece_after_the_close_is_dropped() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.close(1000, "done")
    outbox.send_now(b"too late")
    assert [frame.opcode for frame in socket.frames()] == [CLOSE]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_client_can_read_frames_of_any_length(size: int) -> None:
    (frame,) = server_frames(text_frame_header(size) + b"x" * size)
    assert (frame.opcode, frame.fin, frame.data) == (TEXT, True, b"x" * size)


async def test_a_close_is_written_after_earlier_frames_and_drops_later_ones() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.send(b"last words")
    outbox.close(1000, "done")
    outbox.send(b"too late")
    socket.turns.end()
    frames = socket.frames()
    assert [frame.opcode for frame in frames] == [TEXT, CLOSE]
    assert frames[1].data == (1000).to_bytes(2, "big") + b"done"


async def test_a_close_by_the_client_is_echoed_after_earlier_frames() -> None:
    socket = MemorySocket()
    outbox = socket.opened()
    outbox.send(b"the answer")
    socket.receive(close(1000))
    outbox.send(b"too late")
    socket.turns.end()
    assert [frame.opcode for frame in socket.frames()] == [TEXT, CLOSE]


async def test_pings_and_pongs_do_not_overtake_earlier_frames() -> None:
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


async def test_a_long_close_reason_is_cut_between_characters() -> None:
    socket = MemorySocket()
    socket.opened().close(1008, "ä" * 100)
    (frame,) = socket.frames()
    assert bytes(frame.data)[2:].decode() == "ä" * 61


async def test_each_mark_is_reported_once_and_in_turn() -> None:
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


async def test_bytes_taken_above_the_mark_do_not_depend_on_what_is_sent_meanwhile() -> None:
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


async def test_a_slow_consumer_is_dropped_beyond_the_limit_of_unread_bytes() -> None:
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


async def test_an_aborted_socket_ends_immediately_and_reports_its_end_once() -> None:
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


async def test_a_closing_socket_is_not_cut_off_while_the_client_reads() -> None:
    socket = MemorySocket(close_timeout_s=0.01)
    outbox = socket.opened()
    socket.transport.reads = False
    outbox.send(b"z" * 3000)
    outbox.close(1000, "")
    rounds = list[int]()
    while not socket.transport.has_ended:
        rounds.append(len(socket.transport.buffer))
        socket.transport.client_reads(1000)
        await wait_for_the_next_check(socket.transport)
    assert len(rounds) >= 3
    assert bytes(socket.frames()[0].data) == b"z" * 3000


async def wait_for_the_next_check(transport: MemoryTransport) -> None:
    checked = asyncio.Event()
    measure = transport.get_write_buffer_size

    def check() -> int:
        checked.set()
        return measure()

    transport.get_write_buffer_size = check  # type: ignore[method-assign]
    await checked.wait()
    transport.get_write_buffer_size = measure  # type: ignore[method-assign]
