"""The demo's scarce service: a limited number of calls in flight, and its own counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from exai_actors.daemon.demo.tally import DemoTally

MODEL = "scarce"


@asynccontextmanager
async def scarce_upstream(tally: DemoTally, *, limit: int, service_s: float) -> AsyncIterator[str]:
    """Serve chat completions that echo the prompt after ``service_s``; yields the base URL.

    Calls beyond ``limit`` are refused with 429, as real services do.
    """
    running = 0

    async def complete(request: web.Request) -> web.Response:
        nonlocal running
        body = await request.json()
        nonce = body["messages"][-1]["content"]
        if running >= limit:
            tally.refused()
            return web.json_response({"error": {"message": "too many at once"}}, status=429)
        running += 1
        tally.arrived(nonce, time.monotonic())
        try:
            await asyncio.sleep(service_s)
        finally:
            running -= 1
            tally.left(nonce, time.monotonic())
        return web.json_response(_completion(nonce))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await runner.cleanup()


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
