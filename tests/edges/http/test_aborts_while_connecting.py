"""An exchange that is aborted while it connects has one end, in whichever turn of the loop."""

import asyncio
from typing import Any

import pytest

from exai_actors.core.calls import Aborted
from exai_actors.edges.http.client import Target
from tests.edges.http.exchanging import OK, LateClient, Recorder, peer, start, turns

# More than it takes to open a connection once its socket is connected.
_TURNS = 6


@pytest.mark.parametrize("turn", range(_TURNS))
async def test_an_abort_of_a_connection_in_the_making_ends_its_exchange(
    turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    create_connection = loop.create_connection
    aborted = Recorder()

    def abort(turns_left: int) -> None:
        assert aborted.exchange is not None
        if turns_left:
            loop.call_soon(abort, turns_left - 1)
        else:
            aborted.exchange.abort()

    async def abort_meanwhile(*args: Any, **named: Any) -> object:
        loop.call_soon(abort, turn)
        return await create_connection(*args, **named)

    client = LateClient()
    async with peer(OK[:-1]) as service:
        monkeypatch.setattr(loop, "create_connection", abort_meanwhile)
        start(client, Target("POST", service.url, {}), receiver=aborted)
        await aborted.until(lambda: aborted.end is not None)
        assert aborted.end == Aborted()
        await turns()
        async with asyncio.timeout(5):
            await client.aclose()


@pytest.mark.parametrize("turn", range(_TURNS))
async def test_an_attempt_to_connect_that_another_cancels_ends_its_exchange(
    turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    create_connection = loop.create_connection
    attempts: list[asyncio.Task[object]] = []

    def cancel(turns_left: int) -> None:
        if turns_left:
            loop.call_soon(cancel, turns_left - 1)
        else:
            attempts[0].cancel()

    async def cancel_meanwhile(*args: Any, **named: Any) -> object:
        attempt = asyncio.current_task()
        assert attempt is not None
        attempts.append(attempt)
        loop.call_soon(cancel, turn)
        return await create_connection(*args, **named)

    client = LateClient()
    async with peer(OK[:-1]) as service:
        monkeypatch.setattr(loop, "create_connection", cancel_meanwhile)
        cancelled = start(client, Target("POST", service.url, {}))
        await cancelled.until(lambda: cancelled.end is not None or bool(cancelled.body))
        assert cancelled.end == Aborted() or not attempts[0].cancelled()
        await turns()
        async with asyncio.timeout(5):
            await client.aclose()
