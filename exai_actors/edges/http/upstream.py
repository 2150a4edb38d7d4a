"""An OpenAI-compatible chat-completions service as an upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from math import inf

from yarl import URL

from exai_actors.core.calls import FailureKind, RelayCall, UpstreamFailure, UpstreamRequest
from exai_actors.core.families import Family
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.ended_call import EndedCall
from exai_actors.edges.http.address import checked_url, join_path, proxy_for, request_headers
from exai_actors.edges.http.aiohttp_client import AiohttpClient
from exai_actors.edges.http.call import HttpCall
from exai_actors.edges.http.client import HttpClient
from exai_actors.edges.http.connector import Connector
from exai_actors.edges.http.errors import (
    TRANSPORT_ERRORS,
    failure_of,
    log_unexpected,
    unexpected_failure,
)
from exai_actors.edges.http.exchange import Endpoint, Progress, Response, exchange
from exai_actors.edges.http.patience import PatientTimeout
from exai_actors.edges.http.relayed_call import RelayedCall
from exai_actors.edges.http.relaying import Relaying
from exai_actors.edges.http.service import HttpService
from exai_actors.edges.http.settings import Address, HttpSettings
from exai_actors.ids import PermitId
from exai_actors.messages.provider import (
    ModelsListed,
    ModelsUnavailable,
    ProviderMessage,
    UpstreamEnded,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import PieceSink, UpstreamCall
from exai_actors.wire.openai.completions import parse_models
from exai_actors.wire.openai.errors import classify_response
from exai_actors.wire.openai.redaction import Redactor

MAX_MODELS_BYTES = 4_194_304
MODELS_TIMEOUT_S = 30.0
_DEFAULTS = HttpSettings()

ModelList = tuple[str, ...] | UpstreamFailure


class HttpUpstream:
    """Implements ``ports.Upstream`` for one service.

    ``/chat/completions`` and ``/models`` are added to the path of ``base_url``; its query is kept.
    Pausing a call stops its idle time, not its total time. ``connections`` bounds the pool; 0 opens
    one per running call, and the permits bound those.

    Raises ConfigError for an address, key or proxy that cannot be used. The connections belong to
    the loop that runs at the first call.
    """

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        api_key: str | None,
        settings: HttpSettings = _DEFAULTS,
        connections: int = 0,
        relayed: Mapping[Family, Address] | None = None,
    ) -> None:
        base = checked_url(name, base_url).update_query(dict(settings.query))
        self._headers = request_headers(name, api_key, settings)
        self._proxy = proxy_for(base)
        self._connections = connections
        self._base = base
        self._service = HttpService(
            name=name,
            redactor=Redactor(api_key or ""),
            base_url=base_url,
            settings=settings,
        )
        self._relaying = Relaying(self._service, relayed or {}, api_key, self._open_relay_client)
        self._connector: Connector | None = None
        self._chat: Endpoint | None = None
        self._calls: set[HttpCall] = set()
        self._model_queries: set[asyncio.Task[ModelList]] = set()
        self._closed = False

    @property
    def in_flight(self) -> int:
        """The number of calls that were started and have not reported their end."""
        return len(self._calls) + len(self._relaying.running)

    @property
    def round_trip_s(self) -> float:
        shortest = inf if self._connector is None else self._connector.shortest_connect_s
        shortest = min(shortest, self._relaying.shortest_connect_s)
        return 0.0 if shortest == inf else shortest

    def start(
        self,
        permit: PermitId,
        call: UpstreamRequest,
        reply_to: Recipient[ProviderMessage],
        *,
        sink: PieceSink | None = None,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> UpstreamCall:
        if self._closed:
            reply_to.tell(UpstreamEnded(permit, self._stopping()))
            return EndedCall()
        if isinstance(call, RelayCall):
            return self._relaying.start(permit, call, reply_to, fresh=fresh, trace=trace)
        running = HttpCall(
            self._service,
            self._send_chat,
            permit,
            call,
            reply_to,
            self._calls.discard,
            sink=sink,
            fresh=fresh,
            trace=trace,
        )
        self._calls.add(running)
        return running

    def hand_over(self, reply_to: Recipient[ProviderMessage]) -> tuple[PermitId, ...]:
        running: list[HttpCall | RelayedCall] = [*self._calls, *self._relaying.running]
        for call in running:
            call.reply_to = reply_to
        return tuple(call.permit for call in running)

    def ask_models(self, reply_to: Recipient[ProviderMessage]) -> None:
        query = asyncio.get_running_loop().create_task(self._list_models())
        self._model_queries.add(query)

        def reply(query: asyncio.Task[ModelList]) -> None:
            self._model_queries.discard(query)
            error = None
            if query.cancelled():
                models: ModelList = self._stopping()
            elif error := query.exception():
                models = unexpected_failure(error)
            else:
                models = query.result()
            if isinstance(models, UpstreamFailure):
                reply_to.tell(ModelsUnavailable(models))
            else:
                reply_to.tell(ModelsListed(models))
            if error is not None:
                log_unexpected(error, self._service)

        query.add_done_callback(reply)

    async def aclose(self) -> None:
        """Abort all calls and close the connections; by then every call has reported its end."""
        self._closed = True
        running = [*(call.task for call in self._calls), *self._model_queries]
        for call in self._calls:
            call.abort()
        for query in self._model_queries:
            query.cancel()
        await self._relaying.aclose()
        if running:
            await asyncio.wait(running)
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()

    def _open_relay_client(self, origin: URL) -> HttpClient:
        return AiohttpClient(self._service, proxy=proxy_for(origin), tls=origin.scheme == "https")

    def _open_connector(self) -> Connector:
        if self._connector is None:
            self._connector = Connector(
                self._connections,
                self._service.settings.connect_timeout_s,
                tls=self._base.scheme == "https",
            )
        return self._connector

    def _endpoint(self, method: str, path: str) -> Endpoint:
        url = join_path(self._base, path)
        return Endpoint(method, url, headers=self._headers, proxy=self._proxy)

    async def _send_chat(self, body: bytes, progress: Progress) -> Response:
        if self._chat is None:
            self._chat = self._endpoint("POST", "chat/completions")
        return await exchange(self._open_connector(), self._chat, body, progress)

    async def _list_models(self) -> ModelList:
        if self._closed:
            return self._stopping()
        service = self._service
        try:
            async with PatientTimeout(MODELS_TIMEOUT_S):
                return await self._get_models()
        except TRANSPORT_ERRORS as error:
            return failure_of(error, service)

    async def _get_models(self) -> ModelList:
        response = await exchange(self._open_connector(), self._endpoint("GET", "models"))
        redactor = self._service.redactor
        try:
            body = b""
            while data := await response.content.readany():
                body += data
                if len(body) > MAX_MODELS_BYTES:
                    return UpstreamFailure(FailureKind.TOO_LARGE, "sent too many models")
            if response.status != 200 or body.lstrip()[:1] in (b"", b"<"):
                return classify_response(
                    response.status, response.headers, body, now=time.time(), redactor=redactor
                )
            return parse_models(body, redactor=redactor)
        finally:
            response.close()

    def _stopping(self) -> UpstreamFailure:
        return UpstreamFailure(FailureKind.BROKEN, "takes no more calls: the broker is stopping")
