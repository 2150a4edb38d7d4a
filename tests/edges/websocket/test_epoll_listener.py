"""What one epoll for many sockets must not confuse, lose or leave behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import random
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import uvloop

from exai_actors.edges.websocket import epoll_listener, epoll_poller
from exai_actors.edges.websocket.epoll_listener import listen_with_epoll
from tests.edges.websocket.served import READ_BUFFER, Recorder, read_exactly, served


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_socket_that_was_dropped_within_a_batch_is_not_read_any_more() -> None:
    async with served("epoll") as it:
        pairs = [await it.connected() for _ in range(3)]
        recorders = [recorder for _, recorder in pairs]

        def drop_the_others(recorder: Recorder) -> None:
            for other in recorders:
                if other is not recorder:
                    other.transport.abort()

        for client, recorder in pairs:
            recorder.on_data = drop_the_others
            client.send(b"all in one batch")
        await it.settled()
        ends = [recorder.calls[1:] for recorder in recorders]
        assert ends.count(["lost"]) == 2
        assert ends.count([b"all in one batch"]) == 1


async def test_a_socket_that_was_paused_within_a_batch_is_read_after_it_resumes() -> None:
    async with served("epoll") as it:
        pairs = [await it.connected() for _ in range(2)]
        recorders = [recorder for _, recorder in pairs]

        def pause_the_other(recorder: Recorder) -> None:
            for other in recorders:
                if other is not recorder and not recorder.transport.is_closing():
                    other.transport.pause_reading()

        for client, recorder in pairs:
            recorder.on_data = pause_the_other
            client.send(b"data")
        await it.settled()
        (unread,) = [recorder for recorder in recorders if not recorder.data]
        unread.transport.resume_reading()
        await unread.until(lambda: unread.data == b"data")


async def test_a_client_accepted_in_the_batch_that_drops_another_gets_nothing_of_it() -> None:
    async with served("epoll") as it:
        dropping_client, dropping = await it.connected()
        dropped_client, dropped = await it.connected()
        dropping.on_data = lambda _: dropped.transport.abort()
        number = dropped.transport.get_extra_info("socket").fileno()
        dropping_client.send(b"drop it")
        newcomer = it.connect()
        dropped_client.send(b"not for the newcomer")
        newcomer.send(b"my own")
        await it.has_made(3)
        assert it.recorders[2].transport.get_extra_info("socket").fileno() != number
        await it.recorders[2].until(lambda: it.recorders[2].data == b"my own")
        await dropped.lost()
        assert dropped.calls == ["made", "lost"]
        # And the number, free now, may serve the next.
        client, last = await it.connected()
        client.send(b"hello")
        await last.until(lambda: last.data == b"hello")


async def test_no_more_than_a_bounded_number_of_sockets_hold_up_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(epoll_poller, "_MAX_EVENTS", 2)
    async with served("epoll") as it:
        pairs = [await it.connected() for _ in range(7)]
        read: list[int] = []
        per_turn: list[int] = []
        all_read = asyncio.Event()

        def next_turn() -> None:
            per_turn.append(len(read))
            if len(read) < 7:
                asyncio.get_running_loop().call_soon(next_turn)
            else:
                all_read.set()

        for index, (client, recorder) in enumerate(pairs):
            recorder.on_data = lambda _, index=index: read.append(index)  # type: ignore[misc]
            client.send(b"x")
        asyncio.get_running_loop().call_soon(next_turn)
        await all_read.wait()
        assert sorted(read) == list(range(7))
        growth = [after - before for before, after in zip([0, *per_turn], per_turn, strict=False)]
        assert max(growth) <= 2


async def test_a_burst_of_clients_beyond_one_batch_is_taken_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(epoll_listener, "_MAX_ACCEPTED", 3)
    async with served("epoll") as it:
        for _ in range(20):
            it.connect()
        await it.has_made(20)


async def test_without_files_clients_wait_and_one_line_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(epoll_listener, "_SHORTAGE_PAUSE_S", 0.01)
    tries = 0
    accept = socket.socket.accept

    def no_files(self: socket.socket) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    async with served("epoll") as it:
        with caplog.at_level(logging.WARNING):
            monkeypatch.setattr(socket.socket, "accept", no_files)
            client, recorder = await it.connected()
        client.send(b"at last")
        await recorder.until(lambda: recorder.data == b"at last")
    (line,) = caplog.messages
    assert "Too many open files" in line
    assert "ulimit -n" in line


async def test_some_files_are_kept_for_calls_and_clients_wait_until_others_have_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(epoll_listener, "_SHORTAGE_PAUSE_S", 0.001)
    most, looks = 0, 0
    looked_often = asyncio.Event()

    def client_fd_ceiling() -> int:
        nonlocal looks
        looks += 1
        if looks == 5:
            looked_often.set()
        return most

    monkeypatch.setattr(epoll_listener, "client_fd_ceiling", client_fd_ceiling)
    async with served("epoll") as it:
        with caplog.at_level(logging.WARNING):
            clients = [it.connect() for _ in range(3)]
            await looked_often.wait()
        assert len(it.recorders) == 1
        (line,) = caplog.messages
        assert "the files that are left are for calls to providers" in line
        clients[0].send(b"hello")
        await it.recorders[0].until(lambda: it.recorders[0].data == b"hello")
        most = 1_000_000
        await it.has_made(3)


async def test_nothing_is_tried_while_it_waits_for_files_and_it_may_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(epoll_listener, "_SHORTAGE_PAUSE_S", 3600.0)
    tried = asyncio.Event()
    tries = 0

    def no_files(self: socket.socket) -> Any:
        nonlocal tries
        tries += 1
        tried.set()
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    before = open_files()
    async with served("epoll") as it:
        monkeypatch.setattr(socket.socket, "accept", no_files)
        it.connect()
        await tried.wait()
        assert await turns_within(0.02) < 10
        assert tries == 1
    assert open_files() == before


async def test_a_client_that_left_before_it_was_accepted_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accept = socket.socket.accept
    aborted: list[bool] = []

    def gone(self: socket.socket) -> Any:
        if not aborted:
            aborted.append(True)
            raise ConnectionAbortedError
        return accept(self)

    async with served("epoll") as it:
        monkeypatch.setattr(socket.socket, "accept", gone)
        await it.connected()


async def test_a_protocol_that_cannot_be_made_costs_its_own_client_only() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with served("epoll") as it:

        def fail(_recorder: Recorder) -> None:
            raise ValueError("a bug")

        it.prepare = fail
        unlucky = it.connect()
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(unlucky, 1) == b""
        it.clients.clear()
        unlucky.close()
        it.prepare = lambda _: None
        await it.connected()
    assert [str(each["exception"]) for each in reported] == ["a bug"]


async def test_a_listener_that_is_closed_by_who_it_accepts_accepts_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served("epoll") as it:
        it.prepare = lambda recorder: setattr(recorder, "on_made", lambda _: it.listener.close())
        for _ in range(3):
            it.connect()
        await it.has_made(1)
        assert len(it.recorders) == 1
        assert it.listener.sockets == ()
        assert caplog.messages == []


async def test_connections_outlive_their_listener_and_the_last_leaves_nothing_open() -> None:
    before = open_files()
    async with served("epoll") as it:
        address = it.listener.sockets[0].getsockname()
        client, recorder = await it.connected()
        it.listener.close()
        it.listener.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        client.send(b"question")
        await recorder.until(lambda: recorder.data == b"question")
        recorder.transport.write(b"answer")
        assert await read_exactly(client, 6) == b"answer"
        client.close()
        await recorder.lost()
        await asyncio.sleep(0)
        assert open_files() == before


async def test_a_thousand_clients_of_all_manners_leave_no_file_and_no_object_behind() -> None:
    chance = random.Random(4)
    before = open_files()
    async with served("epoll") as it:
        it.prepare = lambda recorder: setattr(
            recorder, "on_data", lambda recorder: recorder.transport.write(recorder.data)
        )
        for _ in range(20):
            for _ in range(50):
                client = it.connect()
                match chance.randrange(5):
                    case 0:
                        client.close()
                    case 1:
                        client.send(b"x")
                        client.close()
                    case 2:
                        linger = struct.pack("ii", 1, 0)
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        client.close()
                    case 3:
                        client.send(b"x")
                        client.shutdown(socket.SHUT_WR)
                    case _:
                        client.send(b"x")
            await it.has_made(len(it.clients))
            for client in it.clients:
                client.close()
            for recorder in it.recorders:
                await recorder.lost()
            it.clients.clear()
            it.recorders.clear()
    gc.collect()
    assert open_files() == before


async def test_an_idle_poller_does_not_keep_the_loop_awake() -> None:
    async with served("epoll") as it:
        client, recorder = await it.connected()
        client.send(b"x")
        await recorder.until(lambda: recorder.data == b"x")
        recorder.on_eof = lambda _: True
        client.close()
        await recorder.until(lambda: "eof" in recorder.calls)
        assert await turns_within(0.05) < 20


async def turns_within(seconds: float) -> int:
    """How often the loop comes round by itself."""
    loop = asyncio.get_running_loop()
    turns = 0
    selector = loop._selector  # type: ignore[attr-defined]
    waiting = selector.select

    def counted(timeout: float | None = None) -> Any:
        nonlocal turns
        turns += 1
        return waiting(timeout)

    selector.select = counted
    await asyncio.sleep(seconds)
    selector.select = waiting
    return turns


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
async def test_addresses_names_and_all_of_this_machine_are_listened_on(host: str) -> None:
    listener = await listen_with_epoll(Recorder, host, 0, backlog=10, read_buffer=READ_BUFFER)
    asyncs = await asyncio.get_running_loop().create_server(Recorder, host, 0)
    families = sorted(each.family for each in listener.sockets)
    assert families == sorted(each.family for each in asyncs.sockets)
    listener.close()
    asyncs.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
async def test_a_port_can_be_listened_on_again_and_on_every_address(host: str) -> None:
    async with served("epoll") as it:
        port = it.listener.sockets[0].getsockname()[1]
        client, recorder = await it.connected()
        # Who closes first keeps the address occupied for a while.
        recorder.transport.close()
        await recorder.lost()
        client.close()
    again = await listen_with_epoll(Recorder, host, port, backlog=10, read_buffer=READ_BUFFER)
    assert {each.getsockname()[1] for each in again.sockets} == {port}
    again.close()


async def test_an_address_in_use_leaves_nothing_open() -> None:
    before = open_files()
    async with served("epoll") as it:
        during = open_files()
        port = it.listener.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await listen_with_epoll(
                Recorder, "127.0.0.1", port, backlog=10, read_buffer=READ_BUFFER
            )
        assert open_files() == during
    assert open_files() == before


def test_it_works_under_uvloop_as_well() -> None:
    async def echo() -> None:
        async with served("epoll") as it:
            client, recorder = await it.connected()
            recorder.on_data = lambda recorder: recorder.transport.write(recorder.data)
            client.send(b"hello")
            assert await read_exactly(client, 5) == b"hello"
            big = b"x" * 5_000_000
            recorder.transport.write(big)
            assert await read_exactly(client, len(big)) == big
            client.close()
            await recorder.lost()

    # The first loop of that kind opens files for all that follow.
    uvloop.run(asyncio.sleep(0))
    before = open_files()
    uvloop.run(echo())
    assert open_files() == before
