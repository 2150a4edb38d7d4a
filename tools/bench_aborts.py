"""Count the calls that a strict service refuses because clients abort theirs.

``python tools/bench_aborts.py --busy 2 --rest 0 --rest '"auto"'``: clients of a broker start calls
and cancel each of them a moment later. The service, in a process of its own, answers 429 as soon as
it has more calls than its limit. Each 429 means that the broker used the permit of an aborted call
before the service had noticed that its connection was closed. ``--busy`` processes compete for the
CPU. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from exai_actors.client import BrokerClient, connect
from exai_actors.errors import BrokerError
from tools.capacity_live import broker_before
from tools.limited_process import limited_process
from tools.limited_upstream import TOO_MANY, Order

LIMIT = 8
CLIENTS = 24
CALL_MS = 1000
CANCEL_AFTER_S = (0.005, 0.06)


@dataclass
class Aborts:
    """One run: ``too_many`` calls were refused while the service still counted aborted ones."""

    rest: str
    aborted: int
    too_many: int


def aborts(rest: str, seconds: float, busy: int, seed: int = 1) -> Aborts:
    """Run with ``quarantine_s = rest`` for so long, beside so many ``busy`` processes."""
    with busy_processes(busy, seconds + 20):
        return asyncio.run(_aborts(rest, seconds, random.Random(seed)))


@contextmanager
def busy_processes(number: int, max_s: float) -> Iterator[None]:
    """Processes that use a core each until the end of the block, ``max_s`` at most."""
    loop = f"import time\nend = time.monotonic() + {max_s}\nwhile time.monotonic() < end: pass"
    running = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(number)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


async def _aborts(rest: str, seconds: float, chance: random.Random) -> Aborts:
    names = count()
    until = 0.0

    async def calls(client: BrokerClient) -> None:
        while time.monotonic() < until:
            order = Order(f"a{next(names):06}", CALL_MS, 4)
            with suppress(BrokerError, TimeoutError):
                async with asyncio.timeout(chance.uniform(*CANCEL_AFTER_S)):
                    await client.call("chat", prompt=order.prompt)

    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(limited_process(LIMIT))
        before = broker_before(service.url, limit=LIMIT, provider=f"quarantine_s = {rest}")
        url, _ = await stack.enter_async_context(before)
        clients = [
            await stack.enter_async_context(connect(url, session_id=f"aborts-{number}"))
            for number in range(CLIENTS)
        ]
        until = time.monotonic() + seconds
        await asyncio.gather(*map(calls, clients))
        account = await service.account()
    return Aborts(rest, account.ended.get("left by its client", 0), account.ended.get(TOO_MANY, 0))


def as_table(rows: list[Aborts]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| quarantine_s | calls aborted | refused with 429 |", "|---|---:|---:|"]
    lines += [f"| {row.rest} | {row.aborted:,} | {row.too_many} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each run takes")
    parser.add_argument("--busy", type=int, default=0, help="processes that compete for the CPU")
    parser.add_argument("--rest", action="append", default=[], help="a quarantine_s to compare")
    options = parser.parse_args()
    rests = options.rest or ["0", '"auto"']
    print(as_table([aborts(rest, options.seconds, options.busy) for rest in rests]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
