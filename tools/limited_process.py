"""The limited service in a process of its own, so that no work of a client delays it.

``python -m tools.limited_process LIMIT`` prints ``ready URL``, serves until its input ends,
and then prints its account as one JSON object.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import orjson

from tools.bench_processes import ROOT
from tools.limited_upstream import limited_upstream


class Account(msgspec.Struct):
    """The counts of the service; see ``LimitedUpstream``."""

    most: int
    ended: dict[str, int]
    arrived: dict[str, float]
    served: list[float]


class LimitedProcess:
    """The running service; ``account`` ends it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    async def account(self) -> Account:
        output, _ = await self._process.communicate(b"")
        return msgspec.json.decode(output, type=Account)


@asynccontextmanager
async def limited_process(limit: int) -> AsyncIterator[LimitedProcess]:
    """Serve on a free port of 127.0.0.1 until ``account`` is called."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tools.limited_process", str(limit)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        limit=1 << 26,
    )
    try:
        assert process.stdout is not None
        ready = await process.stdout.readline()
        yield LimitedProcess(process, ready.decode().split()[1])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def main(limit: int) -> None:
    async with limited_upstream(limit, punctual=True) as upstream:
        print(f"ready {upstream.url}", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        account = Account(upstream.most, upstream.ended, upstream.arrived, upstream.served)
        print(orjson.dumps(msgspec.to_builtins(account)).decode())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
