"""The conversation on the protocol page is one that a broker has."""

from __future__ import annotations

import json
import re
from typing import Any

from websockets.asyncio.client import connect

from exai_actors.testing.broker import running_broker
from exai_actors.testing.config import provider_at
from exai_actors.testing.scripted_replies import Gate, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "reference" / "protocol.md"
ANY = "(any)"


def frames() -> list[tuple[str, dict[str, Any]]]:
    """The frames on the page, each with its sender."""
    block = re.search(r"```text\n(client> .*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    lines = [line.split("> ", 1) for line in block[1].splitlines()]
    return [(sender, json.loads(frame.replace("…", f'"{ANY}"'))) for sender, frame in lines]


async def test_the_conversation_on_the_page_takes_place() -> None:
    gate = Gate()
    async with (
        ScriptedUpstream(answer("Hel", gate, "lo.")) as upstream,
        running_broker({"provider": [provider_at(upstream.base_url)]}) as broker,
        connect(broker.url) as socket,
    ):
        said = frames()
        assert [sender for sender, _ in said].count("client") == 3
        for sender, frame in said:
            if sender == "client":
                await socket.send(json.dumps(frame))
                continue
            received = json.loads(await socket.recv())
            assert {
                key: ANY if frame.get(key) == ANY else value for key, value in received.items()
            } == frame
            if frame["op"] == "stream_chunk":
                gate.open()
