"""Let every kind of actor fail under load, and account for it: ``python tools/inject_failures.py``.

A broker process with full load before a service that enforces its limit. One failure after the
other is injected at a random message. Exits with 1 if a request had no outcome or the answer of
another, the service ever had more calls than its limit, or was not fully used again within a
second. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from exai_actors.client import BrokerClient, connect
from exai_actors.client.console import open_console
from exai_actors.errors import BrokerError, ExaiError
from tools.bench_processes import ROOT
from tools.failure_injector import KINDS
from tools.limited_upstream import MODEL, TOO_MANY, LimitedUpstream, Order, limited_upstream

LIMIT = 4
SERVICE_MS = 50
OUTCOME_WITHIN_S = 20.0
FULL_USE_WITHIN_S = 1.0
# The use of the service is judged in windows, by their means: between two calls it is not full.
WINDOW_S = 0.05
FULL = 0.6
WATCHED_S = 0.4
RARE = {"BrokerActor", "SupervisorActor", "ConsoleActor"}

CONFIG = """
[server]
port = 0
drain_s = 0
[logging]
level = "error"
[[provider]]
name = "limited"
kind = "openai"
base_url = "{url}"
models = ["{model}"]
limit = {limit}
"""


@dataclass
class Account:
    """The findings. ``recoveries`` are the seconds until full use, by the class of the actor."""

    ended: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    without_outcome: int = 0
    wrong: int = 0
    complaints: list[str] = field(default_factory=list)


class FailingBroker:
    """The process; ``fail`` orders a failure and waits for it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process

    async def fail(self, kind: str, after: int) -> float:
        """Returns the instant of the failure."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{kind} {after}\n".encode())
        line = await asyncio.wait_for(self._process.stdout.readline(), 30.0)
        assert line.startswith(f"failed {kind}".encode()), line
        return time.monotonic()


@asynccontextmanager
async def failing_broker(url: str) -> AsyncIterator[FailingBroker]:
    """A broker before the service at ``url``; it has to end in an orderly way."""
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "failing.toml", Path(folder) / "broker.log"
        config.write_text(CONFIG.format(url=url, model=MODEL, limit=LIMIT))
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tools.failing_broker", "serve", "--config", str(config)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
            )
        assert process.stdout is not None
        try:
            ready = await asyncio.wait_for(process.stdout.readline(), 20.0)
            yield FailingBroker(process, ready.decode().split()[1])
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            code = await process.wait()
        if code:
            raise RuntimeError(f"the broker ended with code {code}:\n{log.read_text()[-3000:]}")


class Load:
    """Callers that always call by WebSocket and HTTP, connections that come and go, a console."""

    def __init__(self, url: str, upstream: LimitedUpstream, account: Account) -> None:
        self._url = url
        self._upstream = upstream
        self._account = account
        self._names = count()
        self._ends = asyncio.Event()
        self.samples: list[tuple[float, int]] = []

    async def run(self, sessions: int = 6, callers: int = 4) -> None:
        """Until ``stop``."""
        async with asyncio.TaskGroup() as group:
            for number in range(sessions):
                group.create_task(self._connection(f"session-{number}", callers))
            for _ in range(callers):
                group.create_task(self._calls_over_http())
            group.create_task(self._churn())
            group.create_task(self._watch())
            group.create_task(self._sample())

    def stop(self) -> None:
        self._ends.set()

    async def _connection(self, session: str, callers: int) -> None:
        """One connection, opened again whenever it is lost."""
        resume: str | None = None
        while not self._ends.is_set():
            with suppress(ExaiError, TimeoutError):
                async with connect(self._url, session_id=session, resume=resume) as client:
                    resume = client.resume
                    await asyncio.gather(*(self._calls(client) for _ in range(callers)))
            await asyncio.sleep(0.005)

    async def _calls(self, client: BrokerClient) -> None:
        account = self._account
        while not self._ends.is_set():
            order = Order(f"n{next(self._names):07}", SERVICE_MS, 3)
            try:
                result = await asyncio.wait_for(
                    client.call("chat", prompt=order.prompt), OUTCOME_WITHIN_S
                )
            except BrokerError as error:
                account.ended[error.body.code.value] += 1
            except TimeoutError:
                account.without_outcome += 1
            except ExaiError:
                account.ended["connection lost"] += 1
                return
            else:
                account.ended["answered"] += 1
                account.wrong += result.text != order.answer

    async def _calls_over_http(self) -> None:
        account = self._account
        url = self._url.replace("ws://", "http://", 1) + "/v1/chat/completions"
        timeout = aiohttp.ClientTimeout(OUTCOME_WITHIN_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while not self._ends.is_set():
                order = Order(f"n{next(self._names):07}", SERVICE_MS, 3)
                messages = [{"role": "user", "content": order.prompt}]
                try:
                    async with http.post(
                        url, json={"model": MODEL, "messages": messages}
                    ) as response:
                        answer = await response.json(content_type=None)
                except TimeoutError:
                    account.without_outcome += 1
                except aiohttp.ClientError:
                    account.ended["connection lost"] += 1
                    await asyncio.sleep(0.005)
                else:
                    if response.status == HTTPStatus.OK:
                        account.ended["answered"] += 1
                        text = answer["choices"][0]["message"]["content"]
                        account.wrong += text != order.answer
                    else:
                        account.ended[f"HTTP {response.status}"] += 1
                        await asyncio.sleep(0.005)

    async def _churn(self) -> None:
        while not self._ends.is_set():
            with suppress(ExaiError, TimeoutError):
                async with connect(self._url) as client:
                    await client.ping()
            await asyncio.sleep(0.02)

    async def _watch(self) -> None:
        while not self._ends.is_set():
            with suppress(ExaiError, TimeoutError):
                async with open_console(self._url, None) as console:
                    async for _ in console.watch("tree", every_s=0.1):
                        if self._ends.is_set():
                            break
            await asyncio.sleep(0.02)

    async def _sample(self) -> None:
        while not self._ends.is_set():
            self.samples.append((time.monotonic(), self._upstream.running))
            await asyncio.sleep(0.002)

    def full_use_after(self, since: float) -> float:
        """The seconds from ``since`` to the end of the longest time without full use."""
        windows: dict[int, list[int]] = {}
        for at, running in self.samples:
            if at >= since:
                windows.setdefault(int((at - since) / WINDOW_S), []).append(running)
        lows = [
            sum(windows[number]) / len(windows[number]) < FULL * LIMIT for number in sorted(windows)
        ]
        # A busy machine makes short dips of its own.
        longest = end = length = 0
        for number, is_low in enumerate(lows):
            length = length + 1 if is_low else 0
            if length > longest:
                longest, end = length, number + 1
        return end * WINDOW_S


async def run(failures: int, seed: int) -> Account:
    """So many failures of each kind, one after the other."""
    account, chance = Account(), random.Random(seed)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(limited_upstream(LIMIT))
        broker = await stack.enter_async_context(failing_broker(upstream.url))
        load = Load(broker.url, upstream, account)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(1.0)
        kinds = [kind.__name__ for kind in KINDS] * failures
        chance.shuffle(kinds)
        for kind in kinds:
            failed_at = await broker.fail(kind, chance.randint(1, 4 if kind in RARE else 40))
            account.recoveries.setdefault(kind, []).append(await recovery(load, failed_at))
            load.samples.clear()
        load.stop()
        await running
    judge(account, upstream)
    return account


async def recovery(load: Load, failed_at: float) -> float:
    """The seconds until the service was fully used again; at most five."""
    await asyncio.sleep(WATCHED_S)
    until = failed_at + 5.0
    while True:
        seconds = load.full_use_after(failed_at)
        if time.monotonic() - failed_at > seconds + 2 * WINDOW_S or time.monotonic() > until:
            return seconds
        await asyncio.sleep(WINDOW_S)


def judge(account: Account, upstream: LimitedUpstream) -> None:
    """Write down everything that must not happen."""
    if account.without_outcome:
        account.complaints.append(f"{account.without_outcome} requests without an outcome")
    if account.wrong:
        account.complaints.append(f"{account.wrong} answers of other requests")
    if upstream.most > LIMIT or upstream.ended[TOO_MANY]:
        account.complaints.append("the service had more calls than its limit")
    slow = max((max(each) for each in account.recoveries.values()), default=0.0)
    if slow > FULL_USE_WITHIN_S:
        account.complaints.append(f"full use came back only after {slow:.2f} s")


def as_text(account: Account) -> str:
    lines = ["full use again, in seconds, after failures of:"]
    for kind, seconds in sorted(account.recoveries.items()):
        ordered = sorted(seconds)
        lines.append(
            f"  {kind:16} {len(ordered):4} times   median {ordered[len(ordered) // 2]:.2f}   "
            f"slowest {ordered[-1]:.2f}"
        )
    ended = ", ".join(f"{number} {code}" for code, number in account.ended.most_common())
    lines += [f"requests: {ended}", f"without an outcome: {account.without_outcome}"]
    return "\n".join([*lines, *account.complaints])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failures", type=int, default=100, help="how many of each kind")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same orders")
    options = parser.parse_args()
    account = asyncio.run(run(options.failures, options.seed))
    print(as_text(account))
    return 1 if account.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
