"""An upstream over HTTP that costs as little as possible, for the cost of the broker's client.

It answers each chat completion at once with the last message's text, as one JSON body.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import cast

import orjson
import uvloop

_numbers = count(1)


class Service(asyncio.Protocol):
    """Just enough HTTP/1.1 for clients that keep connections and send a Content-Length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._data) < end + 4 + size:
                return
            body = self._data[end + 4 : end + 4 + size]
            self._data = self._data[end + 4 + size :]
            self._answer(models() if head.startswith(b"get") else completion(body))

    def _answer(self, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )


def models() -> bytes:
    return orjson.dumps({"object": "list", "data": [{"id": "instant", "object": "model"}]})


def completion(body: bytes) -> bytes:
    request = orjson.loads(body)
    text = request["messages"][-1]["content"]
    return orjson.dumps(
        {
            "id": f"chatcmpl-{next(_numbers)}",
            "object": "chat.completion",
            "model": request["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
        }
    )


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", 0)
    print(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
