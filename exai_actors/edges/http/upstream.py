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
from exai_actors.edges.ended_call import ENDED_CALL
from exai_actors.edges.http.address import checked_url, join_path, proxy_for, request_headers
from exai_actors.edges.http.alarms import Alarms
from exai_actors.edges.http.call import HttpCall
from exai_actors.edges.http.client import HttpClient, Target
from exai_actors.edges.http.direct_client import DirectClient
from exai_actors.edges.http.errors import log_unexpected, unexpected_failure
from exai_actors.edges.http.patience import PatientTimeout
from exai_actors.edges.http.relayed_call import RelayedCall
from exai_actors.edges.http.relaying import NO_PERMIT, Relaying
from exai_actors.edges.http.service import HttpService
from exai_actors.edges.http.settings import Address, HttpSettings
from exai_actors.edges.http.whole_response import WholeResponse
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
    Pausing a call stops its idle time, not its total time. Each running call has a connection, and
    the permits bound those.

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
        relayed: Mapping[Family, Address] | None = None,
    ) -> None:
        base = checked_url(name, base_url).update_query(dict(settings.query))
        self._headers = request_headers(name, api_key, settings)
        self._base = base
        self._service = HttpService(
            name=name,
            redactor=Redactor(api_key or ""),
            base_url=base_url,
            settings=settings,
        )
        self._relaying = Relaying(self._service, relayed or {}, api_key, self._open_client_for)
        for url in (base, *(URL(address.url) for address in (relayed or {}).values())):
            proxy_for(url)  # raises if the proxy cannot be used
        self._client: HttpClient | None = None
        self._chat = self._target("POST", "chat/completions")
        self._alarms: Alarms[HttpCall] | None = None
        self._model_queries: set[asyncio.Task[ModelList]] = set()
        self._closed = False

    @property
    def in_flight(self) -> int:
        """The number of calls that were started and have not reported their end."""
        chats = 0 if self._alarms is None else len(self._alarms)
        return chats + len(self._relaying.running)

    @property
    def round_trip_s(self) -> float:
        shortest = inf if self._client is None else self._client.shortest_connect_s
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
            return ENDED_CALL
        if isinstance(call, RelayCall):
            return self._relaying.start(permit, call, reply_to, fresh=fresh, trace=trace)
        if self._alarms is None:
            self._alarms = Alarms()
        running = HttpCall(self._service, self._alarms, permit, call, reply_to, sink=sink)
        running.begin(self._open_client(), self._chat, fresh=fresh, trace=trace)
        return running

    def ask(self, call: RelayCall, reply_to: Recipient[ProviderMessage]) -> UpstreamCall:
        """Relay a request that the service answers without cost: it takes no permit."""
        if self._closed:
            reply_to.tell(UpstreamEnded(NO_PERMIT, self._stopping()))
            return ENDED_CALL
        return self._relaying.ask(call, reply_to)

    def hand_over(self, reply_to: Recipient[ProviderMessage]) -> tuple[PermitId, ...]:
        running: list[HttpCall | RelayedCall] = [*(self._alarms or ()), *self._relaying.running]
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
        queries = tuple(self._model_queries)
        for query in queries:
            query.cancel()
        if queries:
            await asyncio.wait(queries)
        await self._relaying.aclose()
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        if self._alarms is not None:
            for call in self._alarms:
                call.abort()
            # They had no exchange, and report their end in the next turn.
            await asyncio.sleep(0)
            self._alarms.close()

    def _open_client(self) -> HttpClient:
        if self._client is None:
            self._client = self._open_client_for(self._base)
        return self._client

    def _open_client_for(self, url: URL) -> HttpClient:
        return DirectClient(self._service, url, proxy=proxy_for(url))

    def _target(self, method: str, path: str) -> Target:
        return Target(method, join_path(self._base, path), self._headers)

    async def _list_models(self) -> ModelList:
        if self._closed:
            return self._stopping()
        response = WholeResponse(MAX_MODELS_BYTES)
        exchange = self._open_client().start(self._target("GET", "models"), b"", response)
        try:
            async with PatientTimeout(MODELS_TIMEOUT_S):
                await response.end
        except TimeoutError:
            return UpstreamFailure(FailureKind.TIMEOUT, "did not answer in time")
        finally:
            exchange.abort()
        if response.failure is not None:
            return response.failure
        redactor = self._service.redactor
        if response.is_cut:
            return UpstreamFailure(FailureKind.TOO_LARGE, "sent too many models")
        body = bytes(response.body)
        if response.status != 200 or body.lstrip()[:1] in (b"", b"<"):
            return classify_response(
                response.status, response.headers, body, now=time.time(), redactor=redactor
            )
        return parse_models(body, redactor=redactor)

    def _stopping(self) -> UpstreamFailure:
        return UpstreamFailure(FailureKind.BROKEN, "takes no more calls: the broker is stopping")
