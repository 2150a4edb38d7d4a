"""An ended connection is freed by reference counting: the daemon rarely runs its collector."""

from __future__ import annotations

import asyncio
import gc

import pytest

from exai_actors.testing.broker import running_broker
from tests.edges.websocket.client_frames import HANDSHAKE, close, text
from tests.garbage import only_found_by_the_collector

# asyncio's own transports are in a cycle, uvloop's are not.
WEIGHTY = {
    "MessageProtocol",
    "ScheduledMessage",
    "SocketOutbox",
    "TCPTransport",
    "WebSocketConnection",
}
HELLO = text('{"op":"hello"}')
CALL = text('{"op":"tool_call","request_id":"a","name":"chat","arguments":{"prompt":"x"}}')


@pytest.mark.parametrize("ending", [close(), close()[:1], b"", b"\x81\x00"])
async def test_an_ended_connection_is_freed_without_the_collector(ending: bytes) -> None:
    with only_found_by_the_collector() as found:
        await _connections_that_end(ending)
        gc.collect()
        assert WEIGHTY.isdisjoint(type(each).__name__ for each in found)


async def _connections_that_end(ending: bytes) -> None:
    async with running_broker({"session": {"resume_s": 0}}) as broker:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HELLO + CALL)
            await reader.readuntil(b'"call_tool_res"')
            writer.write(ending)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
