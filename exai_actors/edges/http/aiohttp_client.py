"""The HTTP client on aiohttp's connections, with a task for each exchange."""

from __future__ import annotations

import asyncio
from math import inf

from yarl import URL

from exai_actors.core.calls import Aborted, UpstreamFailure
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.aiohttp_errors import TRANSPORT_ERRORS, failure_of
from exai_actors.edges.http.client import Receiver, Target
from exai_actors.edges.http.connector import Connector
from exai_actors.edges.http.errors import log_unexpected, unexpected_failure
from exai_actors.edges.http.exchange import Endpoint, exchange
from exai_actors.edges.http.service import HttpService


class AiohttpClient:
    """Implements ``client.HttpClient``. The connections belong to the loop of the first exchange.

    ``proxy``: the proxy for all of them. ``tls``: they, or those of the proxy, are kept longer.
    """

    def __init__(self, service: HttpService, *, proxy: URL | None = None, tls: bool = True) -> None:
        self._service = service
        self._proxy = proxy
        self._tls = tls
        self._connector: Connector | None = None
        self._target: Target | None = None
        self._endpoint: Endpoint | None = None
        self._running: set[AiohttpExchange] = set()

    @property
    def shortest_connect_s(self) -> float:
        return inf if self._connector is None else self._connector.shortest_connect_s

    def start(
        self,
        target: Target,
        body: bytes,
        receiver: Receiver,
        *,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> AiohttpExchange:
        if self._connector is None:
            connect_s = self._service.settings.connect_timeout_s
            self._connector = Connector(0, connect_s, tls=self._tls)
        if self._endpoint is None or target is not self._target:
            self._target = target
            self._endpoint = Endpoint(
                target.method, target.url, headers=target.headers, proxy=self._proxy
            )
        started = AiohttpExchange(
            self._service, self._connector, self._endpoint, body, receiver, fresh, trace
        )
        self._running.add(started)
        started.task.add_done_callback(lambda _: self._running.discard(started))
        return started

    async def aclose(self) -> None:
        running = [each.task for each in self._running]
        for each in tuple(self._running):
            each.abort()
        if running:
            await asyncio.wait(running)
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()


class AiohttpExchange:
    """Implements ``client.HttpExchange``; runs as ``task`` from its construction on."""

    __slots__ = ("_aborted", "_receiver", "_resumed", "_service", "fresh", "task", "trace")

    def __init__(
        self,
        service: HttpService,
        connector: Connector,
        endpoint: Endpoint,
        body: bytes,
        receiver: Receiver,
        fresh: bool,
        trace: TraceContext | None,
    ) -> None:
        self._service = service
        self._receiver = receiver
        self.fresh = fresh
        self.trace = trace
        self._aborted = False
        self._resumed: asyncio.Event | None = None
        self.task = asyncio.get_running_loop().create_task(self._run(connector, endpoint, body))
        # The callback of a task also runs if the task was cancelled before its first step, and it
        # runs after the loop has closed a connection that the task aborted.
        self.task.add_done_callback(self._report_end)

    def connected(self) -> None:
        self._receiver.connected()

    def abort(self) -> None:
        self._aborted = True
        self.task.cancel()

    def pause(self) -> None:
        if self._resumed is None:
            self._resumed = asyncio.Event()

    def resume(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    async def _run(self, connector: Connector, endpoint: Endpoint, body: bytes) -> None:
        response = await exchange(connector, endpoint, body, self)
        try:
            self._receiver.head(response.status, response.headers)
            content = response.content
            while True:
                await self._wait_for_resume()
                data = await content.readany()
                await self._wait_for_resume()
                if not data:
                    return
                self._receiver.data(data)
        finally:
            response.close()

    async def _wait_for_resume(self) -> None:
        while self._resumed is not None:
            await self._resumed.wait()

    def _report_end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._aborted:
            self._receiver.failed(Aborted())
        elif (error := task.exception()) is None:
            self._receiver.ended()
        else:
            self._receiver.failed(self._failure(error))

    def _failure(self, error: BaseException) -> UpstreamFailure:
        if isinstance(error, TRANSPORT_ERRORS):
            return failure_of(error, self._service)
        log_unexpected(error, self._service)
        return unexpected_failure(error)
