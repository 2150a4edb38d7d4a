"""The demo's scarce service: a limited number of calls in flight, and its own counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from exai_actors.daemon.demo.tally import DemoTally

MODEL = "scarce"


class ScarceService:
    """Chat completions that echo the prompt after ``service_s``, at most ``limit`` at once.

    Calls beyond the limit are refused with 429, as real services do.
    """

    def __init__(self, tally: DemoTally, *, limit: int, service_s: float) -> None:
        self.base_url = ""
        self._tally = tally
        self._limit = limit
        self._service_s = service_s
        self._running = 0
        self._ask_s: float | None = None
        self._awaited: dict[str, asyncio.Event] = {}

    def arrival_of(self, nonce: str) -> asyncio.Event:
        """An event that is set once the service works on this request."""
        return self._awaited.setdefault(nonce, asyncio.Event())

    def ask_for_silence(self, seconds: float) -> None:
        """Answer the next call with 429, and ask for so many seconds without a call."""
        self._ask_s = seconds

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        nonce = body["messages"][-1]["content"]
        if self._ask_s is not None:
            seconds, self._ask_s = self._ask_s, None
            self._tally.asked_to_slow_down(seconds, time.monotonic())
            headers = {"Retry-After-Ms": str(round(seconds * 1000))}
            return _refusal("slow down", headers)
        if self._running >= self._limit:
            self._tally.refused()
            return _refusal("too many at once", {})
        self._running += 1
        self._tally.arrived(nonce, time.monotonic())
        if awaited := self._awaited.pop(nonce, None):
            awaited.set()
        try:
            await asyncio.sleep(self._service_s)
        finally:
            self._running -= 1
            self._tally.left(nonce, time.monotonic())
        return web.json_response(_completion(nonce))


@asynccontextmanager
async def scarce_service(
    tally: DemoTally, *, limit: int, service_s: float
) -> AsyncIterator[ScarceService]:
    """Run a service on a free port while the block runs."""
    service = ScarceService(tally, limit=limit, service_s=service_s)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", service.complete)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1)
        await site.start()
        service.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield service
    finally:
        await runner.cleanup()


def _refusal(message: str, headers: dict[str, str]) -> web.Response:
    body = {"error": {"message": message, "type": "rate_limit_error"}}
    return web.json_response(body, status=429, headers=headers)


def _completion(text: str) -> dict[str, object]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "demo",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
