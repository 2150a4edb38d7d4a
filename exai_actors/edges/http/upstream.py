"""An OpenAI-compatible chat-completions service as an upstream."""

from __future__ import annotations

import asyncio
import time
from math import inf

import msgspec
from yarl import URL

from exai_actors import __version__
from exai_actors.core.calls import ChatCall, FailureKind, UpstreamFailure
from exai_actors.edges.http.call import HttpCall
from exai_actors.edges.http.connector import Connector, proxy_for
from exai_actors.edges.http.errors import TRANSPORT_ERRORS, broken, failure_of, log_broken
from exai_actors.edges.http.exchange import Response, Target, exchange
from exai_actors.edges.http.service import HttpService
from exai_actors.edges.settings import HttpSettings
from exai_actors.errors import ConfigError
from exai_actors.ids import PermitId
from exai_actors.messages.provider import (
    ModelsListed,
    ModelsUnavailable,
    ProviderMessage,
    UpstreamEnded,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import UpstreamCall
from exai_actors.wire.openai.completions import parse_models
from exai_actors.wire.openai.errors import classify_response
from exai_actors.wire.openai.redaction import Redactor

MODELS_BODY_BYTES = 4_194_304
MODELS_TIMEOUT_S = 30.0
_DEFAULTS = HttpSettings()

ModelsAnswer = tuple[str, ...] | UpstreamFailure


class HttpUpstream:
    """Fulfils ``ports.Upstream`` for one service.

    ``base_url`` is the address to which ``/chat/completions`` and ``/models`` are added; its query
    is kept. Idle time does not pass while a call is paused; total time does. ``connections`` 0
    opens as many as calls run, which the permits bound.

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
    ) -> None:
        base = _checked_url(name, base_url)
        self._headers = _headers(name, api_key)
        self._proxy = proxy_for(base)
        self._connections = connections
        self._base = base
        self._service = HttpService(
            name=name,
            redactor=Redactor(api_key or ""),
            base_url=base_url,
            ask=self._ask_chat,
            **msgspec.structs.asdict(settings),
        )
        self._connector: Connector | None = None
        self._chat: Target | None = None
        self._calls: set[HttpCall] = set()
        self._questions: set[asyncio.Task[ModelsAnswer]] = set()
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Calls that were started and have not told their end."""
        return len(self._calls)

    @property
    def round_trip_s(self) -> float:
        shortest = inf if self._connector is None else self._connector.shortest_connect_s
        return 0.0 if shortest == inf else shortest

    def start(
        self, permit: PermitId, call: ChatCall, reply_to: Recipient[ProviderMessage]
    ) -> UpstreamCall:
        if self._closed:
            reply_to.tell(UpstreamEnded(permit, self._is_closed()))
            return _Ended()
        running = HttpCall(self._service, permit, call, reply_to, self._calls.discard)
        self._calls.add(running)
        return running

    def hand_over(self, reply_to: Recipient[ProviderMessage]) -> tuple[PermitId, ...]:
        for call in self._calls:
            call.reply_to = reply_to
        return tuple(call.permit for call in self._calls)

    def ask_models(self, reply_to: Recipient[ProviderMessage]) -> None:
        question = asyncio.get_running_loop().create_task(self._ask_models())
        self._questions.add(question)

        def told(question: asyncio.Task[ModelsAnswer]) -> None:
            self._questions.discard(question)
            error = None
            if question.cancelled():
                answer: ModelsAnswer = self._is_closed()
            elif error := question.exception():
                answer = broken(error)
            else:
                answer = question.result()
            if isinstance(answer, UpstreamFailure):
                reply_to.tell(ModelsUnavailable(answer))
            else:
                reply_to.tell(ModelsListed(answer))
            if error is not None:
                log_broken(error, self._service)

        question.add_done_callback(told)

    async def aclose(self) -> None:
        """Abort what runs and free the connections; every call has told its end by then."""
        self._closed = True
        running = [*(call.task for call in self._calls), *self._questions]
        for call in self._calls:
            call.abort()
        for question in self._questions:
            question.cancel()
        if running:
            await asyncio.wait(running)
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()

    def _open_connector(self) -> Connector:
        if self._connector is None:
            self._connector = Connector(self._connections, self._service.connect_timeout_s)
        return self._connector

    def _target(self, method: str, path: str) -> Target:
        url = _below(self._base, path)
        return Target(method, url, headers=self._headers, proxy=self._proxy)

    async def _ask_chat(self, body: bytes) -> Response:
        if self._chat is None:
            self._chat = self._target("POST", "chat/completions")
        return await exchange(self._open_connector(), self._chat, body)

    async def _ask_models(self) -> ModelsAnswer:
        if self._closed:
            return self._is_closed()
        service = self._service
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_S):
                return await self._get_models()
        except TRANSPORT_ERRORS as error:
            return failure_of(error, service)

    async def _get_models(self) -> ModelsAnswer:
        response = await exchange(self._open_connector(), self._target("GET", "models"))
        redactor = self._service.redactor
        try:
            body = b""
            while data := await response.content.readany():
                body += data
                if len(body) > MODELS_BODY_BYTES:
                    return UpstreamFailure(FailureKind.TOO_LARGE, "sent too long a list of models")
            if response.status != 200 or body.lstrip()[:1] in (b"", b"<"):
                return classify_response(
                    response.status, response.headers, body, now=time.time(), redactor=redactor
                )
            return parse_models(body, redactor=redactor)
        finally:
            response.hang_up()

    def _is_closed(self) -> UpstreamFailure:
        return UpstreamFailure(FailureKind.BROKEN, "is not asked any more: the broker is stopping")


class _Ended:
    """A call that was over before it began."""

    def abort(self) -> None:
        """Nothing to end."""

    def pause(self) -> None:
        """Nothing to pause."""

    def resume(self) -> None:
        """Nothing to go on with."""


def _checked_url(name: str, base_url: str) -> URL:
    try:
        url = URL(base_url)
    except ValueError as error:
        raise ConfigError(f"provider {name!r}: base_url {base_url!r} is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"provider {name!r}: base_url {base_url!r} must be an http:// or https:// address, "
            "for example https://api.moonshot.ai/v1"
        )
    if url.user or url.password:
        raise ConfigError(
            f"provider {name!r}: base_url must not hold user or password; "
            "put the key into an environment variable and name that in api_key_env"
        )
    return url


def _below(base: URL, path: str) -> URL:
    below = f"{base.raw_path.rstrip('/')}/{path}"
    return base.with_path(below, encoded=True).with_query(base.query)


def _headers(name: str, api_key: str | None) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        # A compressed stream arrives in lumps, and every piece would cost its unpacking.
        "Accept-Encoding": "identity",
        "User-Agent": f"exai-actors/{__version__}",
    }
    if api_key:
        if not (api_key.isascii() and api_key.isprintable()) or api_key != api_key.strip():
            raise ConfigError(
                f"provider {name!r}: the API key holds spaces at an end, line ends or characters "
                "that no HTTP header may hold; set the variable anew"
            )
        headers["Authorization"] = f"Bearer {api_key}"
    return headers
