"""The server on real sockets, with the library's client and with bytes written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CLOSE, PONG
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol

from exai_actors.edges import listener
from exai_actors.edges.websocket import server
from exai_actors.edges.websocket.protocol import FIRST_MESSAGE_BYTES
from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.edges.websocket.settings import WebSocketSettings
from exai_actors.errors import UsageError
from exai_actors.messages.connection import (
    BinaryReceived,
    ConnectionMessage,
    SocketClosed,
    TextReceived,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import Outbox, Peer
from exai_actors.testing.probe import Probe
from tests.edges.websocket.client_frames import (
    HANDSHAKE,
    client_frame,
    close,
    server_frames,
    text,
)
from tests.edges.websocket.memory_socket import ConnectionProbe


@pytest.fixture(autouse=True)
async def faults() -> AsyncIterator[list[dict[str, Any]]]:
    """Exceptions that reached the loop; nothing that a client does may cause one."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    yield reported
    assert reported == []


class Listening:
    """A listening server, and one probe for each connection that was opened."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, **settings: Any) -> None:
        self.port = 0
        self.peers: list[Peer] = []
        self.outboxes: list[Outbox] = []
        self.probes: list[Probe[ConnectionMessage]] = []
        self._opened = asyncio.Event()
        self.server = WebSocketServer(
            host=host,
            port=port,
            open_connection=self._open,
            settings=WebSocketSettings(**settings),
        )

    async def admit(self, number: int) -> None:
        """Wait until connection ``number`` is open, and admit it."""
        await self.has_opened(number + 1)
        self.outboxes[number].admit()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/any/path?of=yours"

    def _open(self, peer: Peer, outbox: Outbox) -> Recipient[ConnectionMessage]:
        self.peers.append(peer)
        self.outboxes.append(outbox)
        probe = ConnectionProbe()
        probe.outbox = outbox
        self.probes.append(probe)
        self._opened.set()
        return self.probes[-1]

    async def has_opened(self, count: int) -> None:
        """Wait until this many connections have been opened."""
        while len(self.probes) < count:
            self._opened.clear()
            await self._opened.wait()


@asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[Listening]:
    it = Listening(**settings)
    it.port = await it.server.start()
    try:
        yield it
    finally:
        await it.server.stop()


@asynccontextmanager
async def by_hand(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def test_text_passes_between_client_and_actor() -> None:
    async with listening() as it, connect(it.url) as client:
        await client.send("grüße")
        assert await it.probes[0].expect(TextReceived) == TextReceived("grüße".encode())
        it.outboxes[0].send("zurück".encode())
        assert await client.recv() == "zurück"


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 1_000_000, 10_000_000])
async def test_frames_of_any_length_pass_both_ways(size: int) -> None:
    async with listening() as it, connect(it.url, max_size=None) as client:
        await client.send("the first")
        await it.probes[0].expect(TextReceived)
        await client.send("x" * size)
        assert await it.probes[0].expect(TextReceived) == TextReceived(b"x" * size)
        it.outboxes[0].send(b"y" * size)
        assert await client.recv(decode=False) == b"y" * size


async def test_a_message_in_fragments_arrives_whole() -> None:
    async with listening() as it, connect(it.url) as client:
        await client.send(["in ", "three ", "parts"])
        assert await it.probes[0].expect(TextReceived) == TextReceived(b"in three parts")


async def test_a_binary_message_is_reported_with_its_size() -> None:
    async with listening() as it, connect(it.url) as client:
        await client.send([b"123", b"45"])
        assert await it.probes[0].expect(BinaryReceived) == BinaryReceived(5)


async def test_the_peer_is_described_by_its_handshake() -> None:
    headers = {"Authorization": "bearer  s3cret"}
    async with (
        listening(allowed_origins=("https://page.example",)) as it,
        connect(
            it.url,
            additional_headers=headers,
            origin="https://page.example",  # type: ignore[arg-type]
            user_agent_header="a client",
        ),
    ):
        page = "https://page.example"
        assert it.peers == [Peer("127.0.0.1", "s3cret", page, "a client", "/any/path")]


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer   ", "s3cret"])
async def test_an_authorization_without_a_bearer_token_gives_none(header: str) -> None:
    async with (
        listening() as it,
        connect(it.url, additional_headers={"Authorization": header}),
    ):
        assert it.peers[0].bearer_token is None


async def test_no_extension_is_negotiated_with_a_client_that_offers_compression() -> None:
    async with listening() as it, connect(it.url, compression="deflate") as client:
        assert client.protocol.extensions == []
        await client.send("plain")
        await it.probes[0].expect(TextReceived)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(None, None), (["mcp"], "mcp"), (["chat", "mcp"], "mcp"), (["chat"], None)],
)
async def test_only_the_mcp_subprotocol_is_accepted(
    offered: list[Subprotocol] | None, chosen: str | None
) -> None:
    async with listening() as it, connect(it.url, subprotocols=offered) as client:
        assert client.subprotocol == chosen
        await client.send("served alike")
        assert await it.probes[0].expect(TextReceived) == TextReceived(b"served alike")


async def test_a_close_by_the_client_is_reported_with_its_code_and_reason() -> None:
    async with listening() as it:
        async with connect(it.url) as client:
            await client.close(4321, "my words")
        assert await it.probes[0].expect(SocketClosed) == SocketClosed(4321, "my words")


async def test_a_client_that_vanishes_is_reported_as_abnormal() -> None:
    async with listening() as it, connect(it.url) as client:
        client.transport.abort()
        assert await it.probes[0].expect(SocketClosed) == SocketClosed(1006, "")


async def test_an_actor_that_closes_learns_that_the_socket_has_ended() -> None:
    async with listening() as it, connect(it.url) as client:
        it.outboxes[0].send(b"why")
        it.outboxes[0].close(4003, "unauthorized")
        assert await client.recv() == "why"
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4003, "unauthorized")
        assert await it.probes[0].expect(SocketClosed) == SocketClosed(4003, "unauthorized")


async def test_a_frame_above_the_limit_closes_with_1009() -> None:
    async with listening(max_frame_bytes=1000) as it, connect(it.url) as client:
        await client.send("x" * 1000)
        await it.probes[0].expect(TextReceived)
        await client.send("x" * 1001)
        assert (await it.probes[0].expect(SocketClosed)).code == 1009
        await client.wait_closed()
        assert client.close_code == 1009


async def test_a_message_whose_fragments_exceed_the_limit_closes_with_1009() -> None:
    async with listening(max_frame_bytes=1000) as it, connect(it.url) as client:
        await client.send(["x" * 600, "x" * 600])
        assert (await it.probes[0].expect(SocketClosed)).code == 1009


@pytest.mark.parametrize("parts", [1, 5])
async def test_a_first_message_above_its_own_limit_closes_with_1009(parts: int) -> None:
    part = "x" * (FIRST_MESSAGE_BYTES // parts + 1)
    async with listening() as it, connect(it.url) as client:
        await client.send(part if parts == 1 else [part] * parts)
        assert (await it.probes[0].expect(SocketClosed)).code == 1009


async def test_a_large_message_right_behind_the_first_one_is_taken() -> None:
    large = "x" * (FIRST_MESSAGE_BYTES + 1)
    async with listening() as it, connect(it.url) as client:
        await asyncio.gather(client.send("the first"), client.send(large))
        await it.probes[0].expect(TextReceived)
        assert await it.probes[0].expect(TextReceived) == TextReceived(large.encode())


async def test_text_that_is_not_utf8_closes_with_1007() -> None:
    async with listening() as it, connect(it.url) as client:
        await client.send(b"\xff\xfe", text=True)
        assert await it.probes[0].expect(SocketClosed) == SocketClosed(
            1007, "invalid start byte at position 0"
        )


async def test_a_foreign_page_gets_403_that_names_the_setting() -> None:
    async with listening() as it:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(it.url, origin="https://evil.example"):  # type: ignore[arg-type]
                pass
        assert refused.value.response.status_code == 403
        assert b'allowed_origins = ["https://evil.example"]' in (refused.value.response.body or b"")
        assert it.probes == []


async def test_refused_handshakes_are_logged_within_a_budget() -> None:
    with structlog.testing.capture_logs() as entries:
        async with listening() as it:
            for number in range(8):
                with pytest.raises(InvalidStatus):
                    async with connect(it.url, origin=f"https://{number}.example"):  # type: ignore[arg-type]
                        pass
    refused = [entry for entry in entries if entry["event"] == "handshake.refused"]
    assert len(refused) == 5
    assert refused[0]["address"] == "127.0.0.1"
    assert "https://0.example may not connect" in refused[0]["reason"]


async def test_the_origin_of_the_port_itself_is_accepted() -> None:
    async with listening() as it:
        origin = f"http://127.0.0.1:{it.port}"
        async with connect(it.url, origin=origin):  # type: ignore[arg-type]
            assert len(it.probes) == 1
        with pytest.raises(InvalidStatus) as refused:
            async with connect(it.url, origin="http://127.0.0.1:8079"):  # type: ignore[arg-type]
                pass
        assert refused.value.response.status_code == 403


async def test_a_rebound_name_gets_403_on_loopback() -> None:
    async with listening() as it, by_hand(it.port) as (reader, writer):
        writer.write(HANDSHAKE.replace(b"127.0.0.1:8079", b"evil.example:8079"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 403")


async def test_a_plain_http_request_is_told_to_use_websocket() -> None:
    async with listening() as it, by_hand(it.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 426")
        assert b"WebSocket client" in answer


async def test_the_client_beyond_the_limit_is_closed_until_a_place_is_free() -> None:
    async with listening(max_connections=2) as it, connect(it.url), connect(it.url) as second:
        await it.admit(0)
        await it.admit(1)
        async with connect(it.url) as third:
            await third.wait_closed()
            assert third.close_code == 1008
            assert third.close_reason == "Server overloaded - global connection limit reached"
        assert len(it.probes) == 2
        await second.close()
        await it.probes[1].expect(SocketClosed)
        async with connect(it.url):
            assert len(it.probes) == 3


async def test_strangers_take_no_place_of_a_client() -> None:
    async with listening(max_connections=1, max_strangers=3) as it, AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(connect(it.url)) for _ in range(10)]
        async with connect(it.url) as client:
            await it.admit(10)
            await strangers[0].wait_closed()
            await (await client.ping())


async def test_the_client_beyond_the_limit_of_its_address_is_closed() -> None:
    async with listening(max_connections_per_address=1) as it, connect(it.url):
        await it.admit(0)
        async with connect(it.url) as second:
            await second.wait_closed()
            assert second.close_code == 1008
            assert second.close_reason == "Too many connections from your IP (1/1)"


async def test_an_address_may_connect_again_after_its_connection_has_ended() -> None:
    async with listening(max_connections_per_address=1) as it:
        for number in range(3):
            async with connect(it.url):
                await it.admit(number)
            await it.probes[number].expect(SocketClosed)


async def test_a_client_gets_in_while_strangers_take_the_last_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No stranger is too young, even if the loop's clock stands still.
    monkeypatch.setattr(server, "_YOUNG_S", -1.0)
    shortages = 0
    sockets: list[WebSocketServer] = []

    def room_for_clients() -> float:
        nonlocal shortages
        has_room = not sockets or sockets[0].strangers().open < 5
        shortages += not has_room
        return has_room

    monkeypatch.setattr(listener, "room_for_clients", room_for_clients)
    async with listening() as it, AsyncExitStack() as stack:
        sockets.append(it.server)
        for _ in range(5):
            # Its handshake shows that the server has counted it; without one, that comes later.
            await stack.enter_async_context(connect(it.url))
        with structlog.testing.capture_logs() as log:
            async with connect(it.url) as client:
                await (await client.ping())
        assert shortages >= 1
        assert it.server.strangers().displaced >= 1
        assert log == []


async def test_a_handshake_that_does_not_come_ends_the_socket() -> None:
    async with (
        listening(open_timeout_s=0.05) as it,
        by_hand(it.port) as (reader, writer),
    ):
        writer.write(HANDSHAKE[:-10])
        assert await reader.read() == b""
        assert it.probes == []


async def test_frames_that_come_with_the_handshake_are_not_lost() -> None:
    async with listening() as it, by_hand(it.port) as (reader, writer):
        writer.write(HANDSHAKE + text("eager") + client_frame(2, b"too"))
        await reader.readuntil(b"\r\n\r\n")
        assert await it.probes[0].expect(TextReceived) == TextReceived(b"eager")
        assert await it.probes[0].expect(BinaryReceived) == BinaryReceived(3)


async def test_control_frames_that_come_with_the_handshake_are_answered_after_it() -> None:
    async with listening() as it, by_hand(it.port) as (reader, writer):
        writer.write(HANDSHAKE + client_frame(9, b"are you there?") + close(1000, "bye"))
        header, _, frames = (await reader.read()).partition(b"\r\n\r\n")
        assert header.startswith(b"HTTP/1.1 101")
        assert [each.opcode for each in server_frames(frames)] == [PONG, CLOSE]
        assert await it.probes[0].expect(SocketClosed) == SocketClosed(1000, "bye")


async def test_a_client_that_does_not_answer_pings_is_closed_and_others_stay() -> None:
    # Both clients are in this process, so the one that answers is late when the process is stopped.
    async with (
        listening(ping_interval_s=0.5, ping_timeout_s=2.0, close_timeout_s=0.05) as it,
        connect(it.url, ping_interval=None) as alive,
        by_hand(it.port) as (_, writer),
    ):
        writer.write(HANDSHAKE)
        await it.has_opened(2)
        closed = await it.probes[1].expect(SocketClosed)
        assert closed == SocketClosed(1011, "keepalive ping timeout")
        assert alive.state is State.OPEN
        it.probes[0].expect_nothing()


async def test_a_client_that_does_not_answer_a_close_is_dropped() -> None:
    async with (
        listening(close_timeout_s=0.05) as it,
        by_hand(it.port) as (_, writer),
    ):
        writer.write(HANDSHAKE)
        await it.has_opened(1)
        it.outboxes[0].close(1000, "")
        assert await it.probes[0].expect(SocketClosed) == SocketClosed(1000, "")


async def test_a_client_that_stops_reading_does_not_affect_others() -> None:
    async with (
        listening(
            outbox_high_bytes=64_000, outbox_low_bytes=16_000, outbox_limit_bytes=8_000_000
        ) as it,
        by_hand(it.port) as (_, writer),
    ):
        writer.write(HANDSHAKE)
        await it.has_opened(1)
        async with connect(it.url) as reading:
            while not any(isinstance(each, SocketClosed) for each in it.probes[0].messages):
                it.outboxes[0].send(b"x" * 1_000_000)
                it.outboxes[1].send(b"still here")
                assert await reading.recv() == "still here"
    closed = it.probes[0].messages[-1]
    assert isinstance(closed, SocketClosed)
    assert closed.code == 1008


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - the kernel sends no event
            await asyncio.sleep(0)


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


def finish(writer: asyncio.StreamWriter) -> None:
    writer.write_eof()


def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("end", [reset, finish, leave])
async def test_a_client_that_leaves_while_it_is_restrained_is_ended_at_the_next_look(
    end: Callable[[asyncio.StreamWriter], None],
) -> None:
    async with listening() as it, by_hand(it.port) as (_, writer):
        writer.write(HANDSHAKE)
        await it.admit(0)
        (connection,) = it.server.sockets
        writer.write(text("x" * 60_000)[:50_000])
        await until(lambda: connection.held_bytes() > 40_000)
        connection.restrain()
        connection.end_if_left()
        assert connection.held_bytes() > 40_000
        end(writer)

        def has_gone() -> bool:
            connection.end_if_left()
            return not it.server.sockets

        await until(has_gone)
        assert it.probes[0].messages == [SocketClosed(1006, "")]


async def test_a_restrained_client_that_only_reads_gets_all_its_answers() -> None:
    async with listening() as it, by_hand(it.port) as (reader, writer):
        writer.write(HANDSHAKE)
        await it.admit(0)
        await reader.readuntil(b"\r\n\r\n")
        (connection,) = it.server.sockets
        it.outboxes[0].send(b"y" * 20_000_000)
        await until(lambda: connection.held_bytes() > 1_000_000)
        connection.restrain()
        writer.write_eof()
        received = 0
        while received < 20_000_000:
            connection.end_if_left()
            data = await reader.read(1 << 20)
            assert data
            received += len(data)


async def test_stopping_closes_connections_with_1001_and_the_port() -> None:
    it = Listening(open_timeout_s=3600)
    it.port = await it.server.start()
    async with connect(it.url) as client, by_hand(it.port) as (reader, _):
        await client.ping()
        await it.server.stop()
        await client.wait_closed()
        assert client.close_code == 1001
        await it.probes[0].expect(SocketClosed)
        assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", it.port)


async def test_a_handshake_while_stopping_is_refused_and_open_connections_stay() -> None:
    async with listening() as it, connect(it.url) as client, by_hand(it.port) as (reader, writer):
        await (await client.ping())
        writer.write(HANDSHAKE[:20])
        await writer.drain()
        it.server.stop_listening()
        writer.write(HANDSHAKE[20:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 503")
        await client.send("still served")
        await it.probes[0].expect(TextReceived)


@pytest.mark.parametrize("path", ["/", "/chat", "/admin/x", "/%61dmin"])
async def test_a_draining_server_answers_clients_with_503_and_serves_consoles(path: str) -> None:
    async with listening() as it, connect(it.url) as client:
        it.server.refuse_clients(except_at="/admin")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{it.port}{path}"):
                pass
        async with connect(f"ws://127.0.0.1:{it.port}/admin?from=here") as console:
            await console.send("still served")
            await it.probes[1].expect(TextReceived)
        with pytest.raises(InvalidStatus, match="403"):
            async with connect(
                f"ws://127.0.0.1:{it.port}/admin", origin=Origin("https://elsewhere.example")
            ):
                pass
        await client.send("still served")
        await it.probes[0].expect(TextReceived)
    response = refused.value.response
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert response.body.startswith(b"The broker is shutting down and takes no new connections.")


async def test_a_port_in_use_is_reported_with_the_remedy() -> None:
    async with listening() as it:
        with pytest.raises(
            UsageError, match=rf"127\.0\.0\.1:{it.port}: the port is in use.*--port"
        ):
            await Listening(port=it.port).server.start()


async def test_an_address_of_another_machine_is_reported() -> None:
    with pytest.raises(UsageError, match="no such address"):
        await Listening(host="192.0.2.1").server.start()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        HANDSHAKE + b"\xff" * 100,
        HANDSHAKE + client_frame(1, b"not masked", mask=None),
        HANDSHAKE.replace(b"Version: 13", b"Version: 8"),
    ],
)
async def test_garbage_ends_its_own_socket_and_nothing_else(garbage: bytes) -> None:
    async with listening(open_timeout_s=1.0, close_timeout_s=0.05) as it, connect(it.url) as client:
        async with by_hand(it.port) as (reader, writer):
            writer.write(garbage)
            await reader.read()
        await client.send("still served")
        await it.probes[0].expect(TextReceived)


async def test_a_client_that_floods_the_server_does_not_hold_up_others() -> None:
    async with listening() as it, connect(it.url) as patient, by_hand(it.port) as (_, writer):
        writer.write(HANDSHAKE + text("the first"))
        await it.has_opened(2)
        await it.probes[1].expect(TextReceived)
        # Nothing is read meanwhile: this thread does not return to the loop.
        flooding = writer.get_extra_info("socket")
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(flooding.fileno(), text(b"x" * 60_000))
        patient.transport.write(client_frame(1, b"served between"))
        await it.probes[0].expect(TextReceived)
        flood = [each for each in it.probes[1].messages if isinstance(each, TextReceived)]
        assert len(flood) < 5


async def test_a_server_keeps_nothing_of_connections_that_have_ended() -> None:
    async with listening(ping_interval_s=30.0, ping_timeout_s=1.0) as it:
        assert containers_of(it.server) == []
        for _ in range(3):
            async with connect(it.url):
                assert "_sockets" in containers_of(it.server)
                assert it.server.strangers().open == 1
                it.outboxes[-1].admit()
                assert it.server.strangers().open == 0
                assert {"_sockets", "_admitted", "_by_address"} < set(containers_of(it.server))
                assert it.server._keepalive is not None
                it.server._keepalive.run_due(asyncio.get_running_loop().time() + 60.0)
                assert "_pong_by" in containers_of(it.server)
        for probe in it.probes:
            await probe.expect(SocketClosed)
        assert containers_of(it.server) == []


def containers_of(server: WebSocketServer) -> list[str]:
    """The names of the containers of a server and its keepalive that are not empty."""
    assert server._keepalive is not None
    values = vars(server) | vars(server._keepalive)
    return [name for name, value in values.items() if isinstance(value, (dict, set)) and value]
