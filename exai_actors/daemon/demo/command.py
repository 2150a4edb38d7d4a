"""`exai demo`: a scarce provider, a greedy session and a small one, for ten seconds."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from exai_actors.daemon.cli.options import Seconds, run

if TYPE_CHECKING:
    from exai_actors.client import BrokerClient
    from exai_actors.daemon.demo.tally import DemoTally
    from exai_actors.daemon.demo.terminal import Display

LIMIT = 4
SERVICE_S = 0.2
SESSIONS = {"greedy": 24, "small": 2}
FRAME_S = 0.1


@click.command()
@click.option(
    "--seconds",
    type=Seconds(600),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="The duration of the demo.",
)
def demo(seconds: float) -> None:
    """Watch a broker share a scarce provider fairly.

    Starts a broker in front of a provider that allows 4 calls of 200 ms in flight. A greedy
    session with 24 clients and a small one with 2 send requests as fast as they get answers.
    Everything runs on this machine and ends with a summary.
    """
    from exai_actors.daemon.demo.terminal import stdout_display

    try:
        run(_demo(seconds, stdout_display(sys.stdout)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _demo(seconds: float, shown: Display) -> None:
    _handle_signals()
    from exai_actors.daemon.demo.broker_process import broker_in_front_of
    from exai_actors.daemon.demo.scarce_service import scarce_upstream
    from exai_actors.daemon.demo.tally import DemoTally

    tally = DemoTally(SESSIONS, limit=LIMIT, service_s=SERVICE_S, duration=seconds)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(
            scarce_upstream(tally, limit=LIMIT, service_s=SERVICE_S)
        )
        url = await stack.enter_async_context(broker_in_front_of(upstream, LIMIT))
        clients = [
            (name, await stack.enter_async_context(_client(url, name)))
            for name, connections in SESSIONS.items()
            for _ in range(connections)
        ]
        stack.enter_context(shown)
        await _watch(clients, tally, shown, seconds)


def _handle_signals() -> None:
    """Handle SIGTERM and a closed terminal like Ctrl-C, so that the demo's broker ends too."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        for each in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(each, task.cancel)


def _client(url: str, session: str) -> BrokerClient:
    from exai_actors.client import connect

    return connect(url, session_id=f"demo-{session}")


async def _watch(
    clients: list[tuple[str, BrokerClient]], tally: DemoTally, shown: Display, seconds: float
) -> None:
    nonces = map(str, itertools.count(1))
    start = time.monotonic()
    tally.started(start)
    asking = [
        asyncio.create_task(_ask_repeatedly(client, name, nonces, tally))
        for name, client in clients
    ]
    try:
        while (now := time.monotonic()) < start + seconds:
            shown.show(tally.snapshot(now))
            ended, _ = await asyncio.wait(
                asking, timeout=FRAME_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in ended:
                task.result()  # raises: clients end only with an error
    finally:
        for task in asking:
            task.cancel()
        shown.finish(tally.snapshot(min(time.monotonic(), start + seconds)))


async def _ask_repeatedly(
    client: BrokerClient, session: str, nonces: map[str], tally: DemoTally
) -> None:
    from exai_actors.client import BrokerError

    while True:
        nonce = next(nonces)
        tally.sent(nonce, session, time.monotonic())
        try:
            result = await client.call("chat", prompt=nonce)
        except BrokerError:
            tally.failed(nonce, session)
            # Do not retry in a tight loop when the broker refuses immediately.
            await asyncio.sleep(FRAME_S)
            continue
        if result.text == nonce:
            tally.served(session, time.monotonic())
        else:
            tally.failed(nonce, session)
