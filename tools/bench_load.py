"""The load of the benchmark: many WebSocket connections from one thread, one call at a time each.

Frames are masked and complete before the clock starts and the answers are recognised by their
bytes, so that the client costs little beside the server it measures. Every answer is checked to
carry the id of the request it answers.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# One buffer for all sockets: a fresh one of this size for each read would cost more than the rest.
_buffer = memoryview(bytearray(1 << 18))
_GOODBYE = bytes((0x88, 0x82, 0, 0, 0, 0)) + (1000).to_bytes(2, "big")


@dataclass(frozen=True)
class Dialect:
    """How one kind of client speaks.

    ``greeting`` is sent once and answered by one frame; ``request(id)`` is the text of a call. Only
    the last frame of an answer contains ``final``, and the answer to a request its ``proof(id)``.
    """

    name: str
    greeting: bytes | None
    request: Callable[[str], bytes]
    final: bytes
    proof: Callable[[str], bytes] = str.encode


@dataclass
class Sample:
    """One run: how many calls, how long they took in all, and each of them, in seconds."""

    requests: int
    seconds: float
    latencies: list[float] = field(repr=False)

    def quantile(self, q: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class AnswerError(Exception):
    """A server sent an answer to another request."""


def masked_text_frame(text: bytes) -> bytes:
    """``text`` as one frame from a client, under a random mask."""
    mask = os.urandom(4)
    size = len(text)
    if size < 126:
        header = bytes((0x81, 0x80 | size))
    elif size < 65536:
        header = bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    else:
        header = bytes((0x81, 0xFF)) + size.to_bytes(8, "big")
    repeated = (mask * (size // 4 + 1))[:size]
    covered = int.from_bytes(text, "big") ^ int.from_bytes(repeated, "big")
    return header + mask + covered.to_bytes(size, "big")


class Connection:
    """One client: its socket and the call it waits for."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._handshake(address)

    def _handshake(self, address: tuple[str, int]) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET / HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.socket.sendall(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = self.socket.recv(4096)
            if not piece:
                raise AnswerError(f"handshake refused: {answer[:200]!r}")
            answer += piece
        if not answer.startswith(b"HTTP/1.1 101"):
            raise AnswerError(f"handshake refused: {answer[:200]!r}")
        self._buffer = answer.partition(b"\r\n\r\n")[2]

    def greet(self, text: bytes) -> None:
        """Send the greeting and wait for its one answer, before the socket becomes non-blocking."""
        self.socket.sendall(masked_text_frame(text))
        frames = self.frames(b"")
        while not frames:
            frames = self.frames(_received(self.socket))
        if b'"ok":false' in frames[0] or b'"error"' in frames[0]:
            raise AnswerError(f"greeting refused: {frames[0][:300]!r}")

    def frames(self, data: bytes) -> list[bytes]:
        """The payloads of the text frames that are complete with ``data``; pings are left out."""
        buffer = self._buffer + data if self._buffer else data
        found = []
        position = 0
        while (payload_at := _payload_at(buffer, position)) is not None:
            start, end = payload_at
            if end > len(buffer):
                break
            opcode = buffer[position] & 0x0F
            if opcode == 8:
                raise AnswerError(f"closed by the server: {buffer[start:end]!r}")
            if opcode == 1:
                found.append(buffer[start:end])
            position = end
        self._buffer = buffer[position:]
        return found

    def close(self) -> None:
        """Leave with a closing frame, as a polite client does."""
        self.socket.setblocking(True)
        self.socket.sendall(_GOODBYE)
        self.socket.close()


def _received(readable: socket.socket) -> bytes:
    return bytes(_buffer[: readable.recv_into(_buffer)])


def _payload_at(buffer: bytes, position: int) -> tuple[int, int] | None:
    if len(buffer) - position < 2:
        return None
    size = buffer[position + 1]
    if size < 126:
        return position + 2, position + 2 + size
    start = position + (4 if size == 126 else 10)
    return start, start + int.from_bytes(buffer[position + 2 : start], "big")


def connect(address: tuple[str, int], dialect: Dialect, count: int) -> list[Connection]:
    """``count`` connections, each greeted as the dialect wants."""
    connections = []
    for _ in range(count):
        connection = Connection(address)
        if dialect.greeting is not None:
            connection.greet(dialect.greeting)
        connection.socket.setblocking(False)
        connections.append(connection)
    return connections


class Plan:
    """The frames each connection will send, made before the clock starts. Ids never repeat."""

    def __init__(self, dialect: Dialect, connections: int, requests_each: int, run: str) -> None:
        self.dialect = dialect
        self.ids = [
            [f"{run}-{index:04d}-{number:06d}" for number in range(requests_each)]
            for index in range(connections)
        ]
        self.frames = [
            [masked_text_frame(dialect.request(each)) for each in ids] for ids in self.ids
        ]


def run(connections: Sequence[Connection], plan: Plan) -> Sample:
    """Send the plan, one call at a time on each connection, and check every answer's id."""
    final = plan.dialect.final
    wanted = [[plan.dialect.proof(each) for each in ids] for ids in plan.ids]
    sent_at = [0.0] * len(connections)
    done = [0] * len(connections)
    each = len(plan.frames[0])
    latencies: list[float] = []
    poll = select.epoll()
    by_fd = {}
    for index, connection in enumerate(connections):
        poll.register(connection.socket.fileno(), select.EPOLLIN)
        by_fd[connection.socket.fileno()] = index
    clock = time.perf_counter
    started = clock()
    for index, connection in enumerate(connections):
        sent_at[index] = clock()
        connection.socket.send(plan.frames[index][0])
    open_calls = len(connections)
    while open_calls:
        ready = poll.poll(30)
        if not ready:
            raise AnswerError(f"{open_calls} calls had no answer within 30 s")
        for fd, _ in ready:
            index = by_fd[fd]
            connection = connections[index]
            data = _received(connection.socket)
            if not data:
                raise AnswerError("the server closed a connection without a word")
            for frame in connection.frames(data):
                if final not in frame:
                    continue
                number = done[index]
                if wanted[index][number] not in frame or b'"error"' in frame:
                    raise AnswerError(f"{plan.ids[index][number]} was answered {frame[:300]!r}")
                now = clock()
                latencies.append(now - sent_at[index])
                done[index] = number = number + 1
                if number == each:
                    open_calls -= 1
                else:
                    sent_at[index] = now
                    connection.socket.send(plan.frames[index][number])
    seconds = clock() - started
    poll.close()
    return Sample(len(latencies), seconds, latencies)
