"""A broker that stood still (SIGSTOP) reads what has arrived before any of its timeouts act."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from exai_actors.client import connect
from exai_actors.testing.scripted_replies import Gate, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.processes import Serving, provider_at, serving

LIMIT_S = 1.0


@asynccontextmanager
async def standing_still(broker: Serving) -> AsyncIterator[None]:
    """Stop the process, run the block, and let it continue once every timeout is over."""
    loop = asyncio.get_running_loop()
    broker.process.send_signal(signal.SIGSTOP)
    try:
        over = loop.time() + LIMIT_S + 0.3
        yield
        # A process that stands still has no event to wait for.
        await asyncio.sleep(over - loop.time())
    finally:
        broker.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    "limit", ["first_byte_timeout_s", "idle_timeout_s", "total_timeout_s", "request_timeout_s"]
)
async def test_an_answer_that_arrives_while_the_broker_stands_still_is_complete(
    tmp_path: Path, limit: str
) -> None:
    gate = Gate()
    reply = answer("Hel", gate, "lo")
    if limit == "first_byte_timeout_s":
        reply = answer("Hel", "lo", before=(gate,))
    line = f"{limit} = {LIMIT_S}"
    async with ScriptedUpstream(reply) as upstream:
        if limit == "request_timeout_s":
            config = f"[session]\n{line}\n{provider_at(upstream)}"
        else:
            config = provider_at(upstream, line)
        async with serving(config, tmp_path) as broker, connect(broker.url) as client:
            call = asyncio.create_task(client.call("chat", {"prompt": "hi"}))
            await gate.reached()
            async with standing_still(broker):
                gate.open()
                await upstream.wait_for_completed()
            assert (await call).text == "Hello"
