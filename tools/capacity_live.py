"""A broker as a process of its own before a service that enforces its limit, and real clients."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from exai_actors.client import BrokerClient, OverCapacity, Progress, RequestTimeout, connect
from exai_actors.errors import BrokerError
from tools.bench_processes import Process
from tools.capacity_simulated import percentile
from tools.limited_process import limited_process
from tools.limited_upstream import MODEL, TOO_MANY, Order, limited_upstream

LIMIT = 4
SERVICE_MS = 200
IDEAL_PER_S = LIMIT * 1000 / SERVICE_MS

_CONFIG = """
[server]
port = 0
max_connections = {connections}
drain_s = 0
[logging]
level = "error"
[session]
request_timeout_s = 600
{session}
[[provider]]
name = "scarce"
kind = "openai"
base_url = "{url}"
models = ["{model}"]
limit = {limit}
queue = 100000
{provider}
"""


@asynccontextmanager
async def broker_before(
    url: str,
    *,
    limit: int = LIMIT,
    connections: int = 5000,
    session: str = "",
    provider: str = "",
) -> AsyncIterator[tuple[str, Process]]:
    """``exai serve`` with one provider, and ``provider`` as more of its keys.

    Yields its URL and its process.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "bench.toml"
        config.write_text(
            _CONFIG.format(
                url=url,
                model=MODEL,
                limit=limit,
                connections=connections,
                session=session,
                provider=provider,
            )
        )
        command = [sys.executable, "-m", "exai_actors", "serve", "--config", str(config)]
        log = Path(folder) / "broker.log"
        process = await asyncio.to_thread(Process, command, log)
        try:
            yield f"ws://{process.address[0]}:{process.address[1]}", process
        finally:
            await asyncio.to_thread(process.stop)


@dataclass
class GreedyAndSmall:
    """One session with many connections beside one with few, all of them always asking."""

    per_s: float
    errors: int
    too_many: int
    most_at_once: int
    small_p99_wait_s: float
    small_share: float
    small_entitled: float
    estimate_errors: list[float] = field(default_factory=list)
    """|sent - real| / real of every estimate that a waiting client received."""


async def greedy_and_small(seconds: float, *, greedy: int = 24, small: int = 2) -> GreedyAndSmall:
    """``seconds`` are measured after one that warms up."""
    names = count()
    sent: dict[str, float] = {}
    estimates: list[tuple[str, float, float]] = []
    errors = 0
    until = 0.0

    async def calls(client: BrokerClient, session: str) -> None:
        nonlocal errors
        while time.monotonic() < until:
            order = Order(f"{session}{next(names):06}", SERVICE_MS, 4)

            def on_progress(progress: Progress, nonce: str = order.nonce) -> None:
                if progress.estimate_s is not None:
                    estimates.append((nonce, time.monotonic(), progress.estimate_s))

            sent[order.nonce] = time.monotonic()
            try:
                result = await client.call("chat", prompt=order.prompt, on_progress=on_progress)
                errors += result.text != order.answer
            except BrokerError:
                errors += 1

    async with limited_process(LIMIT) as service, broker_before(service.url) as (url, _):
        async with AsyncExitStack() as stack:
            clients = [
                (name, await stack.enter_async_context(connect(url, session_id=name * 3)))
                for name, number in (("g", greedy), ("s", small))
                for _ in range(number)
            ]
            began = time.monotonic() + 1.0
            until = began + seconds
            await asyncio.gather(*(calls(client, name) for name, client in clients))
        upstream = await service.account()
        served = [at for at in upstream.served if began <= at < until]
        waits = [
            upstream.arrived[nonce] - at
            for nonce, at in sent.items()
            if nonce[0] == "s" and nonce in upstream.arrived and began <= at < until
        ]
        mine = sum(began <= at < until for nonce, at in upstream.arrived.items() if nonce[0] == "s")
        estimate_errors = [
            abs(upstream.arrived[nonce] - at - estimate) / max(upstream.arrived[nonce] - at, 0.01)
            for nonce, at, estimate in estimates
            if nonce in upstream.arrived and at < upstream.arrived[nonce]
        ]
        entitled = min(small * 1000 / SERVICE_MS, IDEAL_PER_S / 2) / IDEAL_PER_S
        # From the end of the first round to the end of the last: no part of a round is counted.
        rounds_s = served[-1] - served[LIMIT - 1]
        return GreedyAndSmall(
            (len(served) - LIMIT) / rounds_s,
            errors,
            upstream.ended.get(TOO_MANY, 0),
            upstream.most,
            percentile(waits, 0.99),
            mine / len(served),
            entitled,
            estimate_errors,
        )


@dataclass
class Overload:
    """The outcomes of requests during a flood and after it."""

    refused_at_once: int
    expired: int
    recovered_in_s: float
    goodput_after: float


async def overload(seconds: float, after_s: float, seed: int = 0) -> Overload:
    """Three times the capacity for ``seconds``, then half of it; each request has two seconds.

    The broker has recovered from the first second on in which, and in all later ones, at least 95 %
    of the requests were answered in time.
    """
    chance = random.Random(seed)
    names = count()
    outcomes: list[tuple[float, str]] = []
    tasks: set[asyncio.Task[None]] = set()

    async def ask(client: BrokerClient) -> None:
        order = Order(f"o{next(names):06}", SERVICE_MS, 4)
        began = time.monotonic()
        try:
            await client.call("chat", prompt=order.prompt, deadline_ms=2000)
            outcomes.append((began, "answered"))
        except OverCapacity:
            outcomes.append((began, "refused"))
        except RequestTimeout:
            outcomes.append((began, "expired"))
        except BrokerError:
            outcomes.append((began, "failed"))

    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(limited_upstream(LIMIT))
        url, _ = await stack.enter_async_context(broker_before(upstream.url))
        clients = [
            await stack.enter_async_context(connect(url, session_id=f"session-{number}"))
            for number in range(20)
        ]
        began = time.monotonic()
        calm = began + seconds
        comes_at = began
        while comes_at < calm + after_s:
            rate = 3 * IDEAL_PER_S if comes_at < calm else IDEAL_PER_S / 2
            comes_at += chance.expovariate(rate)
            await asyncio.sleep(max(0.0, comes_at - time.monotonic()))
            task = asyncio.create_task(ask(chance.choice(clients)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    shares = []
    for second in range(int(after_s)):
        start = calm + second
        kinds = [kind for at, kind in outcomes if start <= at < start + 1]
        shares.append(kinds.count("answered") / len(kinds) if kinds else 1.0)
    bad = [second + 1 for second, share in enumerate(shares) if share < 0.95]
    late = [kind for at, kind in outcomes if at >= calm + min(10.0, after_s / 2)]
    return Overload(
        sum(kind == "refused" for _, kind in outcomes),
        sum(kind == "expired" for _, kind in outcomes),
        float(max(bad, default=0)),
        late.count("answered") / len(late),
    )
