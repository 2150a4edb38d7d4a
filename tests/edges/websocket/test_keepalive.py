from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from exai_actors.edges.websocket.keepalive import Keepalive
from tests.edges.websocket.memory_socket import MemorySocket


class Socket:
    def __init__(self) -> None:
        self.received_since_ping = True
        self.reads = True
        self.pings = 0
        self.has_failed = False

    def ping(self) -> None:
        self.pings += 1

    def expects_pong(self) -> bool:
        return self.reads

    def fail_keepalive(self) -> None:
        self.has_failed = True


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def keepalive(loop: asyncio.AbstractEventLoop) -> Keepalive:
    """Pings every 30 s and waits 10 s; the tests pass the time."""
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
        socket.received_since_ping = True
        keepalive.run_due(started + 31 * round_ + 11)
    assert not socket.has_failed


def test_a_socket_that_stays_silent_after_a_ping_is_failed(
    keepalive: Keepalive, started: float
) -> None:
    silent, alive = Socket(), Socket()
    keepalive.add(silent)
    keepalive.add(alive)
    keepalive.run_due(started + 31)
    alive.received_since_ping = True
    ended_at = []
    for now in (40, 42):
        keepalive.run_due(started + now)
        ended_at += [now] if silent.has_failed else []
    assert ended_at == [42]
    assert not alive.has_failed


def test_a_socket_that_is_not_read_is_not_failed_for_its_silence(
    keepalive: Keepalive, started: float
) -> None:
    socket = Socket()
    socket.reads = False
    keepalive.add(socket)
    keepalive.run_due(started + 31)
    keepalive.run_due(started + 42)
    assert not socket.has_failed
    socket.reads = True
    keepalive.run_due(started + 62)
    keepalive.run_due(started + 73)
    assert socket.has_failed


def test_further_pings_do_not_extend_a_timeout_longer_than_the_interval(
    loop: asyncio.AbstractEventLoop, started: float
) -> None:
    keepalive = Keepalive(loop, 10.0, 25.0)
    socket = Socket()
    keepalive.add(socket)
    for now in (11, 22, 33):
        keepalive.run_due(started + now)
    assert socket.pings == 3
    assert not socket.has_failed
    keepalive.run_due(started + 37)
    assert socket.has_failed


def test_a_removed_socket_is_neither_pinged_nor_failed(
    keepalive: Keepalive, started: float
) -> None:
    removed, waiting = Socket(), Socket()
    keepalive.add(removed)
    keepalive.add(waiting)
    keepalive.remove(removed)
    keepalive.run_due(started + 31)
    keepalive.remove(waiting)
    keepalive.run_due(started + 42)
    assert removed.pings == 0
    assert not waiting.has_failed


async def test_no_pong_is_expected_until_the_client_has_read_a_long_answer() -> None:
    socket = MemorySocket(outbox_high_bytes=1000, outbox_low_bytes=100)
    outbox = socket.opened()
    connection, transport = socket.connection, socket.transport
    assert connection.expects_pong()
    transport.reads = False
    outbox.send(b"x" * 5000)
    socket.turns.end()
    connection.received_since_ping = False
    transport.client_reads(3000)
    assert not connection.expects_pong()
    transport.client_reads(2000)
    assert connection.expects_pong()
    assert connection.received_since_ping


async def test_one_timer_serves_all_sockets_and_stops_with_the_last() -> None:
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
