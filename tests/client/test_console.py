"""A console's connection to a server that is no broker, or none with consoles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from exai_actors.client import ConnectError
from exai_actors.client.console import open_console


@asynccontextmanager
async def server(answer: str | bytes | None) -> AsyncIterator[str]:
    """A WebSocket server that answers the first frame so, or not at all."""

    async def handle(socket: ServerConnection) -> None:
        await socket.recv()
        if answer is not None:
            await socket.send(answer)
        await socket.wait_closed()

    async with serve(handle, "127.0.0.1", 0) as running:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}"


async def refused(url: str, timeout_s: float = 10.0) -> str:
    with pytest.raises(ConnectError) as raised:
        async with open_console(url, None, open_timeout_s=timeout_s):
            pass
    return str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        "hi",
        b"\x00",
        "[]",
        "{",
        '{"op": "error", "error": {"code": "UNAUTHORIZED"}}',
        '{"op": "hello_ack", "ok": true, "session_id": "s-1"}',
    ],
)
async def test_another_server_is_recognised_by_its_answer(answer: str | bytes) -> None:
    async with server(answer) as url:
        assert "Is another program using that port?" in await refused(url)


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async with server(None) as url:
        assert "no answer within 0.1 s" in await refused(url, 0.1)


async def test_port_0_is_refused() -> None:
    assert "nothing can listen on port 0" in await refused("ws://127.0.0.1:0")
