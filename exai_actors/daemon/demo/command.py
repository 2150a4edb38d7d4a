"""`exai demo`: a scarce provider, a greedy session and a small one, in three acts."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from exai_actors.daemon.cli.options import Seconds, run

if TYPE_CHECKING:
    from exai_actors.client import BrokerClient
    from exai_actors.daemon.demo.scarce_service import ScarceService
    from exai_actors.daemon.demo.tally import DemoTally
    from exai_actors.daemon.demo.terminal import Display

LIMIT = 4
SERVICE_S = 0.2
SESSIONS = {"greedy": 24, "small": 2}
FRAME_S = 0.1
# Fractions of the duration: when the one queue takes no more requests (it needs 1.2 s to empty),
# when the mishaps begin, and how long the service asks to be left alone.
LAST_TOGETHER = 0.3
FIRST_MISHAP = 0.8
SILENCE = 1 / 12


@click.command()
@click.option(
    "--seconds",
    type=Seconds(600),
    metavar="SECONDS",
    default=12.0,
    show_default=True,
    help="The duration of the demo.",
)
def demo(seconds: float) -> None:
    """Watch a broker share a scarce provider fairly.

    Starts a broker in front of a provider that allows 4 calls of 200 ms in flight. 24 greedy
    clients and 2 small ones send requests as fast as they get answers: first in one session, which
    is one queue, then in a session each, which get fair shares. At the end a client vanishes, and
    the provider refuses a call. Everything runs on this machine and ends with a summary.
    """
    from exai_actors.daemon.demo.terminal import stdout_display

    try:
        run(_demo(seconds, stdout_display(sys.stdout)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _demo(seconds: float, shown: Display) -> None:
    _handle_signals()
    from exai_actors.daemon.demo.broker_process import broker_in_front_of
    from exai_actors.daemon.demo.scarce_service import scarce_service
    from exai_actors.daemon.demo.tally import DemoTally

    tally = DemoTally(SESSIONS, limit=LIMIT, service_s=SERVICE_S, duration=seconds)
    # Clients that share a random name share a session.
    names = {session: str(uuid4()) for session in ("everything", *SESSIONS)}
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            scarce_service(tally, limit=LIMIT, service_s=SERVICE_S)
        )
        url = await stack.enter_async_context(broker_in_front_of(service.base_url, LIMIT))
        clients = [
            _Client(
                name,
                together=await stack.enter_async_context(_connection(url, names["everything"])),
                apart=await stack.enter_async_context(_connection(url, names[name])),
            )
            for name, connections in SESSIONS.items()
            for _ in range(connections)
        ]
        # So that neither session has all its clients at the end of the first queue.
        clients = [client for first in range(3) for client in clients[first::3]]
        stack.enter_context(shown)
        await _watch(_Play(url, service, clients, tally, seconds), shown)


def _handle_signals() -> None:
    """Handle SIGTERM and a closed terminal like Ctrl-C, so that the demo's broker ends too."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        for each in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(each, task.cancel)


def _connection(url: str, session_id: str) -> BrokerClient:
    from exai_actors.client import connect

    return connect(url, session_id=session_id)


class _Client:
    """A client of the demo: it has a connection in the common session and one in its own."""

    def __init__(self, session: str, *, together: BrokerClient, apart: BrokerClient) -> None:
        self.session = session
        self.broker = together
        self._apart = apart

    def part(self) -> None:
        """Use the session's own connection from the next request on."""
        self.broker = self._apart


class _Play:
    """The three acts, on a running broker."""

    def __init__(
        self,
        url: str,
        service: ScarceService,
        clients: list[_Client],
        tally: DemoTally,
        seconds: float,
    ) -> None:
        self.tally = tally
        self.seconds = seconds
        self._url = url
        self._service = service
        self._clients = clients
        self._nonces = map(str, itertools.count(1))
        self._asking = 0
        self._answered = asyncio.Event()
        self._going_on = asyncio.Event()
        self._going_on.set()

    def begin(self) -> list[asyncio.Task[None]]:
        """Start the clients and the director; they end only with an error."""
        parts = [self._direct(), *map(self._ask_repeatedly, self._clients)]
        return [asyncio.create_task(part) for part in parts]

    async def _direct(self) -> None:
        from exai_actors.daemon.demo.tally import FAIR_SHARES, MISHAPS

        began = time.monotonic()
        await asyncio.sleep(LAST_TOGETHER * self.seconds)
        # Requests left in the common queue would be one more session in the next act.
        self._going_on.clear()
        while self._asking:
            await self._answered.wait()
            self._answered.clear()
        self.tally.begin_act(FAIR_SHARES, time.monotonic())
        for client in self._clients:
            client.part()
        self._going_on.set()
        await asyncio.sleep(began + FIRST_MISHAP * self.seconds - time.monotonic())
        self.tally.begin_act(MISHAPS, time.monotonic())
        await self._vanish()
        await asyncio.sleep(SERVICE_S)
        self._service.ask_for_silence(SILENCE * self.seconds)
        await asyncio.Event().wait()

    async def _vanish(self) -> None:
        """Send a request, and lose the connection while the service works on it."""
        import orjson
        from websockets.asyncio.client import connect

        nonce = next(self._nonces)
        arrival = self._service.arrival_of(nonce)
        call = {"op": "call_tool", "name": "chat", "request_id": nonce}
        async with connect(self._url, proxy=None) as socket:
            await socket.send(orjson.dumps({"op": "hello"}).decode())
            await socket.recv()
            self.tally.sent(nonce, "visitor", time.monotonic())
            await socket.send(orjson.dumps(call | {"arguments": {"prompt": nonce}}).decode())
            await arrival.wait()
            await asyncio.sleep(SERVICE_S / 4)
            self.tally.vanished(nonce, time.monotonic())
            socket.transport.abort()

    async def _ask_repeatedly(self, client: _Client) -> None:
        while True:
            await self._going_on.wait()
            self._asking += 1
            await self._ask(client)
            self._asking -= 1
            self._answered.set()

    async def _ask(self, client: _Client) -> None:
        from exai_actors.client import BrokerError

        nonce = next(self._nonces)
        self.tally.sent(nonce, client.session, time.monotonic())
        try:
            result = await client.broker.call("chat", prompt=nonce)
        except BrokerError:
            self.tally.failed(nonce, client.session)
            # Do not retry in a tight loop when the broker refuses immediately.
            await asyncio.sleep(FRAME_S)
            return
        if result.text == nonce:
            self.tally.served(nonce, client.session, time.monotonic())
        else:
            self.tally.failed(nonce, client.session)


async def _watch(play: _Play, shown: Display) -> None:
    start = time.monotonic()
    play.tally.started(start)
    tasks = play.begin()
    try:
        while (now := time.monotonic()) < start + play.seconds:
            shown.show(play.tally.snapshot(now))
            ended, _ = await asyncio.wait(
                tasks, timeout=FRAME_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in ended:
                task.result()  # raises: they end only with an error
    finally:
        for task in tasks:
            task.cancel()
        shown.finish(play.tally.snapshot(min(time.monotonic(), start + play.seconds)))
