"""A broker with something to see in a console: ``python tools/console_load.py --seconds 600``.

Three synthetic providers and three tenants on one event loop, on 127.0.0.1. It prints the URL and
the variable with the token of an administrator, and ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from exai_actors.client import ExaiError, connect
from exai_actors.runtime import LoopActor
from exai_actors.testing.broker import running_broker

TOKEN = "token-of-an-administrator"
TENANTS = {"alice": 3.0, "bob": 1.0, "nightly": 0.5}
ENVIRONMENT = {
    "LOAD_OPERATOR": TOKEN,
    **{f"LOAD_{name.upper()}": f"token-of-tenant-{name}" for name in TENANTS},
}


def settings(port: int) -> dict[str, Any]:
    """The configuration: providers of different speeds, one of which fails now and then."""
    provider = [
        {"name": "kimi", "limit": 6, "delay_ms": 350, "tokens": 120, "tokens_per_second": 200},
        {"name": "glm", "limit": 3, "delay_ms": 600, "tokens": 60, "tokens_per_second": 80},
        {"name": "local", "limit": 2, "delay_ms": 150, "tokens": 30, "failure_rate": 0.05},
    ]
    return {
        "server": {"port": port},
        "provider": [{"kind": "synthetic", "models": [f"{p['name']}-1"], **p} for p in provider],
        "access": [
            {"name": name, "token_env": f"LOAD_{name.upper()}", "weight": weight}
            for name, weight in TENANTS.items()
        ],
        "operator": [{"name": "ada", "token_env": "LOAD_OPERATOR", "role": "admin"}],
    }


class Idle(LoopActor):
    """One of many rows."""


@asynccontextmanager
async def loaded_broker(
    clients: int, port: int = 0, seed: int = 1, actors: int = 0
) -> AsyncIterator[str]:
    """The URL of a broker that so many clients keep busy, with further ``actors`` that idle."""
    os.environ.update(ENVIRONMENT)
    async with running_broker(settings(port)) as running:
        for number in range(actors):
            running.broker.system.spawn(Idle, path=f"/idle/actor-{number:05}")
        chance = random.Random(seed)
        url = running.broker.url
        tasks = [asyncio.ensure_future(_ask_on(url, chance)) for _ in range(clients)]
        try:
            yield url
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _ask_on(url: str, chance: random.Random) -> None:
    tenant = chance.choice(list(TENANTS))
    while True:
        with contextlib.suppress(ExaiError):
            async with connect(url, token=ENVIRONMENT[f"LOAD_{tenant.upper()}"]) as broker:
                for _ in range(chance.randint(1, 30)):
                    model = chance.choice(["kimi-1", "kimi-1", "glm-1", "local-1"])
                    with contextlib.suppress(ExaiError):
                        await broker.call("chat", prompt="Hello", model=model)
                    await asyncio.sleep(chance.expovariate(1.5))


async def _main(options: argparse.Namespace) -> None:
    async with loaded_broker(options.clients, options.port, actors=options.actors) as url:
        print(f"export EXAI_URL={url} EXAI_OPERATOR_TOKEN={TOKEN}", flush=True)
        await asyncio.sleep(options.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a busy broker to watch in a console.")
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--actors", type=int, default=0, help="further actors, which idle")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600)
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
