"""A service that closes idle connections while the next request is on its way, through a broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from exai_actors.client import connect
from exai_actors.errors import BrokerError
from exai_actors.testing.broker import running_broker

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%b"
EVENTS = (
    b'data: {"choices":[{"delta":{"content":"fine"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
ANSWER = STREAM % (len(EVENTS), EVENTS)


class Racing:
    """Answers the first request of each connection and closes on the second one, unanswered."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.port = 0
        self._connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        for first in (True, False):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            self.requests.append(number)
            if first:
                writer.write(ANSWER)
        writer.close()


@asynccontextmanager
async def racing() -> AsyncIterator[Racing]:
    service = Racing()
    async with await asyncio.start_server(service.serve, "127.0.0.1", 0) as server:
        service.port = server.sockets[0].getsockname()[1]
        yield service


def config_for(service: Racing, **more: object) -> dict[str, object]:
    provider = {
        "kind": "openai",
        "name": "p",
        "base_url": f"http://127.0.0.1:{service.port}/v1",
        "models": ["m"],
        "limit": 4,
    }
    return {"provider": [provider | more]}


@pytest.mark.parametrize("more", [{}, {"attempts": 1}, {"requests_per_minute": 50}])
async def test_every_call_is_answered_although_every_second_connection_is_gone(
    more: dict[str, object],
) -> None:
    async with (
        racing() as service,
        running_broker(config_for(service, **more)) as broker,
        connect(broker.url) as client,
    ):
        for number in range(6):
            assert (await client.call("chat", {"prompt": f"{number}"})).text == "fine"
    # The first call, and each further one twice: on the used and on a fresh connection.
    assert service.requests == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


async def test_a_request_on_a_fresh_connection_is_not_sent_twice() -> None:
    requests = 0

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.close()

    service = Racing()
    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        service.port = server.sockets[0].getsockname()[1]
        async with running_broker(config_for(service)) as broker, connect(broker.url) as client:
            with pytest.raises(BrokerError, match="closed the connection without answering"):
                await client.call("chat", {"prompt": "hi"})
    assert requests == 1
