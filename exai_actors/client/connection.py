"""One WebSocket to a broker, shared by any number of calls.

One task reads it and passes each frame to the call that the frame names, without waiting for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from exai_actors import __version__
from exai_actors.client import codec
from exai_actors.client.connecting import LOG_SAYS_MORE, OTHER_PROGRAM, connecting, proxy_for
from exai_actors.client.errors import (
    NOT_CLOSED,
    ConnectError,
    ConnectionLost,
    Unauthorized,
    UsageError,
    client_cancelled,
    client_timeout,
)
from exai_actors.client.settings import Settings
from exai_actors.client.urls import BrokerUrl, parse_url
from exai_actors.errors import ErrorBody, ErrorCode

_log = logging.getLogger("exai_actors.client")

# The turns of the loop in which a frame that has arrived is read before its call times out.
READING_TURNS = 20


class Pending(Protocol):
    """An outstanding call or reply. The reader feeds it until ``on_frame`` returns True."""

    @property
    def request_id(self) -> str: ...

    def on_frame(self, frame: codec.Frame) -> bool: ...

    def fail(self, error: Exception) -> None: ...


class Connection:
    """An open connection and its session. Made by ``open_connection``."""

    def __init__(
        self,
        websocket: ClientConnection,
        session_id: str,
        settings: Settings,
        *,
        resumed: bool = False,
        resume: str | None = None,
    ) -> None:
        self.session_id = session_id
        self.resumed = resumed
        self.resume = resume
        self.settings = settings
        self.url = parse_url(settings.url).display
        self._websocket = websocket
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, Pending] = {}
        self._timers: dict[str, asyncio.Handle] = {}
        self._sends: set[asyncio.Task[None]] = set()
        self._lost: tuple[int, str] | None = None
        self._reader = asyncio.create_task(self._read(), name=f"exai-client {self.url}")

    def submit(self, pending: Pending, frame: bytes, timeout_s: float | None) -> None:
        """Register ``pending`` and send its frame in the background.

        After ``timeout_s`` at the latest ``pending`` gets its end, even if the broker does not
        read. Raises UsageError if the frame cannot be sent, ConnectionLost if the connection has
        ended.
        """
        self._check(pending.request_id, frame)
        self._pending[pending.request_id] = pending
        if timeout_s is not None:
            self._timers[pending.request_id] = self._loop.call_later(
                timeout_s, self._expire, pending.request_id, timeout_s
            )
        self._send(frame)

    def abandon(self, pending: Pending) -> None:
        """Forget a call and cancel it at the broker. No effect if it has ended or was not sent."""
        if self._pending.get(pending.request_id) is pending:
            self._take(pending.request_id)
            self._cancel(pending.request_id)
            # Another task may be waiting for the same call.
            pending.fail(client_cancelled(pending.request_id))

    def abandon_threadsafe(self, pending: Pending) -> None:
        """``abandon`` for finalizers, which may run on any thread and after the loop."""
        if self._pending.get(pending.request_id) is pending:
            # Without effect if the loop is closed.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.abandon, pending)

    def forget(self, request_id: str) -> None:
        """Stop waiting for a reply; there is nothing to cancel."""
        self._take(request_id)

    async def cancel(self, request_id: str) -> None:
        """Ask the broker to cancel a request, whose outcome then comes from the broker.

        Raises ConnectionLost if the connection has ended.
        """
        self._check_loop()
        frame = codec.operation("cancel", request_id)
        if self._lost is not None:
            raise self._loss(request_id)
        await self._write(frame)

    async def aclose(self) -> None:
        """Close the socket. Outstanding calls fail with ConnectionLost. Idempotent."""
        self._end(1000, "closed by this client")
        try:
            # The library bounds the closing handshake, but not its wait to write.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.close_timeout_s):
                    await asyncio.gather(*self._sends)
                    await self._websocket.close()
        finally:
            self._websocket.transport.abort()
            for task in (self._reader, *self._sends):
                task.cancel()
            await asyncio.gather(self._reader, *self._sends, return_exceptions=True)

    async def _read(self) -> None:
        code, reason = 1006, "the reader stopped"
        try:
            while True:
                self._on_frame(codec.decode(await self._websocket.recv(decode=False)))
        except ConnectionClosed:
            code = self._websocket.close_code or 1006
            reason = self._websocket.close_reason or ""
        except ValueError as error:
            code, reason = 1002, str(error)
            self._websocket.transport.abort()
        finally:
            self._end(code, reason)

    def _on_frame(self, frame: codec.Frame) -> None:
        pending = self._pending.get(frame.request_id) if frame.request_id else None
        if pending is None:
            # Frames of an abandoned call arrive until the broker has read the cancel.
            if frame.request_id is None and frame.error is not None:
                _log.warning("client.unmatched_error: url=%s error=%s", self.url, frame.error)
            return
        if pending.on_frame(frame):
            self._take(pending.request_id)

    def _expire(self, request_id: str, timeout_s: float, turns_left: int = READING_TURNS) -> None:
        if turns_left:
            # The outcome may have arrived while this process stood still, and be unread.
            self._timers[request_id] = self._loop.call_soon(
                self._expire, request_id, timeout_s, turns_left - 1
            )
            return
        pending = self._take(request_id)
        if pending is not None:
            self._cancel(request_id)
            pending.fail(client_timeout(request_id, timeout_s))

    def _end(self, code: int, reason: str) -> None:
        if self._lost is not None:
            return
        self._lost = (code, reason)
        outstanding = tuple(self._pending)
        for request_id in outstanding:
            pending = self._take(request_id)
            if pending is not None:
                pending.fail(self._loss(request_id, outstanding))

    def _loss(self, request_id: str, outstanding: tuple[str, ...] = ()) -> ConnectionLost:
        code, reason = self._lost or (1006, "")
        return ConnectionLost(
            self.url,
            self.session_id,
            code,
            reason,
            request_id=request_id,
            request_ids=outstanding,
            resume=self.resume,
        )

    def _take(self, request_id: str) -> Pending | None:
        timer = self._timers.pop(request_id, None)
        if timer is not None:
            timer.cancel()
        return self._pending.pop(request_id, None)

    def _check_loop(self) -> None:
        # A future completed from another loop does not wake its waiter.
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(
                "this client was opened on another event loop: open one on the loop that calls, "
                "or use connect_sync, which any thread may call"
            )

    def _check(self, request_id: str, frame: bytes) -> None:
        self._check_loop()
        if self._lost is not None:
            raise self._loss(request_id)
        if request_id in self._pending:
            raise UsageError(f"request id {request_id!r} is already outstanding: await that call")
        if len(self._pending) >= self.settings.max_outstanding:
            raise UsageError(
                f"{len(self._pending)} calls are outstanding on this connection, "
                "which is max_outstanding: await some first"
            )
        if len(self._sends) >= 2 * self.settings.max_outstanding:
            raise UsageError(
                f"{len(self._sends)} frames wait to be sent: the broker at {self.url} does not read"
            )
        if len(frame) > self.settings.max_frame_bytes:
            raise UsageError(
                f"the frame would have {len(frame)} bytes, "
                f"more than max_frame_bytes, {self.settings.max_frame_bytes}"
            )

    def _cancel(self, request_id: str) -> None:
        if self._lost is None:
            self._send(codec.operation("cancel", request_id))

    def _send(self, frame: bytes) -> None:
        # Tasks run in the order of their creation, so frames are sent in the order of the calls.
        task = self._loop.create_task(self._write(frame))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    async def _write(self, frame: bytes) -> None:
        # The reader sees the same end and fails all outstanding calls.
        with contextlib.suppress(ConnectionClosed):
            await self._websocket.send(frame, text=True)


async def open_connection(settings: Settings) -> Connection:
    """Connect and send hello.

    Raises ConnectError if no broker accepts the connection and answers in time, Unauthorized if it
    refuses the token, UsageError if the URL is invalid.
    """
    url = parse_url(settings.url)
    async with connecting(url, settings.open_timeout_s):
        return await _open(settings, url)


async def _open(settings: Settings, url: BrokerUrl) -> Connection:
    websocket = await open_websocket(
        settings.url,
        compression=None,
        proxy=proxy_for(url),
        max_size=settings.max_frame_bytes,
        open_timeout=None,
        close_timeout=settings.close_timeout_s,
        user_agent_header=f"{codec.PRODUCT}/{__version__}",
    )
    try:
        await websocket.send(
            codec.hello(settings.token, settings.session_id, __version__, settings.resume),
            text=True,
        )
        answer = codec.decode(await websocket.recv(decode=False))
        if answer.op != "hello_ack":
            raise ValueError(f"the first frame was {answer.op!r}, not hello_ack")
        if not answer.ok or answer.session_id is None:
            raise _refusal(answer, url.display, has_token=bool(settings.token))
        return Connection(
            websocket,
            answer.session_id,
            settings,
            resumed=answer.resumed,
            resume=answer.resume,
        )
    except BaseException as error:
        websocket.transport.abort()
        match error:
            case ConnectionClosed():
                raise ConnectError(url.display, _close_reason(websocket), LOG_SAYS_MORE) from None
            case ValueError():
                raise ConnectError(url.display, str(error), OTHER_PROGRAM) from None
        raise


def _refusal(answer: codec.Frame, url: str, *, has_token: bool) -> Exception:
    if answer.error == "unauthorized":
        problem = "does not accept the token" if has_token else "requires a token"
        remedy = "use the broker's [server] token or that of an [[access]] entry"
        text = f"{url} {problem}; {remedy}"
        return Unauthorized(ErrorBody(ErrorCode.UNAUTHORIZED, text))
    return ConnectError(url, f"refused with {answer.error!r}", LOG_SAYS_MORE)


def _close_reason(websocket: ClientConnection) -> str:
    code, reason = websocket.close_code, websocket.close_reason
    if code == NOT_CLOSED:
        return "broke off before it answered"
    return f"closed before it answered ({f'{code} {reason}'.rstrip()})"
