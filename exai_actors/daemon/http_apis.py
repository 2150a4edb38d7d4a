"""The APIs that the broker's port answers over HTTP, as the SDKs of OpenAI and Anthropic call them.

Requests to a model are relayed by an actor of their own; lists of models, counts of tokens and
greetings are answered here, and need no permit.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Literal, Protocol

import msgspec

from exai_actors.actors.http_exchange.exchange import Owner, RelayedExchange
from exai_actors.core.authentication import Identity
from exai_actors.core.calls import CallOptions, Completion, RelayCall, UpstreamFailure
from exai_actors.core.error_bodies import some_of
from exai_actors.core.families import Family
from exai_actors.core.pieces import HELD_BACK_CHARS
from exai_actors.core.relay import KEPT_BYTES, RelayPipe, RelayRequest
from exai_actors.core.routing import RoutingTable
from exai_actors.core.trace_context import trace_context
from exai_actors.core.wrong_tokens import WrongToken
from exai_actors.edges.http_server.connection import Exchange
from exai_actors.edges.http_server.request import ByHead, Refusal, RequestHead
from exai_actors.edges.http_server.server import (
    Handler,
    Page,
    PageRequest,
    Response,
    Watcher,
    respond,
)
from exai_actors.ids import RequestKey, SessionId
from exai_actors.messages.connection import ExchangeMessage, OutboxHigh, OutboxLow, SocketClosed
from exai_actors.messages.provider import ProviderMessage, UpstreamEnded
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import Peer, Responder, UpstreamCall
from exai_actors.wire.http_api import families
from exai_actors.wire.http_api.errors import (
    REQUEST_ID,
    ApiError,
    error_body,
    error_fields,
    invalid,
    not_found,
    refused_by_server,
    unauthorized,
)
from exai_actors.wire.http_api.models import ServedModel, model_list, one_model

JSON = "application/json"
_MODELS = "/v1/models"
_MAX_SESSIONS = 1_000
_MAX_COUNTS = 64
"""Questions for counts of tokens that services are asked at the same time; beyond it, the broker
estimates.
"""
_COUNT = "/count_tokens"
_NO_BODY = 0

Ask = Callable[[RelayCall, Recipient[ProviderMessage]], UpstreamCall]
"""Starts a relayed call without a permit."""


class Tables(Protocol):
    """The models that are served, at this moment."""

    @property
    def everything(self) -> RoutingTable: ...

    @property
    def by_family(self) -> Mapping[Family, RoutingTable]: ...


class _Asked(msgspec.Struct, frozen=True):
    """What the head of a request says: all about it but its body and the client's address.

    ``path`` is that of a relayed request at its service. ``problem`` says why it cannot be used.
    ``claim`` is None if the body decides. ``options`` are those of a request that does not stream,
    and of one that does.
    """

    path: str
    token: str | None
    problem: str | None
    claim: families.Claim | None
    headers: families.Fields
    options: tuple[CallOptions, CallOptions]


class Apis:
    """``identify`` knows access tokens, and counts wrong ones; ``open_exchange`` starts the actor
    of a request. ``counting`` are the providers, by name, whose services count tokens at no cost.
    ``sub_agents_wait``: in their session they come after the agent that has started them.
    """

    def __init__(
        self,
        tables: Tables,
        identify: Callable[[str | None, str], Identity | WrongToken],
        open_exchange: Callable[[Peer, RelayedExchange, Responder], Recipient[ExchangeMessage]],
        *,
        keeps_responses: bool,
        counting: Mapping[str, Ask] | None = None,
        sub_agents_wait: bool = False,
    ) -> None:
        self._tables = tables
        self._identify = identify
        self._open_exchange = open_exchange
        self._keeps_responses = keeps_responses
        self._counting = counting or {}
        self._counts = 0
        self._sub_agent_priority = -1 if sub_agents_wait else 0
        self._asked = ByHead(self._read_head)
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[str, SessionId] = {}
        self._prefix = secrets.token_hex(4)
        self._numbers = count(1)

    def by_path(self) -> dict[str, Page | Handler]:
        """The handlers by path."""
        get = "GET", "HEAD"
        return {
            **{
                path: Handler(
                    partial(self._relay, family),
                    unread_bytes=HELD_BACK_CHARS,
                    check=partial(self._check, family),
                    refuse=partial(self._refused, family),
                )
                for path, family in families.PATHS.items()
            },
            families.COUNT_TOKENS: Handler(
                self._count_tokens,
                check=partial(self._check, "messages"),
                refuse=partial(self._refused, "messages"),
            ),
            _MODELS: Handler(self._list_models, get, _NO_BODY, check=self._check_models),
            f"{_MODELS}/": Handler(self._one_model, get, _NO_BODY, check=self._check_models),
            "/api/hello": Page(lambda _: Response(200, b"", JSON), get),
        }

    def _check_models(self, head: RequestHead, address: str) -> Response | None:
        return self._check(_caller(head), head, address)

    def _check(self, family: Family, head: RequestHead, address: str) -> Response | None:
        """Refuse a client without a token before its body is read."""
        found = self._identify(self._asked.of(head).token, address)
        if isinstance(found, Identity):
            return None
        text = "the access token is missing or not valid: send it as Bearer or in x-api-key"
        return msgspec.structs.replace(
            self._response(family, unauthorized(text)), delay_s=found.delay_s
        )

    def _relay(self, family: Family, request: PageRequest, exchange: Exchange) -> Watcher:
        head = request.head
        asked = self._asked.of(head)
        body = asked.problem or families.read_body(request.body)
        if isinstance(body, str):
            respond(exchange, self._response(family, invalid(body)))
            return _NOTHING
        streams = body.stream is True
        options = asked.options[streams]
        claim = asked.claim or families.claim_of(head.named.get, body, request.address)
        keeps = self._keeps_responses or options.idempotency_key is not None
        relayed = RelayedExchange(
            request_id=self._new_id(),
            owner=Owner(asked.token, self._session(claim.session), claim.agent),
            request=RelayRequest(
                family=family,
                path=asked.path,
                body=request.body,
                headers=asked.headers,
                model=body.model,
                pipe=RelayPipe(KEPT_BYTES if keeps else 0),
                stream=streams,
                characters=float(len(request.body)),
                max_tokens=body.limit,
                answers=body.n if type(body.n) is int else 1,
            ),
            options=options,
        )
        peer = Peer(
            address=request.address,
            user_agent=head.named.get("user-agent"),
            path=head.path,
            trace=options.trace,
        )
        return _Follower(self._open_exchange(peer, relayed, exchange))

    def _read_head(self, head: RequestHead) -> _Asked:
        field = head.named.get
        claim = families.claim_of_head(field)
        key = families.idempotency_key(field)
        trace = trace_context(field("traceparent"), field("tracestate"))

        def options(*, streams: bool) -> CallOptions:
            return CallOptions(
                deadline_ms=families.deadline_ms(field, streams=streams),
                priority=self._sub_agent_priority if claim and claim.is_sub_agent else 0,
                reports_progress=streams,
                idempotency_key=None if key is None else RequestKey(key, "idempotency"),
                trace=trace,
            )

        return _Asked(
            path=families.upstream_path(families.PATHS.get(head.path, "chat"), head.query),
            token=families.token_of(field),
            problem=families.problem_of_head(field),
            claim=claim,
            headers=families.forwarded_headers(head.fields),
            options=(options(streams=False), options(streams=True)),
        )

    def _count_tokens(self, request: PageRequest, exchange: Exchange) -> Watcher:
        body = families.read_body(request.body)
        if isinstance(body, str):
            respond(exchange, self._response("messages", invalid(body)))
            return _NOTHING
        estimate = {"input_tokens": families.estimated_tokens(request.body)}
        estimated = Response(200, msgspec.json.encode(estimate), JSON)
        route = self._tables.by_family["messages"].find(body.model)
        ask = None if route is None else self._counting.get(route.provider)
        if route is None or ask is None or self._counts >= _MAX_COUNTS:
            respond(exchange, estimated)
            return _NOTHING
        self._counts += 1
        count = _Count(exchange, estimated, self._counted)
        pipe = RelayPipe()
        pipe.add(count)
        query = request.head.query
        asked = RelayRequest(
            family="messages",
            path=families.upstream_path("messages", "") + _COUNT + (f"?{query}" if query else ""),
            body=request.body,
            headers=self._asked.of(request.head).headers,
            model=body.model,
            pipe=pipe,
        )
        count.call = ask(asked.to_upstream(route.model, "", (), False), count)
        return count

    def _counted(self) -> None:
        self._counts -= 1

    def _list_models(self, _: PageRequest, exchange: Exchange) -> Watcher:
        respond(exchange, Response(200, model_list(self._served()), JSON))
        return _NOTHING

    def _one_model(self, request: PageRequest, exchange: Exchange) -> Watcher:
        name = request.head.path.removeprefix(f"{_MODELS}/")
        served = self._served()
        found = next((model for model in served if model.name == name), None)
        if found is None:
            found = self._named_by_provider(name)
        if found is None:
            known = some_of([model.name for model in served]) or "none"
            error = not_found(f"no provider serves the model '{name}'; available: {known}")
            respond(exchange, self._response(_caller(request.head), error))
        else:
            respond(exchange, Response(200, msgspec.json.encode(one_model(found)), JSON))
        return _NOTHING

    def _served(self) -> tuple[ServedModel, ...]:
        """The models with a name of their own, and the families of each."""
        found: dict[str, ServedModel] = {}
        for family, table in self._tables.by_family.items():
            for name in table.models():
                route = table.find(name)
                known = found.get(name)
                served = () if known is None else known.families
                provider = "" if route is None else route.provider
                found[name] = ServedModel(name, provider, (*served, family))
        return tuple(found.values())

    def _refused(self, family: Family, _: RequestHead, refusal: Refusal) -> Response:
        return self._response(family, refused_by_server(refusal.status, refusal.text))

    def _named_by_provider(self, name: str) -> ServedModel | None:
        """A model named as ``provider/model``, or one of a service that has no list of models."""
        routes = [(each, table.find(name)) for each, table in self._tables.by_family.items()]
        found = [(family, route) for family, route in routes if route is not None]
        if not found:
            return None
        return ServedModel(name, found[0][1].provider, tuple(family for family, _ in found))

    def _response(self, family: Family, error: ApiError) -> Response:
        request_id = self._new_id()
        fields = (*error_fields(error), (REQUEST_ID[family], request_id))
        return Response(error.status, error_body(family, error, request_id), JSON, fields)

    def _session(self, name: str) -> SessionId:
        """A name that only this broker can make of the client's own: it opens the session."""
        known = self._sessions.get(name)
        if known is not None:
            return known
        digest = hashlib.blake2b(name.encode(), key=self._secret, digest_size=16).digest()
        made = SessionId(str(uuid.UUID(bytes=digest, version=4)))
        if len(self._sessions) >= _MAX_SESSIONS:
            self._sessions.clear()
        self._sessions[name] = made
        return made

    def _new_id(self) -> str:
        return f"req_{self._prefix}{next(self._numbers):08x}"


