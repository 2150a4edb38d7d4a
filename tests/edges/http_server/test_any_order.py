"""Whatever happens in whatever order, each request gets its response, or the connection ends."""

from __future__ import annotations

from random import Random

import pytest

from exai_actors.edges.http_server import connection
from tests.edges.http_server.http_socket import HttpSocket, Request

HEAD_BYTES = 500
SEEDS = 1_000


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "has_left", lambda _: False)
    monkeypatch.setattr(connection, "_READ_IN_ADVANCE", HEAD_BYTES)
    monkeypatch.setattr(connection, "_DISCARDED_IN_ADVANCE", 3_000)
    monkeypatch.setattr(connection, "_DISCARDED_WHILE_CLOSING", 1_000)


class Client:
    """Sends requests, and stops and starts reading, while the server answers them."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.socket = HttpSocket(
            head_bytes=HEAD_BYTES,
            pipelined=chance.choice((1, 3)),
            outbox_high_bytes=100,
            outbox_low_bytes=50,
            close_timeout_s=1.0,
        )
        self.requests = [self._request() for _ in range(chance.randint(1, 9))]
        self._unsent = b"".join(self.requests)

    def _request(self) -> bytes:
        chance = self._chance
        size = chance.choice((0, 1, 50, 300, 900))
        offer = chance.choice((b"", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"))
        lines, body = b"POST / HTTP/1.1\r\nHost: x\r\n" + offer, b"GET /\r\n" * (size // 7)
        if chance.random() < 0.1:
            return b"nonsense\r\n\r\n"
        if chance.random() < 0.5:
            return lines + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return lines + b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunk

    def act(self) -> None:
        """One step of the client or of the server."""
        chance, socket = self._chance, self.socket
        match chance.choice(("send", "send", "answer", "stall", "read", "wait", "restrain")):
            case "send":
                self.send(chance.choice((1, 7, 40, 300, 2_000)))
            case "answer":
                self.answer(chance.choice((0, 10, 300)))
            case "stall":
                socket.transport.reads = False
            case "read":
                socket.transport.client_reads()
            case "wait":
                socket.timers.advance(chance.choice((0.01, 0.06)))
            case _:
                socket.connection.restrain()
                socket.timers.turn()
                socket.connection.release()
        socket.timers.turn()

    def send(self, size: int) -> None:
        if self.socket.is_read() and self._unsent:
            data, self._unsent = self._unsent[:size], self._unsent[size:]
            self.socket.send(data)

    def answer(self, size: int) -> None:
        waiting = (each for each in self.socket.requests if not each.exchange.has_ended)
        first: Request | None = next(waiting, None)
        if first is not None and first.is_complete:
            first.exchange.respond(200, (), b"x" * size)

    def finish(self) -> None:
        """Read and send everything, and have everything answered."""
        for _ in range(len(b"".join(self.requests)) + 50):
            if self.socket.has_ended():
                break
            self.socket.transport.client_reads()
            self.send(500)
            self.answer(0)
            self.socket.timers.advance(0.06)


def test_each_request_gets_its_response_or_the_connection_ends() -> None:
    for seed in range(SEEDS):
        chance = Random(seed)
        client = Client(chance)
        for _ in range(chance.randint(5, 120)):
            if not client.socket.has_ended():
                client.act()
        client.finish()
        socket = client.socket
        assert all(each.exchange.has_ended for each in socket.requests), seed
        assert socket.kept == 0, seed
        if not socket.has_ended():
            assert socket.received().count(b"HTTP/1.1 200 OK") == len(client.requests), seed
            assert socket.is_read(), seed
