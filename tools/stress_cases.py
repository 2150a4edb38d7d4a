"""The cases of a stress run, and the exact account that it keeps."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

import orjson
from websockets.asyncio.client import connect as connect_raw

from exai_actors.client import (
    BrokerClient,
    OverCapacity,
    RequestCancelled,
    RequestTimeout,
    ServiceUnavailable,
    connect,
)
from exai_actors.errors import BrokerError
from tools.limited_upstream import LimitedUpstream, Order

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_names = count(1)


@dataclass
class Account:
    """Every request that was sent ended in exactly one of ``ended``.

    ``wrong`` counts answers that belonged to another request, ``denied`` requests without an answer
    although nothing prevented one, ``vanished`` requests whose clients left without closing and so
    received no end.
    """

    sent: int = 0
    vanished: int = 0
    wrong: int = 0
    denied: int = 0
    ended: Counter[str] = field(default_factory=Counter)

    @property
    def unaccounted(self) -> int:
        return self.sent - self.vanished - sum(self.ended.values())


@dataclass
class Stage:
    """The surroundings of a case: the broker, the service behind it, the account and chance."""

    url: str
    upstream: LimitedUpstream
    account: Account
    chance: random.Random

    def order(self, delay_ms: int, size: int = 6) -> Order:
        return Order(f"n{next(_names):07}", delay_ms, size)

    async def ask(
        self,
        client: BrokerClient,
        order: Order,
        *,
        deadline_ms: float | None = None,
        in_trouble: bool = False,
    ) -> None:
        """Send one request and count its end; unless ``in_trouble`` it must be answered."""
        account = self.account
        account.sent += 1
        account.denied += not in_trouble
        try:
            if self.chance.random() < 0.5:
                result = await client.call("chat", prompt=order.prompt, deadline_ms=deadline_ms)
                text = result.text
            else:
                stream = client.stream("chat", prompt=order.prompt, deadline_ms=deadline_ms)
                text = "".join([piece async for piece in stream])
            account.ended["completed"] += 1
            account.denied -= not in_trouble
            account.wrong += text != order.answer
        except (OverCapacity, ServiceUnavailable):
            account.ended["refused"] += 1
        except RequestTimeout:
            account.ended["expired"] += 1
        except RequestCancelled:
            account.ended["cancelled"] += 1
        except BrokerError:
            account.ended["failed"] += 1
        except asyncio.CancelledError:
            account.ended["cancelled"] += 1
            raise


Case = Callable[[Stage], Awaitable[None]]


def at_once(
    requests: int, connections: int, longest_ms: int = 20, *, in_trouble: bool = False
) -> Case:
    """That many requests at the same moment, over that many connections of 40 sessions."""

    async def case(stage: Stage) -> None:
        sessions = [str(uuid4()) for _ in range(40)]
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    connect(stage.url, session_id=sessions[number % 40], max_outstanding=10_000)
                )
                for number in range(connections)
            ]
            await asyncio.gather(
                *(
                    stage.ask(
                        clients[number % connections],
                        stage.order(_short(stage, longest_ms)),
                        in_trouble=in_trouble,
                    )
                    for number in range(requests)
                )
            )

    return case


async def short_and_long(stage: Stage) -> None:
    """Every twentieth takes fifty times as long and has an answer of two thousand words."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(stage.url)) for _ in range(20)]
        orders = [
            stage.order(500, 2000) if number % 20 == 0 else stage.order(10) for number in range(300)
        ]
        await asyncio.gather(
            *(stage.ask(clients[number % 20], order) for number, order in enumerate(orders))
        )


async def deadlines_and_cancels(stage: Stage) -> None:
    """A third has too little time, a third is cancelled by its client, the others are answered."""
    async with connect(stage.url, max_outstanding=10_000) as one, connect(stage.url) as other:
        clients = one, other
        tasks = []
        for number in range(150):
            deadline_ms = stage.chance.uniform(5, 60) if number % 3 == 0 else None
            asking = stage.ask(
                clients[number % 2],
                stage.order(20),
                deadline_ms=deadline_ms,
                in_trouble=number % 3 < 2,
            )
            task = asyncio.ensure_future(asking)
            if number % 3 == 1:
                asyncio.get_running_loop().call_later(stage.chance.uniform(0, 0.2), task.cancel)
            tasks.append(task)
        await asyncio.gather(*tasks, return_exceptions=True)


async def drops(stage: Stage) -> None:
    """Clients vanish while they wait, before the first byte and in the middle of a stream."""
    bystander = asyncio.ensure_future(at_once(60, 6)(stage))

    async def vanishes(after_s: float) -> None:
        async with connect_raw(stage.url, compression=None, close_timeout=1) as ws:
            await ws.send('{"op":"hello"}')
            await ws.recv()
            for _ in range(3):
                stage.account.sent += 1
                stage.account.vanished += 1
                order = stage.order(100)
                call = {
                    "op": "call_tool",
                    "request_id": order.nonce,
                    "name": "chat",
                    "arguments": {"prompt": order.prompt},
                    "stream": True,
                }
                await ws.send(orjson.dumps(call).decode())
            await asyncio.sleep(after_s)
            raw = ws.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            ws.transport.abort()

    await asyncio.gather(*(vanishes(stage.chance.uniform(0, 0.15)) for _ in range(40)))
    await bystander


def exhausted(status: int) -> Case:
    """The service refuses every call for a while, then accepts calls again."""

    async def case(stage: Stage) -> None:
        stage.upstream.refuse_with = status
        asking = asyncio.ensure_future(at_once(60, 6, in_trouble=True)(stage))
        await asyncio.sleep(0.5)
        stage.upstream.refuse_with = None
        await asking
        await _served_again(stage)

    return case


async def _served_again(stage: Stage) -> None:
    """Send requests until one is answered, so that the circuit is closed for the next case."""
    async with connect(stage.url) as client:
        for _ in range(60):
            answered = stage.account.ended["completed"]
            await stage.ask(client, stage.order(1), in_trouble=True)
            if stage.account.ended["completed"] > answered:
                return
            await asyncio.sleep(0.25)


def _short(stage: Stage, longest_ms: int) -> int:
    return stage.chance.randint(0, longest_ms)


CASES: tuple[tuple[str, Case], ...] = (
    ("40 at once", at_once(40, 4)),
    ("100 at once", at_once(100, 100)),
    ("300 at once", at_once(300, 300)),
    ("1,000 at once", at_once(1000, 1000, longest_ms=10)),
    ("short and long mixed", short_and_long),
    ("deadlines and cancels", deadlines_and_cancels),
    ("clients that vanish", drops),
    ("provider says 429", exhausted(429)),
    ("provider says 503", exhausted(503)),
    ("provider hangs up", exhausted(0)),
)
