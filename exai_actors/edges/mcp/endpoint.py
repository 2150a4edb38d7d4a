"""The resource ``/mcp``: finds the client that an HTTP request belongs to."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from functools import partial

from exai_actors.core.authentication import Identity
from exai_actors.core.wrong_tokens import WrongToken
from exai_actors.edges.http_server.connection import Exchange
from exai_actors.edges.http_server.request import Refusal, RequestHead
from exai_actors.edges.http_server.server import Handler, PageRequest, Response
from exai_actors.edges.mcp.client import GONE, OWN_OFFER, McpClient, Offer
from exai_actors.edges.mcp.exchange import JSON, HttpOut
from exai_actors.edges.mcp.settings import McpSettings
from exai_actors.edges.websocket.server import OpenConnection
from exai_actors.ports import Clock, Peer
from exai_actors.runtime import Cancellable
from exai_actors.wire.mcp import http, messages
from exai_actors.wire.mcp.http import HttpError
from exai_actors.wire.mcp.messages import Message, Request, Unreadable

PATH = "/mcp"
_DEFAULTS = McpSettings()
_MAX_NAME = 128
_NO_SESSION = HttpError(
    404,
    messages.error(
        b"null", messages.INVALID_REQUEST, "there is no such MCP session; begin with initialize"
    ),
)
_NEEDS_SESSION = http.refuse(
    400, f"begin with initialize, and send the {http.SESSION_FIELD} of its answer"
)
_NEEDS_TOKEN = http.refuse(401, "this broker requires a token: Authorization: Bearer TOKEN")
_NOT_HERE = http.refuse(405, f"without {http.SESSION_FIELD}, {PATH} answers POST only")

Field = Callable[[str], str | None]
Identify = Callable[[str | None, str], Identity | WrongToken]
"""The owner of an access token that came from an address; counts wrong ones."""
CallLater = Callable[[float, Callable[[], None]], Cancellable]


class McpEndpoint:
    """The clients of MCP over HTTP.

    One that began with ``initialize`` is known by the id that it got then; one of the stateless era
    by its token and ``x-exai-session``, or its address and program. With ``identify``, a request
    without a valid token is refused before its body is read. Loop thread only.
    """

    def __init__(
        self,
        open_connection: OpenConnection,
        clock: Clock,
        call_later: CallLater,
        settings: McpSettings = _DEFAULTS,
        offer: Offer = OWN_OFFER,
        *,
        identify: Identify | None = None,
    ) -> None:
        self._offer = offer
        self._identify = identify
        self._open_connection = open_connection
        self._call_later = call_later
        self._clock = clock
        self._settings = settings
        self._clients: dict[object, McpClient] = {}
        self._timer: Cancellable | None = None

    @property
    def handler(self) -> Handler:
        """Answers the requests for PATH."""
        return Handler(
            self._open,
            ("POST", "GET", "DELETE"),
            self._settings.body_bytes,
            check=self._check,
            refuse=_refused,
        )

    def close(self) -> None:
        """End all clients."""
        for client in tuple(self._clients.values()):
            client.close()
        self._stop_timer()

    def _check(self, head: RequestHead, address: str) -> Response | None:
        if self._identify is None:
            return None
        found = self._identify(token_of(head.field), address)
        if isinstance(found, Identity):
            return None
        fields = (("WWW-Authenticate", "Bearer"),)
        return Response(401, _NEEDS_TOKEN.body, JSON, fields, delay_s=found.delay_s)

    def _open(self, request: PageRequest, exchange: Exchange) -> HttpOut:
        field = request.head.field
        out = HttpOut(exchange, self._clock.now(), takes_stream=http.takes_stream(field))
        match request.head.method:
            case "POST":
                self._post(request, out)
            case "GET":
                self._get(field, out)
            case _:
                self._delete(field, out)
        return out

    def _post(self, request: PageRequest, out: HttpOut) -> None:
        field = request.head.field
        refusal = http.check_content(field)
        if refusal is not None:
            out.refuse(refusal)
            return
        message = messages.read(request.body)
        if http.is_stateless(message, field):
            refusal = http.check_stateless(message, field)
            if refusal is None:
                self._stateless(message, request, out)
        else:
            refusal = http.check_stateful(field)
            if refusal is None:
                self._stateful(message, request, out)
        if refusal is not None:
            out.refuse(refusal)

    def _stateless(self, message: Message, request: PageRequest, out: HttpOut) -> None:
        field = request.head.field
        token = token_of(field)
        name = field("x-exai-session")
        if name is None:
            program = (field("User-Agent") or "").partition("/")[0]
            name = f"{request.address} {program}"
        key = (token, name[:_MAX_NAME])
        client = self._clients.get(key)
        if client is None:
            client = self._new_client(key, token, message, request, out, names_requests=False)
        if client is not None:
            client.receive(message, out)

    def _stateful(self, message: Message, request: PageRequest, out: HttpOut) -> None:
        field = request.head.field
        session_id = field(http.SESSION_FIELD)
        if session_id is not None:
            client = self._session(session_id, field)
            if client is None:
                out.refuse(_NO_SESSION)
            else:
                client.receive(message, out)
        elif isinstance(message, Request) and message.method == "initialize":
            key = secrets.token_urlsafe(24)
            out.fields = ((http.SESSION_FIELD, key),)
            client = self._new_client(
                key, token_of(field), message, request, out, names_requests=True
            )
            if client is not None:
                client.receive(message, out)
        elif isinstance(message, Unreadable):
            out.end(messages.error(message.id_, message.code, message.problem), 400)
        else:
            out.refuse(_NEEDS_SESSION)

    def _get(self, field: Field, out: HttpOut) -> None:
        session_id = field(http.SESSION_FIELD)
        if session_id is None:
            out.refuse(_NOT_HERE, (("Allow", "POST"),))
        elif not http.takes_stream(field):
            out.refuse(http.refuse(406, "Accept must allow text/event-stream"))
        elif (client := self._session(session_id, field)) is None:
            out.refuse(_NO_SESSION)
        else:
            client.listen(out)

    def _delete(self, field: Field, out: HttpOut) -> None:
        session_id = field(http.SESSION_FIELD)
        client = None if session_id is None else self._session(session_id, field)
        if session_id is None:
            out.refuse(_NOT_HERE, (("Allow", "POST"),))
        elif client is None:
            out.refuse(_NO_SESSION)
        else:
            client.close()
            out.accept(204)

    def _session(self, session_id: str, field: Field) -> McpClient | None:
        client = self._clients.get(session_id)
        if client is None:
            return None
        given, own = token_of(field) or "", client.token or ""
        return client if hmac.compare_digest(given.encode(), own.encode()) else None

    def _new_client(
        self,
        key: object,
        token: str | None,
        message: Message,
        request: PageRequest,
        out: HttpOut,
        *,
        names_requests: bool,
    ) -> McpClient | None:
        strangers = [each for each in self._clients.values() if not each.is_admitted]
        if len(strangers) >= self._settings.max_strangers:
            # It has the least hope left: one with a valid token is admitted in a moment.
            strangers[0].close()
        admitted = len(self._clients) - len(strangers)
        if admitted >= self._settings.max_clients and not self._forget_one():
            problem = f"{self._settings.max_clients} MCP clients are busy; try again later"
            out.refuse(http.refuse(503, problem, message), (("Retry-After", "5"),))
            return None
        field = request.head.field
        peer = Peer(
            address=request.address,
            origin=field("Origin"),
            user_agent=field("User-Agent"),
            path=PATH,
            protocol="mcp",
        )
        client = McpClient(
            peer,
            token,
            self._open_connection,
            self._clock,
            partial(self._clients.pop, key, None),
            names_requests=names_requests,
            offer=self._offer,
        )
        if client.has_ended:
            out.refuse(http.refuse(503, GONE, message), (("Retry-After", "5"),))
            return None
        self._clients[key] = client
        if self._timer is None:
            self._start_timer()
        return client

    def _forget_one(self) -> bool:
        idle = [each for each in self._clients.values() if each.is_admitted and each.is_idle]
        if not idle:
            return False
        min(idle, key=lambda client: client.used_at).close()
        return True

    def _tick(self) -> None:
        now, settings = self._clock.now(), self._settings
        for client in tuple(self._clients.values()):
            client.tick(now, settings.keepalive_s)
            if client.is_idle and now - client.used_at >= settings.idle_s:
                client.close()
        self._stop_timer()
        if self._clients:
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = self._call_later(self._settings.tick_s, self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def token_of(field: Field) -> str | None:
    """The access token of a request, if it has one."""
    scheme, _, token = (field("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return (field("x-api-key") or "").strip() or None


def _refused(_: RequestHead, refusal: Refusal) -> Response:
    error = http.refuse(refusal.status, refusal.text)
    return Response(error.status, error.body, JSON)
