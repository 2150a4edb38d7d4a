"""The socket edge of the broker alone, with the answers of the base; the actors add the rest."""

from __future__ import annotations

import asyncio
import gc
import sys

import orjson

from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.edges.websocket.settings import WebSocketSettings
from exai_actors.messages.connection import ConnectionMessage, TextReceived
from exai_actors.messages.recipient import Offer
from exai_actors.ports import Outbox
from tools.bench_echo import answer_to


class Echo:
    """Takes the place of an actor, and answers immediately."""

    __slots__ = ("_outbox",)

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def tell(self, message: ConnectionMessage, /) -> None: ...

    def tell_system(self, message: ConnectionMessage, /) -> None: ...

    def offer(self, message: ConnectionMessage, /) -> Offer:
        if isinstance(message, TextReceived):
            self._outbox.send(orjson.dumps(answer_to(orjson.loads(message.data))))
        return "accepted"


async def main() -> None:
    server = WebSocketServer(
        host="127.0.0.1",
        port=0,
        open_connection=lambda _peer, outbox: Echo(outbox),
        settings=WebSocketSettings(max_connections=20_000),
    )
    port = await server.start()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    print(f"ready ws://127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
