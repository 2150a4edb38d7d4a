"""The base of the benchmark: a WebSocket server in the usual style of ``websockets``.

``async for`` and ``send``, no compression. It parses the same request with orjson and dumps an
answer of the same shape and size as the broker's, and does nothing else. ``--uvloop`` runs it on
the event loop that the broker uses by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def echo(socket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(orjson.dumps(answer_to(orjson.loads(message))).decode())


def answer_to(request: dict[str, object]) -> dict[str, object]:
    """The answer of the broker with its synthetic provider, without using any of its code."""
    arguments = request["arguments"]
    assert isinstance(arguments, dict)
    text = (
        "This is exai's built-in synthetic model, not an AI. "
        f'You asked for: "{arguments["prompt"]}" '
        "A real model would do that here, piece by piece, as these words come."
    )
    return {
        "op": "call_tool_res",
        "request_id": request["request_id"],
        "ok": True,
        "outputs": [{"type": "text", "text": text}],
        "text": text,
    }


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0, compression=None, max_size=32 << 20) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"ready ws://127.0.0.1:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
