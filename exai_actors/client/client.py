"""The asynchronous client: ``async with connect() as broker``."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from exai_actors.client import codec
from exai_actors.client.connection import Connection, open_connection
from exai_actors.client.errors import client_timeout
from exai_actors.client.pending import OnProgress, OnReasoning, PendingCall, PendingReply
from exai_actors.client.results import CallResult, Tool
from exai_actors.client.settings import DEFAULT_URL, ConnectOptions, IfBusy, Settings
from exai_actors.client.stream import Stream
from exai_actors.errors import UsageError


def connect(url: str = DEFAULT_URL, **options: Unpack[ConnectOptions]) -> BrokerClient:
    """A client to open with ``async with``.

    ``options`` are the fields of ``Settings``: ``token``, ``session_id``, ``resume`` and limits.
    ``session_id`` and ``resume`` of an earlier client, or of ConnectionLost, resume its session,
    if it still exists; otherwise the broker starts a new one.
    """
    return BrokerClient(Settings(url=url, **options))


class BrokerClient:
    """One connection to a broker, which any number of tasks may use concurrently.

    Keyword arguments of ``call`` and ``stream`` are the tool's arguments, except for the options in
    their signatures. Tool arguments with the name of an option go into the mapping that may follow
    the tool's name: ``call("report", {"priority": "high"}, title="...")``.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._connection: Connection | None = None
        # Ids must not repeat in a session that another connection resumes.
        self._id_prefix = secrets.token_hex(6)
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Self:
        """Connect and send hello. Raises the errors of ``open_connection``."""
        if self._connection is not None:
            raise UsageError("this client was opened before; make a new one with connect()")
        self._connection = await open_connection(self.settings)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; outstanding calls fail with ConnectionLost. Idempotent."""
        if self._connection is not None:
            await self._connection.aclose()

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._opened.session_id

    @property
    def resume(self) -> str | None:
        """The secret with which ``connect`` joins this session; None if its id is enough."""
        return self._opened.resume

    @property
    def resumed(self) -> bool:
        """Whether the session existed before, with its conversations and outcomes."""
        return self._opened.resumed

    def stream(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        request_id: str | None = None,
        deadline_ms: float | None = None,
        priority: int | None = None,
        if_busy: IfBusy | None = None,
        idempotency_key: str | None = None,
        trace: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        on_reasoning: OnReasoning | None = None,
        **more: Any,
    ) -> Stream:
        """A call whose answer comes in pieces. It is sent when the iteration begins.

        ``on_reasoning`` is called on the event loop with each piece of the model's reasoning. The
        iteration raises the errors of ``call``, after the pieces that arrived before.
        """
        connection = self._opened
        request = request_id or self._new_id()
        frame = codec.call_tool(
            request,
            name,
            _merged(arguments, more),
            stream=True,
            deadline_ms=deadline_ms,
            priority=priority,
            if_busy=if_busy,
            idempotency_key=idempotency_key,
            trace=trace,
            stream_reasoning=on_reasoning is not None,
        )
        pending = PendingCall(request, self.settings.max_unread, on_progress, on_reasoning)
        return Stream(connection, pending, frame, self._call_timeout(timeout_s))

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        request_id: str | None = None,
        deadline_ms: float | None = None,
        priority: int | None = None,
        if_busy: IfBusy | None = None,
        idempotency_key: str | None = None,
        trace: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        **more: Any,
    ) -> CallResult:
        """Call a tool and wait for its whole answer.

        ``request_id`` names the call in its session; repeating the id returns the same outcome
        without a second run. So does repeating an ``idempotency_key``, under any id, while the
        first call runs and as long as the broker keeps its outcome. The broker ends the call after
        ``deadline_ms``; ``if_busy`` decides whether it may wait. This client waits ``timeout_s``
        (default: ``call_timeout_s``). ``on_progress`` is called on the event loop with each
        Progress. ``trace`` has the headers ``traceparent`` and ``tracestate`` of a trace that the
        call belongs to. Cancelling the waiting task cancels the call at the broker.

        Raises BrokerError by the broker's code, RequestTimeout after ``timeout_s``, ConnectionLost,
        or UsageError for a call that cannot be sent.
        """
        connection = self._opened
        request = request_id or self._new_id()
        frame = codec.call_tool(
            request,
            name,
            _merged(arguments, more),
            stream=False,
            deadline_ms=deadline_ms,
            priority=priority,
            if_busy=if_busy,
            idempotency_key=idempotency_key,
            trace=trace,
        )
        pending = PendingCall(request, 0, on_progress)
        try:
            connection.submit(pending, frame, self._call_timeout(timeout_s))
            return await pending.result()
        finally:
            connection.abandon(pending)

    async def cancel(self, request_id: str) -> None:
        """Cancel a request of this session, made on this connection or another.

        Returns when the cancel frame is sent. The call itself ends with RequestCancelled, or with
        its result if that was faster. Raises ConnectionLost if the connection has ended.
        """
        await self._opened.cancel(request_id)

    async def tools(self) -> tuple[Tool, ...]:
        """The tools of the broker."""
        frame = await self._exchange("list_tools")
        return tuple(
            Tool(str(tool["name"]), str(tool.get("description", "")), tool.get("inputSchema", {}))
            for tool in frame.tools or ()
        )

    async def models(self) -> tuple[str, ...]:
        """The models that the broker's providers serve, as ``chat`` takes them."""
        for tool in await self.tools():
            if tool.name == "chat":
                model = tool.input_schema.get("properties", {}).get("model", {})
                # The schema's default stands for the default model and is not the name of one.
                return tuple(name for name in model.get("enum", ()) if name != model.get("default"))
        return ()

    async def health(self) -> dict[str, Any]:
        """The broker's figures."""
        return (await self._exchange("health")).health or {}

    async def ping(self) -> None:
        """Return when the broker has answered a ping."""
        await self._exchange("ping")

    @property
    def _opened(self) -> Connection:
        if self._connection is None:
            raise UsageError("not connected: use the client inside `async with connect(...)`")
        return self._connection

    async def _exchange(self, op: str) -> codec.Frame:
        connection = self._opened
        pending = PendingReply(self._new_id())
        limit = self.settings.reply_timeout_s
        connection.submit(pending, codec.operation(op, pending.request_id), None)
        try:
            async with asyncio.timeout(limit):
                return await pending.reply()
        except TimeoutError:
            raise client_timeout(pending.request_id, limit) from None
        finally:
            connection.forget(pending.request_id)

    def _call_timeout(self, timeout_s: float | None) -> float | None:
        limit = self.settings.call_timeout_s if timeout_s is None else timeout_s
        if limit is not None and math.isnan(limit):
            raise UsageError("timeout_s is nan; it must be a number of seconds")
        return limit

    def _new_id(self) -> str:
        return f"{self._id_prefix}-{next(self._ids)}"


def _merged(arguments: Mapping[str, Any] | None, more: dict[str, Any]) -> Mapping[str, Any]:
    if arguments is None:
        return more
    if not isinstance(arguments, Mapping):
        raise UsageError(
            "the second argument must be a mapping of the tool's arguments, "
            f'not {type(arguments).__name__}: call("chat", prompt="...")'
        )
    repeated = sorted(arguments.keys() & more.keys())
    if repeated:
        raise UsageError(f"given both in the mapping and as a keyword: {', '.join(repeated)}")
    return {**arguments, **more}
