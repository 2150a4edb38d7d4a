"""Calls and their connections are freed when they end, not by the collector."""

import asyncio
import gc

from exai_actors.testing.scripted_replies import answer, failure, hang
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.edges.http.calling import Caller, caller_for
from tests.garbage import only_found_by_the_collector


async def calls(upstream: ScriptedUpstream, caller: Caller) -> None:
    """One of each kind, on a used connection and on new ones."""
    for stream in (True, False):
        await caller.start(stream=stream).end()
        await caller.start(stream=stream, fresh=True).end()
    upstream.then(answer("Hel", b"data: {oops\n\n"), failure(429), hang())
    await caller.start().end()
    await caller.start().end()
    before = upstream.started
    aborted = caller.start()
    await upstream.wait_for_started(before + 1)
    aborted.call.abort()
    await aborted.end()
    await asyncio.sleep(0)


async def test_ended_calls_and_their_connections_are_in_no_cycle() -> None:
    async with ScriptedUpstream() as upstream, caller_for(upstream.base_url) as caller:
        await calls(upstream, caller)
        with only_found_by_the_collector() as garbage:
            await calls(upstream, caller)
            gc.collect()
            modules = {type(each).__module__ for each in garbage}
    assert not {name for name in modules if name.startswith("exai_actors.edges.http")}