def _caller(head: RequestHead) -> Family:
    """The family whose SDK probably asks."""
    return "messages" if head.field("anthropic-version") else "chat"


class _Follower:
    """Reports the fate of the response to the actor of its exchange."""

    __slots__ = ("_actor",)

    def __init__(self, actor: Recipient[ExchangeMessage]) -> None:
        self._actor = actor

    def gone(self) -> None:
        self._actor.tell(SocketClosed(1006, ""))

    def pause(self) -> None:
        self._actor.tell(OutboxHigh())

    def resume(self) -> None:
        self._actor.tell(OutboxLow())


class _Count:
    """A count of tokens that a service is asked for: follows the response, and gets its end."""

    def __init__(
        self, exchange: Exchange, estimate: Response, on_end: Callable[[], object]
    ) -> None:
        self.call: UpstreamCall | None = None
        self._exchange = exchange
        self._estimate = estimate
        self._on_end = on_end

    # As the reader of the service's response.

    def head(self, status: int, fields: tuple[tuple[str, str], ...], length: int | None, /) -> None:
        self._exchange.begin(status, fields, length)

    def data(self, data: bytes, /) -> None:
        self._exchange.write(data)

    # As the recipient of the call's end.

    def tell(self, message: ProviderMessage, /) -> None:
        self._on_end()
        result = message.result if isinstance(message, UpstreamEnded) else None
        if isinstance(result, Completion):
            self._exchange.end()
        elif self._exchange.has_begun:
            self._exchange.abort()
        elif isinstance(result, UpstreamFailure) and result.response is not None:
            refusal = result.response
            self._exchange.respond(refusal.status, refusal.fields, refusal.body)
        else:
            respond(self._exchange, self._estimate)

    def offer(self, message: ProviderMessage, /) -> Literal["accepted"]:
        self.tell(message)
        return "accepted"

    def tell_system(self, message: ProviderMessage, /) -> None:
        self.tell(message)

    # As the watcher of the response.

    def gone(self) -> None:
        if self.call is not None:
            self.call.abort()

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Nothing:
    """Follows a response that has ended."""

    def gone(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


_NOTHING = _Nothing()
