"""A host or its bridge is killed while calls run and wait: nothing is left of any of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from exai_actors.testing.broker import running_broker
from exai_actors.testing.config import provider_at
from exai_actors.testing.scripted_replies import Gate, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from exai_actors.testing.upstream_log import Fate
from tests.daemon.mcp_bridge.test_process import line
from tests.daemon.processes import EXAI, clean_environment

HOST = """
import signal, subprocess, sys
bridge = subprocess.Popen(sys.argv[1:])
print(bridge.pid, file=sys.stderr, flush=True)
signal.pause()
"""
"""Starts a bridge, to which it leaves its own stdin and stdout."""


@pytest.mark.parametrize("killed", ["bridge", "host"])
async def test_the_permit_of_a_killed_client_serves_the_next_one(killed: str) -> None:
    gate = Gate()
    async with (
        ScriptedUpstream(answer("half", gate), answer("for the next")) as upstream,
        running_broker({"provider": [provider_at(upstream.base_url)]}) as broker,
    ):
        stdin, hold = os.pipe()
        host = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOST, *EXAI, "mcp", "--url", broker.url,
            stdin=stdin, stdout=PIPE, stderr=PIPE, env=clean_environment(),
        )  # fmt: skip
        os.close(stdin)
        try:
            assert host.stdout is not None
            assert host.stderr is not None
            bridge = int(await host.stderr.readline())
            os.write(hold, line("initialize", {"protocolVersion": "2025-06-18"}))
            assert "result" in json.loads(await host.stdout.readline())
            for number in (2, 3):
                call = {"name": "chat", "arguments": {"prompt": f"number {number}"}}
                os.write(hold, line("tools/call", call, number))
            await gate.reached()
            async with asyncio.timeout(20):
                while not sum(each.queued for each in broker.statistics().providers):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            os.kill(bridge if killed == "bridge" else host.pid, signal.SIGKILL)
            found = await broker.settled(20.0)
            assert not any(each.in_flight or each.queued for each in found.providers)
            async with broker.connect() as client:
                assert (await client.call("chat", prompt="next")).text == "for the next"
            async with asyncio.timeout(20):
                while upstream.requests[0].fate is Fate.RUNNING:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            fates = [each.fate for each in upstream.requests]
            assert fates == [Fate.DISCONNECTED, Fate.COMPLETED]
            if killed == "bridge":
                host.kill()
            async with asyncio.timeout(20):
                # It ends with the bridge, although stdin is still open.
                await host.stdout.read()
        finally:
            os.close(hold)
            if host.returncode is None:
                host.kill()
            await host.communicate()
