from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from exai_actors.edges.websocket.keepalive import Keepalive
from tests.edges.websocket.memory_socket import MemorySocket


class Socket:
    def __init__(self) -> None:
        self.heard = True
        self.reads = True
        self.pings = 0
        self.is_silent = False

    def ping(self) -> None:
        self.pings += 1

    def owes_an_answer(self) -> bool:
        return self.reads

    def fall_silent(self) -> None:
        self.is_silent = True


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def keepalive(loop: asyncio.AbstractEventLoop) -> Keepalive:
    """Pings every 30 s and waits 10 s; the tests say what time it is."""
    return Keepalive(loop, 30.0, 10.0)


@pytest.fixture
def started(loop: asyncio.AbstractEventLoop) -> float:
    return loop.time()


def test_a_socket_is_pinged_each_interval(keepalive: Keepalive, started: float) -> None:
    socket = Socket()
    keepalive.add(socket)
    keepalive.run_due(started + 29)
    assert socket.pings == 0
    for round_ in range(1, 4):
        keepalive.run_due(started + 31 * round_)
        assert socket.pings == round_
        socket.heard = True
        keepalive.run_due(started + 31 * round_ + 11)
    assert not socket.is_silent


def test_a_socket_that_sends_nothing_after_a_ping_falls_silent(
    keepalive: Keepalive, started: float
) -> None:
    silent, alive = Socket(), Socket()
    keepalive.add(silent)
    keepalive.add(alive)
    keepalive.run_due(started + 31)
    alive.heard = True
    ended_at = []
    for now in (40, 42):
        keepalive.run_due(started + now)
        ended_at += [now] if silent.is_silent else []
    assert ended_at == [42]
    assert not alive.is_silent


def test_the_silence_of_a_socket_we_do_not_read_means_nothing(
    keepalive: Keepalive, started: float
) -> None:
    socket = Socket()
    socket.reads = False
    keepalive.add(socket)
    keepalive.run_due(started + 31)
    keepalive.run_due(started + 42)
    assert not socket.is_silent
    socket.reads = True
    keepalive.run_due(started + 62)
    keepalive.run_due(started + 73)
    assert socket.is_silent


def test_a_timeout_longer_than_the_interval_is_not_put_off_by_further_pings(
    loop: asyncio.AbstractEventLoop, started: float
) -> None:
    keepalive = Keepalive(loop, 10.0, 25.0)
    socket = Socket()
    keepalive.add(socket)
    for now in (11, 22, 33):
        keepalive.run_due(started + now)
    assert socket.pings == 3
    assert not socket.is_silent
    keepalive.run_due(started + 37)
    assert socket.is_silent


def test_a_removed_socket_is_left_alone(keepalive: Keepalive, started: float) -> None:
    removed, waiting = Socket(), Socket()
    keepalive.add(removed)
    keepalive.add(waiting)
    keepalive.remove(removed)
    keepalive.run_due(started + 31)
    keepalive.remove(waiting)
    keepalive.run_due(started + 42)
    assert removed.pings == 0
    assert not waiting.is_silent


async def test_a_client_with_a_long_answer_to_read_owes_no_pong_until_it_has_read_it() -> None:
    socket = MemorySocket(outbox_high_bytes=1000, outbox_low_bytes=100)
    outbox = socket.opened()
    connection, transport = socket.connection, socket.transport
    assert connection.owes_an_answer()
    transport.reads = False
    outbox.send(b"x" * 5000)
    socket.turns.end()
    connection.heard = False
    transport.client_reads(3000)
    assert not connection.owes_an_answer()
    transport.client_reads(2000)
    assert connection.owes_an_answer()
    assert connection.heard


async def test_one_timer_serves_all_sockets_and_ends_with_the_last() -> None:
    keepalive = Keepalive(asyncio.get_running_loop(), 0.02, 0.02)
    pinged = asyncio.Event()

    class Wakes(Socket):
        def ping(self) -> None:
            super().ping()
            if all(socket.pings >= 2 for socket in sockets):
                pinged.set()

    sockets = [Wakes() for _ in range(5)]
    for socket in sockets:
        keepalive.add(socket)
    await pinged.wait()
    for socket in sockets:
        keepalive.remove(socket)
    pings = [socket.pings for socket in sockets]
    keepalive.run_due(asyncio.get_running_loop().time() + 60)
    assert [socket.pings for socket in sockets] == pings
