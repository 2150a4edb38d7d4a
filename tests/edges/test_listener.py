"""Accepting on real sockets: bursts, a shortage of files, addresses, and the end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from exai_actors.edges import listener
from exai_actors.edges.listener import Listener, listen


class Greeting(asyncio.Protocol):
    """Greets each client, and counts them."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Greeting.made += 1
        cast(asyncio.Transport, transport).write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        Greeting.made -= 1


class Listening:
    """A listener, and clients of it."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.port = listener.port
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A client in the listener's queue."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setblocking(False)
        self.clients.append(client)
        return client


@asynccontextmanager
async def listening(factory: Callable[[], asyncio.Protocol] = Greeting) -> AsyncIterator[Listening]:
    Greeting.made = 0
    it = Listening(await listen(factory, "127.0.0.1", 0))
    try:
        yield it
    finally:
        it.listener.close()
        await it.listener.wait_closed()
        for client in it.clients:
            client.close()
        await until(lambda: not Greeting.made)
        # Transports close their sockets after the last call to the protocol.
        await asyncio.sleep(0)


async def greeted(client: socket.socket) -> bool:
    """Whether the client was served (True) or its connection ended; closes it."""
    with client:
        return await asyncio.get_running_loop().sock_recv(client, 5) == b"hello"


def open_sockets() -> int:
    return sum(link.startswith("socket:") for link in map(_target, Path("/proc/self/fd").iterdir()))


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # the folder's own
        return ""


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until the condition holds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.0001)
    raise AssertionError("it never came to hold")


def failing(monkeypatch: pytest.MonkeyPatch, error: OSError, times: int) -> Callable[[], int]:
    """Have accepting fail so many times; returns how to ask how often it was tried."""
    tries = 0
    accept = socket.socket.accept

    def fail_first(self: socket.socket) -> Any:
        nonlocal tries
        tries += 1
        if tries <= times:
            raise error
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fail_first)
    return lambda: tries


async def test_a_burst_of_clients_is_accepted_in_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "_MAX_ACCEPTS", 3)
    accepts = failing(monkeypatch, OSError(), 0)
    async with listening() as it:
        clients = [it.connect() for _ in range(20)]
        most = 0
        while accepts() < len(clients):
            before = accepts()
            await asyncio.sleep(0)
            most = max(most, accepts() - before)
        assert most == 3
        for client in clients:
            assert await greeted(client)


async def test_clients_that_come_singly_cost_hardly_more_than_one_look_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = failing(monkeypatch, OSError(), 0)
    async with listening() as it:
        for _ in range(32):
            assert await greeted(it.connect())
        assert looks() == 32 + 2


async def test_a_burst_after_clients_that_came_singly_is_accepted_in_portions_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "_SINGLE_ACCEPTS", 4)
    accepts = failing(monkeypatch, OSError(), 0)
    async with listening() as it:
        assert await greeted(it.connect())
        clients = [it.connect() for _ in range(20)]
        portions: list[int] = []
        while sum(portions) < len(clients):
            before = accepts()
            await asyncio.sleep(0)
            portions.append(accepts() - before)
        assert [each for each in portions if each][:5] == [1, 1, 1, 1, 8]
        for client in clients:
            assert await greeted(client)


async def test_clients_wait_while_files_are_short_and_one_entry_names_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "_SHORTAGE_PAUSE_S", 0.01)
    failing(monkeypatch, OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 3)
    with structlog.testing.capture_logs() as log:
        async with listening() as it:
            assert await greeted(it.connect())
            assert await greeted(it.connect())
    (entry,) = log
    assert entry["event"] == "server.accepting_paused"
    assert "Too many open files" in entry["cause"]
    assert "ulimit -n" in entry["remedy"]


async def test_each_shortage_of_files_has_its_own_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_SHORTAGE_PAUSE_S", 0.01)
    with structlog.testing.capture_logs() as log:
        async with listening() as it:
            for _ in range(2):
                failing(monkeypatch, OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 1)
                assert await greeted(it.connect())
    assert [entry["event"] for entry in log] == ["server.accepting_paused"] * 2


async def test_the_last_files_are_reserved_and_clients_wait_until_others_have_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "_SHORTAGE_PAUSE_S", 0.001)
    has_room = True
    checks = 0

    def room_for_clients() -> float:
        nonlocal checks
        checks += 1
        return has_room

    monkeypatch.setattr(listener, "room_for_clients", room_for_clients)
    with structlog.testing.capture_logs() as log:
        async with listening() as it:
            assert await greeted(it.connect())
            has_room, checks = False, 0
            waiting = it.connect()
            await until(lambda: checks >= 5)
            with pytest.raises(BlockingIOError):
                waiting.recv(1)
            has_room = True
            assert await greeted(waiting)
    assert [entry["cause"] for entry in log] == [
        "the remaining files are reserved for calls to providers"
    ]


async def test_no_more_are_accepted_than_there_was_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "_SHORTAGE_PAUSE_S", 3600.0)
    rooms = iter([3])
    monkeypatch.setattr(listener, "room_for_clients", lambda: next(rooms, 0))
    async with listening() as it:
        for _ in range(5):
            it.connect()
        await until(lambda: Greeting.made == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert Greeting.made == 3


@pytest.mark.parametrize(("room", "looks"), [(10_000, 1), (inf, 1), (160, 2), (9, 3)])
async def test_the_less_room_there_is_the_sooner_it_is_looked_for_again(
    room: float, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    def room_for_clients() -> float:
        nonlocal looked
        looked += 1
        return room

    monkeypatch.setattr(listener, "room_for_clients", room_for_clients)
    async with listening() as it:
        for client in [it.connect() for _ in range(20)]:
            assert await greeted(client)
        assert looked == looks


async def test_nothing_is_tried_during_a_pause_and_the_listener_can_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "_SHORTAGE_PAUSE_S", 3600.0)
    tries = failing(monkeypatch, OSError(errno.ENFILE, os.strerror(errno.ENFILE)), 1000)
    before = open_sockets()
    async with listening() as it:
        client = it.connect()
        await until(lambda: tries() > 0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert tries() == 1
        client.close()
    assert open_sockets() == before


async def test_a_client_that_left_the_queue_does_not_delay_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "_SHORTAGE_PAUSE_S", 3600.0)
    failing(monkeypatch, ConnectionAbortedError(errno.ECONNABORTED, "aborted"), 1)
    async with listening() as it:
        assert await greeted(it.connect())


@pytest.mark.parametrize("error", [ValueError("a bug"), asyncio.CancelledError("a bug")])
async def test_a_protocol_that_cannot_be_made_costs_only_its_own_client(
    error: BaseException,
) -> None:
    def broken() -> asyncio.Protocol:
        raise error

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    factories: list[Callable[[], asyncio.Protocol]] = [Greeting, broken]

    async with listening(lambda: factories.pop()()) as it:
        assert not await greeted(it.connect())
        assert await greeted(it.connect())
    assert [str(each["exception"]) for each in reported] == ["a bug"]


async def test_connections_outlive_their_listener_and_waiting_clients_are_accepted() -> None:
    before = open_sockets()
    async with listening() as it:
        client = it.connect()
        await until(lambda: Greeting.made == 1)
        # More than one turn accepts.
        waiting = [it.connect() for _ in range(20)]
        it.listener.close()
        it.listener.close()
        with pytest.raises(ConnectionRefusedError):
            it.connect()
        for each in (client, *waiting):
            assert await greeted(each)
    assert open_sockets() == before


async def test_a_waiting_client_that_has_left_keeps_no_other_from_being_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening() as it:
        waiting = it.connect()
        failing(monkeypatch, ConnectionAbortedError(), 1)
        it.listener.close()
        assert await greeted(waiting)


async def test_waiting_clients_without_a_file_are_reset_when_the_listener_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening() as it:
        waiting = it.connect()
        monkeypatch.setattr(listener, "room_for_clients", lambda: 0)
        it.listener.close()
        with waiting, pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(waiting, 1)


async def test_accepted_clients_have_their_protocol_when_the_listener_is_closed() -> None:
    async with listening() as it:
        client = it.connect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        it.listener.close()
        await it.listener.wait_closed()
        assert Greeting.made == 1
        assert await greeted(client)


async def test_a_thousand_clients_of_all_manners_leave_no_socket_behind() -> None:
    before = open_sockets()
    async with listening() as it:
        for number in range(1000):
            client = it.connect()
            if number % 3 == 1:
                client.send(b"x")
            if number % 3 == 2:
                client.shutdown(socket.SHUT_WR)
            if number % 2:
                client.close()
            else:
                assert await greeted(client)
    assert open_sockets() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
async def test_the_listener_has_the_addresses_that_asyncio_would_have(host: str) -> None:
    ours = await listen(Greeting, host, 0)
    port = ours.port
    ours.close()
    theirs = await asyncio.get_running_loop().create_server(Greeting, host or None, port)
    addresses = [each.getsockname()[0] for each in theirs.sockets]
    theirs.close()
    await theirs.wait_closed()
    # A port that was in use a moment ago can be listened on again.
    again = await listen(Greeting, host, port)
    for address in addresses:
        socket.create_connection((address, port)).close()
    again.close()


async def test_a_name_with_several_addresses_is_served_on_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    addresses = ["127.0.0.1", "127.0.0.2"]
    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")

    async def two_addresses(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        return [(*kind, (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two_addresses)
    it = await listen(Greeting, "two.addresses.test", 0)
    for address in addresses:
        socket.create_connection((address, it.port)).close()
    it.close()
    with socket.create_server((addresses[1], 0)) as taken:
        before = open_sockets()
        with pytest.raises(OSError, match="in use"):
            await listen(Greeting, "two.addresses.test", taken.getsockname()[1])
        assert open_sockets() == before


@pytest.mark.parametrize("families", [(4, 6), (6,)])
async def test_an_address_family_that_is_not_supported_is_left_out(
    monkeypatch: pytest.MonkeyPatch, families: tuple[int, ...]
) -> None:
    found = {
        4: (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)),
        6: (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 0, 0, 0)),
    }
    create_server = socket.create_server

    async def addresses(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        return [found[family] for family in families]

    def without_ipv6(address: Any, *, family: int, backlog: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return create_server(address, family=family, backlog=backlog)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    monkeypatch.setattr(socket, "create_server", without_ipv6)
    if 4 in families:
        it = await listen(Greeting, "some.host.test", 0)
        socket.create_connection(("127.0.0.1", it.port)).close()
        it.close()
    else:
        with pytest.raises(OSError, match="no address family"):
            await listen(Greeting, "some.host.test", 0)


async def test_an_address_in_use_leaves_no_socket_open() -> None:
    async with listening() as it:
        before = open_sockets()
        with pytest.raises(OSError, match="in use"):
            await listen(Greeting, "127.0.0.1", it.port)
        assert open_sockets() == before
