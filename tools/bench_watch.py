"""Two consoles for the benchmark: ``python -m tools.bench_watch URL``.

They watch the tables that the terminal console shows at first in a large terminal, and those of the
web console's overview. Prints ``watching`` once all have come, and runs until it is terminated.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exai_actors.client.console import open_console
from tools.bench_processes import ROOT

Watches = dict[str, dict[str, Any]]

TERMINAL: Watches = {
    "broker": {"limit": 1},
    "alarms": {"limit": 20},
    "providers": {"limit": 50},
    "events": {"limit": 50},
    "tenants": {"limit": 50},
    "requests": {"filter": "state:queued", "sort": "-waited_s", "limit": 5, "every_s": 3.0},
}
WEB: Watches = {"providers": {}, "alarms": {}, "events": {"limit": 12}, "broker": {}}


async def watch(url: str, watches: Watches, started: asyncio.Event) -> None:
    """Read the tables until the broker ends."""
    async with open_console(url, None) as console:
        missing = set(watches)
        for table, query in watches.items():
            await console.send({"op": "watch", "table": table, **query})
        while True:
            frame = await console.receive()
            if frame["op"] == "error":
                raise RuntimeError(frame["message"])
            missing.discard(frame.get("table", ""))
            if not missing:
                started.set()


async def main(url: str) -> None:
    async with asyncio.TaskGroup() as group:
        started = [asyncio.Event() for _ in range(2)]
        for watches, event in zip((TERMINAL, WEB), started, strict=True):
            group.create_task(watch(url, watches, event))
        for event in started:
            await event.wait()
        print("watching", flush=True)


@contextmanager
def watching(address: tuple[str, int]) -> Iterator[None]:
    """Both consoles, in a process of their own."""
    url = f"ws://{address[0]}:{address[1]}"
    command = [sys.executable, "-m", "tools.bench_watch", url]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        if child.stdout.readline() != "watching\n":
            raise RuntimeError("the consoles did not start")
        yield
        if child.poll() is not None:
            raise RuntimeError("the consoles have ended")
    finally:
        child.terminate()
        child.communicate()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
