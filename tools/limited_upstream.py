"""A service over real HTTP that enforces a limit of calls at a time and keeps its own account.

It judges a broker under load without asking the broker. Each prompt says how it is to be answered
(see ``Order``), and the answer follows from the prompt alone, so that a client can check that the
answer is its own. The HTTP is read and written by hand, so that little of a measurement is spent
here.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import orjson

MODEL = "limited"
TOO_MANY = "429 for too many at once"
_PIECES = 4
# How late a timer of the loop may be.
_TIMER_S = 0.001


@dataclass(frozen=True)
class Order:
    """The content of one prompt: ``size`` words of answer after ``delay_ms``."""

    nonce: str
    delay_ms: int
    size: int

    @property
    def prompt(self) -> str:
        return f"{self.nonce} {self.delay_ms} {self.size}"

    @property
    def answer(self) -> str:
        return " ".join([self.nonce, *(f"{self.nonce[-4:]}{at}" for at in range(self.size))])


def order_of(prompt: str) -> Order:
    nonce, delay_ms, size = prompt.split(" ")
    return Order(nonce, int(delay_ms), int(size))


@dataclass
class LimitedUpstream:
    """``arrived`` has the instant (``time.monotonic``) at which each nonce was accepted.

    ``refuse_with``: while set, every call is refused with this status, or its connection closed
    without an answer for 0; None answers calls. ``punctual``: an order's delay is kept to some
    microseconds, at the price of up to a millisecond of CPU time each.
    """

    limit: int
    punctual: bool = False
    url: str = ""
    running: int = 0
    most: int = 0
    refuse_with: int | None = None
    ended: Counter[str] = field(default_factory=Counter)
    arrived: dict[str, float] = field(default_factory=dict)
    served: list[float] = field(default_factory=list)


class _Exchange(asyncio.Protocol):
    """A connection of one client that sends one request at a time, with a Content-Length."""

    def __init__(self, upstream: LimitedUpstream) -> None:
        self._upstream = upstream
        self._data = b""
        self._order: Order | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        _, _, rest = self._data[:end].lower().partition(b"content-length:")
        size = int(rest.split(b"\r\n")[0] or 0)
        body = self._data[end + 4 : end + 4 + size]
        if len(body) == size:
            self._data = b""
            self._requested(orjson.loads(body))

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._order is not None:
            self._end("left by its client")

    def _requested(self, request: dict[str, Any]) -> None:
        upstream = self._upstream
        if upstream.refuse_with is not None:
            self._refuse(upstream.refuse_with)
        elif upstream.running >= upstream.limit:
            upstream.ended[TOO_MANY] += 1
            self._answer(HTTPStatus.TOO_MANY_REQUESTS, _error("too many at once"))
        else:
            self._order = order = order_of(request["messages"][-1]["content"])
            upstream.arrived[order.nonce] = time.monotonic()
            upstream.running += 1
            upstream.most = max(upstream.most, upstream.running)
            if request.get("stream"):
                self._transport.write(_EVENTS_HEAD)
                self._stream(order, self._loop.time(), 0)
            else:
                due = self._loop.time() + order.delay_ms / 1e3
                self._at(due, lambda: self._complete(order))

    def _complete(self, order: Order) -> None:
        self._end("answered")
        self._answer(HTTPStatus.OK, _completion(order.answer))

    def _stream(self, order: Order, began: float, number: int) -> None:
        text = order.answer
        step = -(-len(text) // _PIECES)
        if number:
            piece = text[(number - 1) * step : number * step]
            self._transport.write(_event({"content": piece}, None))
        if number < _PIECES:
            due = began + order.delay_ms / 1e3 * (number + 1) / _PIECES
            self._at(due, lambda: self._stream(order, began, number + 1))
        else:
            self._end("answered")
            self._transport.write(_event({}, "stop") + _chunk(b"data: [DONE]\n\n") + _chunk(b""))

    def _end(self, how: str) -> None:
        upstream, self._order = self._upstream, None
        upstream.running -= 1
        upstream.ended[how] += 1
        if how == "answered":
            upstream.served.append(time.monotonic())

    def _refuse(self, status: int) -> None:
        self._upstream.ended[f"refused with {status}"] += 1
        if status:
            self._answer(HTTPStatus(status), _error(f"refused with {status}"))
        else:
            self._transport.abort()

    def _answer(self, status: HTTPStatus, value: object) -> None:
        body = orjson.dumps(value)
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            head.append("Retry-After: 1")
        self._transport.write("\r\n".join([*head, "", ""]).encode() + body)

    def _at(self, due: float, act: Callable[[], None]) -> None:
        punctual = self._upstream.punctual

        def ring() -> None:
            while punctual and self._loop.time() < due:
                """A timer of the loop is not exact enough."""
            act()

        self._timer = self._loop.call_at(due - _TIMER_S * punctual, ring)


@asynccontextmanager
async def limited_upstream(limit: int, *, punctual: bool = False) -> AsyncIterator[LimitedUpstream]:
    """Serve on a free port of 127.0.0.1."""
    upstream = LimitedUpstream(limit, punctual)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Exchange(upstream), "127.0.0.1", 0, backlog=4096
    )
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield upstream
    finally:
        # Its connections are closed by the broker when that ends.
        server.close()


_EVENTS_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "limited", "model": MODEL, "choices": [choice]}
    return _chunk(b"data: " + orjson.dumps(event) + b"\n\n")


def _error(message: str) -> dict[str, object]:
    return {"error": {"message": message}}


def _completion(text: str) -> dict[str, object]:
    tokens = len(text) // 4 + 1
    return {
        "id": "limited",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": tokens + 8},
    }
