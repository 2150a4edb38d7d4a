"""Measure how soon a permit is in use again when its client is gone.

``python tools/bench_gone.py``: a broker with one permit in front of a scripted upstream over HTTP.
A first client's call is brought to a phase, a second client's call waits behind it, and then the
first client goes. Measured is the time from there until the upstream itself, not the broker, has
the second client's call in hand. Where the first call only waited, a third one held the permit and
its answer ends at the same moment, so that the two race.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import orjson
from websockets.asyncio.client import ClientConnection, connect

from exai_actors.testing.scripted_replies import HANG, Gate, Reply, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from exai_actors.testing.upstream_log import SeenRequest
from tools.bench_processes import Process

REPEATS = 50
PHASES = ("waiting in the queue", "before the first byte", "in the middle of a stream")
WAYS = ("cancels", "closes", "vanishes")

_CONFIG = """
[server]
port = 0
[[provider]]
name = "scarce"
kind = "openai"
base_url = "{url}"
models = ["scripted-model"]
limit = 1
"""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Gone:
    """How a client went in which phase, and the ms until its permit was in use again."""

    phase: str
    way: str
    p50_ms: float
    p99_ms: float


class _Client:
    """A client past its hello."""

    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws

    async def send(self, **frame: object) -> None:
        await self._ws.send(orjson.dumps(frame).decode())

    async def call(self, request_id: str) -> None:
        arguments = {"prompt": request_id}
        await self.send(
            op="call_tool", request_id=request_id, name="chat", arguments=arguments, stream=True
        )

    async def until(self, op: str) -> None:
        while orjson.loads(await self._ws.recv()).get("op") != op:
            pass

    async def go(self, way: str, request_id: str) -> None:
        match way:
            case "cancels":
                await self.send(op="cancel", request_id=request_id)
            case "closes":
                # Its close frame leaves without waiting for the broker's.
                self._ws.protocol.send_close(1000)
                for data in self._ws.protocol.data_to_send():
                    self._ws.transport.write(data)
            case _:
                raw = self._ws.transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self._ws.transport.abort()


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[_Client]:
    async with connect(url, compression=None, close_timeout=1) as ws:
        client = _Client(ws)
        await client.send(op="hello")
        await client.until("hello_ack")
        yield client


class _Upstream:
    """The reply to each prompt, and when each prompt arrived."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.seen_at: dict[str, float] = {}

    def __call__(self, seen: SeenRequest) -> Reply:
        self.seen_at[seen.prompt] = time.perf_counter()
        return self.replies.pop(seen.prompt)


def gone(repeats: int = REPEATS) -> list[Gone]:
    """Every phase with every way to go, taking turns."""
    return asyncio.run(_gone(repeats))


async def _gone(repeats: int) -> list[Gone]:
    script = _Upstream()
    samples: dict[tuple[str, str], list[float]] = {}
    async with ScriptedUpstream(default=script) as upstream:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "bench.toml"
            config.write_text(_CONFIG.format(url=upstream.base_url))
            command = [sys.executable, "-m", "exai_actors", "serve", "--config", str(config)]
            broker = await asyncio.to_thread(Process, command, Path(folder) / "broker.log")
            try:
                url = f"ws://{broker.address[0]}:{broker.address[1]}"
                for number in range(repeats):
                    for phase in PHASES:
                        for way in WAYS:
                            each = await _sample(url, upstream, script, phase, way, f"{number}")
                            samples.setdefault((phase, way), []).append(each * 1e3)
            finally:
                await asyncio.to_thread(broker.stop)
    return [
        Gone(*case, statistics.median(found), sorted(found)[int(len(found) * 0.99)])
        for case, found in samples.items()
    ]


async def _sample(
    url: str, upstream: ScriptedUpstream, script: _Upstream, phase: str, way: str, tag: str
) -> float:
    held, first, following = f"held {tag}", f"first {tag}", f"following {tag}"
    release = Gate()
    script.seen_at.clear()
    script.replies = {
        held: answer("held", before=[release]),
        first: answer("Hel", HANG) if phase == PHASES[2] else answer(before=[HANG]),
        following: answer("here"),
    }
    before = upstream.started
    async with _client(url) as holder, _client(url) as leaver, _client(url) as waiter:
        if phase == PHASES[0]:
            await holder.call(held)
            await upstream.wait_for_started(before + 1)
        await leaver.call(first)
        if phase != PHASES[0]:
            await upstream.wait_for_started(before + 1)
        if phase == PHASES[2]:
            await leaver.until("stream_chunk")
        await waiter.call(following)
        await waiter.until("progress")
        went_at = time.perf_counter()
        await leaver.go(way, first)
        release.open()
        await upstream.wait_until(
            lambda: following in script.seen_at, "the following call is there"
        )
        await waiter.until("call_tool_res")
    await upstream.wait_until_idle()
    return script.seen_at[following] - went_at


def as_table(rows: list[Gone]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| its call was | the client | p50 ms | p99 ms |", "|---|---|---:|---:|"]
    lines += [f"| {row.phase} | {row.way} | {row.p50_ms:.1f} | {row.p99_ms:.1f} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="samples for each row")
    print(as_table(gone(parser.parse_args().repeats)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
