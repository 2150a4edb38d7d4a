"""A service over real HTTP that allows only so much at once, and keeps its own account of it.

It is the judge of loads: what the broker says of itself is not asked. Each prompt says what is to
be done with it (see ``Order``), and the answer follows from the prompt alone, so that whoever asked
can tell whether the answer is his.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

MODEL = "limited"
_PIECES = 4


@dataclass(frozen=True)
class Order:
    """What one prompt asks for: ``size`` words of answer after ``delay_ms``."""

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
    """``arrived`` has the instant (``time.monotonic``) at which each nonce came in for good.

    ``refuse_with``: as long as it is set, everything is refused with this status; None of an open
    door, 0 to close the connection without a word.
    """

    limit: int
    url: str = ""
    running: int = 0
    most: int = 0
    refuse_with: int | None = None
    ended: Counter[str] = field(default_factory=Counter)
    arrived: dict[str, float] = field(default_factory=dict)
    served: list[float] = field(default_factory=list)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        order = order_of(body["messages"][-1]["content"])
        if self.refuse_with is not None:
            return self._refuse(request, self.refuse_with)
        if self.running >= self.limit:
            self.ended["429 for too many at once"] += 1
            return web.json_response({"error": {"message": "too many at once"}}, status=429)
        self.arrived[order.nonce] = time.monotonic()
        self.running += 1
        self.most = max(self.most, self.running)
        done = False
        try:
            if body.get("stream"):
                response = await self._stream(request, order)
            else:
                await asyncio.sleep(order.delay_ms / 1e3)
                response = web.json_response(_completion(order.answer))
            done = True
            return response
        except ConnectionResetError:
            return web.Response(status=500)
        finally:
            self.running -= 1
            self.ended["answered" if done else "left by its client"] += 1
            if done:
                self.served.append(time.monotonic())

    def _refuse(self, request: web.Request, status: int) -> web.Response:
        self.ended[f"refused with {status}"] += 1
        if not status:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        headers = {"Retry-After": "1"} if status == 429 else {}
        error = {"message": f"refused with {status}"}
        return web.json_response({"error": error}, status=status, headers=headers)

    async def _stream(self, request: web.Request, order: Order) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = order.answer
        step = -(-len(text) // _PIECES)
        for at in range(0, len(text), step):
            await asyncio.sleep(order.delay_ms / 1e3 / _PIECES)
            await response.write(_event({"content": text[at : at + step]}, None))
        await response.write(_event({}, "stop") + b"data: [DONE]\n\n")
        await response.write_eof()
        return response


@asynccontextmanager
async def limited_upstream(limit: int) -> AsyncIterator[LimitedUpstream]:
    """Serve on a free port of 127.0.0.1."""
    upstream = LimitedUpstream(limit)
    app = web.Application(client_max_size=33_554_432)
    app.router.add_post("/v1/chat/completions", upstream.complete)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield upstream
    finally:
        await runner.cleanup()


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


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "limited", "model": MODEL, "choices": [choice]}
    return b"data: " + orjson.dumps(event) + b"\n\n"
