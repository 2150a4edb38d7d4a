"""The base of the benchmark: a WebSocket server as everybody writes it with ``websockets``.

``async for`` and ``send``, no compression. It parses the same request with orjson and dumps an
answer of the same shape and size as the broker's, and does nothing else.
"""

from __future__ import annotations

import asyncio

import orjson
from websockets.asyncio.server import ServerConnection, serve

from tools.bench_answers import TEXT


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        request = orjson.loads(message)
        text = TEXT
        answer = {
            "op": "call_tool_res",
            "request_id": request["request_id"],
            "ok": True,
            "outputs": [{"type": "text", "text": text}],
            "text": text,
            "prompt_was": request["arguments"]["prompt"][:16],
        }
        await socket.send(orjson.dumps(answer).decode())


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0, compression=None, max_size=32 << 20) as server:
        print(f"ready ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
