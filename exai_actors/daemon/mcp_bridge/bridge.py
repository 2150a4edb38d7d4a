"""The bridge between a host and the broker, over one WebSocket at a time.

Whatever only a connection needs is imported with it, so that the first answers are quick.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.broker_tools import (
    CAPABILITIES,
    INSTRUCTIONS,
    BrokerTools,
    unavailable,
)
from exai_actors.wire.mcp.link import BrokerLink
from exai_actors.wire.mcp.server import McpServer

if TYPE_CHECKING:
    import asyncio

    from websockets.asyncio.client import ClientConnection

FIRST_GRACE_S = 3.0
"""How long a call waits for a broker that does not answer."""
LOST_GRACE_S = 30.0
"""How long a call that was sent waits for a broker that was there before."""
MAX_BACKOFF_S = 5.0
_FIRST_BACKOFF_S = 0.1
_OPEN_TIMEOUT_S = 5.0
_MAX_FRAME_BYTES = 33_554_432
_START_IT = "is it running? `exai serve` starts one"
_TOKEN = "set EXAI_TOKEN in the environment of the MCP server to the broker's token"  # noqa: S105


class Host:
    """The way to the host. Reports of progress are dropped while it ``is_full``."""

    def __init__(self, write: Callable[[bytes], None], is_full: Callable[[], bool]) -> None:
        self._write = write
        self._is_full = is_full

    def send(self, frame: bytes) -> None:
        if not self._is_full():
            self._write(frame)

    def end(self, frame: bytes, _status: int) -> None:
        self._write(frame)


class Bridge:
    """Answers the host. Works without a broker, and without an event loop until ``run``.

    ``report`` gets sentences for people. ``now`` is monotonic.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        host: Host,
        report: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._url = url
        self._host = host
        self._report = report
        self._outgoing: asyncio.Queue[bytes] | None = None
        self._unsent = 0
        self._has_work: asyncio.Event | None = None
        self._problem = ""
        self._lost_at = 0.0
        self._was_ready = False
        link = self._link = BrokerLink(self, str(uuid.uuid4()), token)
        link.on_ready = self._ready
        link.on_refused = self._refused
        self._tools = BrokerTools(link, new_id=lambda: uuid.uuid4().hex, now=now, wall=time.time)
        self._server = McpServer(self._tools.handlers, CAPABILITIES, instructions=INSTRUCTIONS)

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent to the broker."""
        return self._unsent

    @property
    def is_busy(self) -> bool:
        """Whether a call has no answer yet."""
        return bool(self._link.calls)

    def received(self, line: bytes | None) -> None:
        """Handle a line of the host; None is one that was too long to read."""
        if line is None:
            message: messages.Message = messages.Unreadable(
                messages.INVALID_REQUEST, "this message is too long"
            )
        else:
            message = messages.read(line)
        self._server.receive(message, self._host)
        if self._has_work is not None and self._link.calls:
            self._has_work.set()

    def tick(self) -> None:
        """To be called each second."""
        self._tools.tick()
        if not self._link.is_ready:
            self._give_up_calls()

    async def run(self) -> None:
        """Keep a connection to the broker until this is cancelled."""
        import asyncio

        self._has_work = asyncio.Event()
        backoff_s = _FIRST_BACKOFF_S
        while True:
            self._was_ready = False
            try:
                await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever the network and the library raise
                self._note(_reason(error))
            if self._was_ready:
                backoff_s = _FIRST_BACKOFF_S
            self._has_work.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff_s):
                    await self._has_work.wait()
                    # Many calls in a row must not become as many attempts.
                    await asyncio.sleep(min(backoff_s, _FIRST_BACKOFF_S))
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)

    def close(self) -> None:
        """The host is gone: cancel all of its calls."""
        if not self._link.is_ready:
            if self._problem:
                reason = f"the input ended; until then {self._problem}"
            else:
                reason = f"the input ended before the broker at {self._url} answered; {_START_IT}"
            self._link.fail_all(unavailable(reason))
        self._server.cancel_all()
        self._tools.tasks.cancel_all()

    async def flush(self) -> None:
        """Wait until the broker has been sent all that there is to send."""
        if self._outgoing is not None and self._link.is_ready:
            await self._outgoing.join()

    # Called by the link.

    def send(self, frame: bytes) -> None:
        if self._outgoing is not None:
            self._unsent += len(frame)
            self._outgoing.put_nowait(frame)

    # Internals.

    async def _connect(self) -> None:
        """Be connected; raises or returns when that has ended."""
        import asyncio

        from websockets.asyncio.client import connect

        from exai_actors.client.connecting import proxy_for
        from exai_actors.client.urls import parse_url

        async with connect(
            self._url,
            compression=None,
            proxy=proxy_for(parse_url(self._url)),
            max_size=_MAX_FRAME_BYTES,
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=1.0,
            user_agent_header=f"exai-mcp/{messages.STATELESS_VERSIONS[0]}",
        ) as websocket:
            self._outgoing = asyncio.Queue()
            sender = asyncio.create_task(self._send_all(websocket, self._outgoing))
            try:
                self._link.opened()
                async for frame in websocket:
                    self._link.received(frame if isinstance(frame, bytes) else frame.encode())
            finally:
                sender.cancel()
                self._outgoing, self._unsent = None, 0
                self._lost()
        if self._was_ready:
            self._note("the connection was closed")

    async def _send_all(self, websocket: ClientConnection, outgoing: asyncio.Queue[bytes]) -> None:
        from websockets.exceptions import ConnectionClosed

        while True:
            frame = await outgoing.get()
            try:
                await websocket.send(frame, text=True)
            except ConnectionClosed:
                # Its reader sees that, too, and tells the reason.
                return
            self._unsent -= len(frame)
            outgoing.task_done()

    def _ready(self) -> None:
        self._was_ready = True
        if self._problem:
            self._report(f"connected to the broker at {self._url}")
        self._problem = ""

    def _refused(self, word: str, message: str) -> None:
        if word == "unauthorized":
            self._note(f"it does not accept this client's token: {_TOKEN}", advice="")
            self._link.fail_all(unavailable(self._sentence))
        else:
            self._note(message or word, advice="")

    def _lost(self) -> None:
        if self._link.is_ready:
            self._lost_at = self._now()
        self._link.lost()

    def _give_up_calls(self) -> None:
        now = self._now()
        for call in self._link.calls:
            since = max(self._lost_at, call.began_at)
            if now - since >= (LOST_GRACE_S if call.sends else FIRST_GRACE_S):
                self._link.fail(call, unavailable(self._sentence))

    @property
    def _sentence(self) -> str:
        return self._problem or f"the broker at {self._url} does not answer; {_START_IT}"

    def _note(self, reason: str, advice: str = _START_IT) -> None:
        """Report a problem once, until there is another or none."""
        problem = f"the exai broker at {self._url} cannot be used: {reason}"
        problem += f"; {advice}" if advice else ""
        if problem != self._problem:
            self._problem = problem
            self._report(problem)


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
