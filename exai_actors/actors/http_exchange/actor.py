"""One request over HTTP and its response: in the place of a connection, for one request.

After a whole answer it waits a moment for another request of the same client on the same socket,
which then needs no admission.

The response ends cleanly only after a whole answer, or with an error that the client can read as
one. Everything else breaks it off, because clients take a clean end for success.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

import msgspec
import structlog

from exai_actors.actors.log import logs_details, shown
from exai_actors.actors.session.request_ends import RequestEnds
from exai_actors.core import error_bodies
from exai_actors.core.calls import CallOptions, Outcome, RelayedResponse
from exai_actors.core.families import Family
from exai_actors.core.observe.parts import ConnectionState
from exai_actors.core.relay import UPSTREAM_PATHS, RelayPipe, RelayRequest
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import (
    DEFAULT_TENANT,
    ConnectionId,
    RequestKey,
    SessionId,
    TenantName,
    shown_tenant,
)
from exai_actors.messages.broker import Admit, BrokerMessage
from exai_actors.messages.connection import (
    NEEDS_A_CLIENT,
    Admitted,
    BrokerFailed,
    BrokerRestarted,
    CommitDue,
    Disconnect,
    Drain,
    ExchangeMessage,
    GraceOver,
    IdleDue,
    KeepaliveDue,
    NotAdmitted,
    OutboxHigh,
    OutboxLow,
    RequestAccepted,
    RequestEnded,
    RequestGranted,
    RequestQueued,
    RequestReturned,
    SessionFailed,
    SessionLost,
    SocketClosed,
    TokenWithdrawn,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session_requests import (
    ReaderFull,
    ReaderReady,
    SessionRequest,
    Submit,
)
from exai_actors.runtime import Cancellable, Down, LoopActor, LoopRef
from exai_actors.wire.http_api.errors import (
    JSON,
    REQUEST_ID,
    ApiError,
    api_error,
    error_body,
    error_event,
    error_fields,
    unauthorized,
)

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.http_exchange.settings import ExchangeSettings
    from exai_actors.actors.request_board import RequestBoard
    from exai_actors.ports import Peer, Responder

log = structlog.get_logger()

_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_OK = 200
# How long an exchange waits for another request; it has a place and a session for so long.
_NEXT_WITHIN_S = 1.0
# How often an exchange that waits for a repeat looks whether others wait for its permit.
_LOOK_EVERY_S = 0.1
# Counted for until the broker has said whose request it is.
_NOBODY = DEFAULT_TENANT, SessionId("")
_STREAM = "text/event-stream"
_STREAM_FIELDS = (
    ("Content-Type", f"{_STREAM}; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
)
_CONTENT_TYPE = "content-type"


class _NoPieces:
    """Marks the reader of a response whose bytes take a pipe of their own."""

    def write(self, text: str, /) -> None: ...

    def write_reasoning(self, _: str, /) -> bool:
        return False


_NO_PIECES = _NoPieces()


class RelayedExchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has arrived, and its owner.

    ``session`` is the name of its session, which no client can guess; ``agent`` is that of a
    sub-agent.
    """

    request_id: str
    session: SessionId
    token: str | None
    request: RelayRequest
    options: CallOptions
    agent: str = ""


def _no_request(family: Family) -> RelayRequest:
    """In the place of one that has ended, and need not stay in memory."""
    return RelayRequest(family=family, path="", body=b"", headers=(), model="", pipe=RelayPipe())


_NO_REQUEST: Mapping[Family, RelayRequest] = {
    family: _no_request(family) for family in UPSTREAM_PATHS
}


class HttpExchangeActor(LoopActor):
    """Lives until its response has ended, or its client has left for too long.

    After a whole answer it may serve the next request of the same connection, token and
    session: see ``serves_next``.
    """

    def __init__(
        self,
        connection_id: ConnectionId,
        peer: Peer,
        exchange: RelayedExchange,
        responder: Responder,
        settings: ExchangeSettings,
        directory: Directory,
        broker: Recipient[BrokerMessage],
        request_board: RequestBoard,
    ) -> None:
        super().__init__()
        self._id = connection_id
        self._peer = peer
        self._exchange = exchange
        self._key = RequestKey(exchange.request_id, "generated", 1)
        self._request = exchange.request
        self._responder = responder
        self._settings = settings
        self._directory = directory
        self._broker = broker
        self._request_board = request_board
        self._session: Recipient[SessionRequest] | None = None
        self._logs_details = logs_details()
        self._counted_for = _NOBODY
        self._hello: Admit | None = None
        self._asked_again = False
        self._submitted = False
        self._returned = False
        # Whether the status line is sent, and whether anything of the service's response is.
        self._committed = False
        self._relays = False
        self._ended = False
        self._gone = False
        self._paused = False
        self._draining = False
        self._place: RequestQueued | None = None
        self._opened_at = self.now()
        self._grace_until = 0.0
        # Since when it waits for another request, None while it has one.
        self._idle_since: float | None = None
        self._idle_timer_runs = False
        # The timer of a stream that has not begun.
        self._sign_of_life: Cancellable | None = None

    def on_start(self) -> None:
        exchange = self._exchange
        exchange.request.pipe.add(self)
        self._hello = Admit(
            connection_id=self._id,
            connection=self.actor_ref,
            token=exchange.token,
            session_id=exchange.session,
            address=self._peer.address,
            has_call=True,
        )
        self._broker.tell(self._hello)
        if exchange.request.stream:
            self._sign_of_life = self.schedule(self._settings.commit_after_s, CommitDue())

    def on_stop(self) -> None:
        self.drop_waiting(lambda message: type(message) in NEEDS_A_CLIENT)
        if not self._ended:
            self._end_with(error_bodies.interrupted_by_shutdown())
        self._request.pipe.source.leave(self)
        self._responder.forget(self)

    def on_failure(self, *_: object) -> None:
        self._responder.abort()
        self._responder.forget(self)

    def on_receive(self, message: ExchangeMessage | Down[None]) -> None:
        match message:
            case RequestEnded():
                self._outcome(message.outcome)
            case Admitted():
                self._admitted(message)
            case RequestGranted():
                self._place = None
            case RequestAccepted():
                pass
            case RequestQueued():
                self._place = message
            case SocketClosed():
                self._client_left()
            case OutboxHigh():
                self._paused = True
                if self._session is not None:
                    self._session.tell(ReaderFull(self._key, self._id))
            case OutboxLow():
                self._paused = False
                if self._session is not None:
                    self._session.tell(ReaderReady(self._key, self._id))
            case CommitDue():
                self._commit()
            case KeepaliveDue():
                self._keep_alive()
            case GraceOver():
                self._wait_for_repeat()
            case NotAdmitted():
                self._not_admitted(message)
            case IdleDue():
                self._idle_due()
            case Drain(immediately=immediately):
                self._draining = True
                self._stop_if_idle()
                if not self._submitted:
                    self._refuse(error_bodies.draining())
                elif immediately:
                    self._refuse(error_bodies.interrupted_by_shutdown())
            case RequestReturned():
                self._returned = True
            case SessionFailed():
                if self._session is None and not self._returned:
                    self._refuse(error_bodies.session_failed())
            case SessionLost():
                self._refuse(error_bodies.session_failed())
            case TokenWithdrawn():
                self._end_as(unauthorized("the access token is not in force any more"))
            case Disconnect():
                if self._idle_since is None:
                    self._responder.abort()
                self._ended = True
                self.stop()
            case BrokerRestarted():
                self._broker_restarted()
            case BrokerFailed():
                self._refuse(error_bodies.broker_failed())
            case Down():
                self._session = None
                self._stop_if_idle()
                self.actor_ref.tell(SessionFailed())
            case _:
                assert_never(message)

    @property
    def connection_id(self) -> ConnectionId:
        return self._id

    def state(self, tenant: str, session: str) -> ConnectionState:
        """This exchange as consoles see it, among the connections."""
        return ConnectionState(
            connection=self._id,
            address=self._peer.address,
            agent=self._agent(),
            tenant=tenant,
            session=session,
            open_s=self.now() - self._opened_at,
            calls=0 if self._ended else 1,
            paused=self._paused,
            protocol=self._request.family,
        )

    # As the reader of the response.

    def head(self, status: int, fields: tuple[tuple[str, str], ...], length: int | None, /) -> None:
        if self._ended or self._gone:
            return
        is_stream = False
        for name, value in fields:
            if name == _CONTENT_TYPE:
                is_stream = value.startswith(_STREAM)
        if self._committed:
            if not is_stream or status != _OK:
                # The client has been promised a stream.
                self._break_off()
                return
            self._relays = True
            return
        self._committed = self._relays = True
        more = _STREAM_FIELDS[1:] if is_stream else ()
        self._responder.begin(status, (*fields, *more, *self._own_fields()), length)

    def data(self, data: bytes, /) -> None:
        if not (self._ended or self._gone):
            self._responder.write(data)

    # Between requests.

    def serves_next(self, peer: Peer, exchange: RelayedExchange, responder: Responder) -> bool:
        """Take another request of the same connection; False if it needs an actor of its own.

        It does unless this one has been admitted for the same token and session, waits for a
        request, and has no message to handle that says otherwise.
        """
        session = self._session
        if (
            self._idle_since is None
            or self._gone
            or session is None
            or exchange.session != self._exchange.session
            or exchange.token != self._exchange.token
            or not self.is_quiet
        ):
            return False
        self._peer, self._exchange, self._responder = peer, exchange, responder
        self._key = RequestKey(exchange.request_id, "generated", 1)
        self._request = exchange.request
        self._idle_since = self._place = None
        self._committed = self._relays = self._ended = self._paused = False
        self._opened_at = self.now()
        exchange.request.pipe.add(self)
        if exchange.request.stream:
            self._sign_of_life = self.schedule(self._settings.commit_after_s, CommitDue())
        self._log_opened(*self._counted_for)
        self._submit(session)
        return True

    def left(self) -> None:
        """There will be no other request."""
        self._stop_if_idle()

    def _wait_for_next(self) -> None:
        """The answer is sent; wait for another request of this client, if one may come."""
        if self._draining or not self._responder.keep(self):
            self.stop()
            return
        if self._sign_of_life is not None:
            self._sign_of_life.cancel()
            self._sign_of_life = None
        self._idle_since = self.now()
        self._request = _NO_REQUEST[self._request.family]
        self._exchange = msgspec.structs.replace(self._exchange, request=self._request)
        if not self._idle_timer_runs:
            self._idle_timer_runs = True
            self.schedule(_NEXT_WITHIN_S, IdleDue())

    def _idle_due(self) -> None:
        self._idle_timer_runs = False
        if self._idle_since is None:
            return
        left_s = self._idle_since + _NEXT_WITHIN_S - self.now()
        if left_s > 0:
            self._idle_timer_runs = True
            self.schedule(left_s, IdleDue())
        else:
            self.stop()

    def _stop_if_idle(self) -> None:
        if self._idle_since is not None:
            self.stop()

    # Internals.

    def _own_fields(self) -> tuple[tuple[str, str], ...]:
        fields: tuple[tuple[str, str], ...] = (
            (REQUEST_ID[self._request.family], self._exchange.request_id),
        )
        if self._counted_for is not _NOBODY:
            fields += (("x-exai-tenant", shown_tenant(self._counted_for[0])),)
        granted_at = self._request.pipe.source.presence.granted_at
        if granted_at is not None:
            # The request may be the repeat of one that was granted earlier.
            queued_ms = max(0, round((granted_at - self._opened_at) * 1000))
            fields += (("x-exai-queued-ms", str(queued_ms)),)
        return fields

    def _admitted(self, message: Admitted) -> None:
        if message.session is None or message.session is self._session:
            return
        if self._ended:
            self._stop_if_idle()
            return
        self._session = message.session
        self._counted_for = message.tenant, message.session_id
        if isinstance(message.session, LoopRef):
            self.watch(message.session)
        if self._hello is not None:
            self._hello = None
            if self._gone:
                self.stop()
                return
            if self._draining:
                self._refuse(error_bodies.draining())
                return
            self._log_opened(message.tenant, message.session_id)
        elif not self._returned:
            # Its earlier incarnation had sent the request to a provider.
            self._refuse(error_bodies.session_failed())
            return
        self._submit(message.session)

    def _submit(self, session: Recipient[SessionRequest]) -> None:
        self._returned = False
        self._submitted = True
        submit = Submit(self._id, self._key, self._request, self._exchange.options, _NO_PIECES)
        if session.offer(submit) != "accepted":
            self._refuse(error_bodies.session_busy())

    def _log_opened(self, tenant: TenantName, session: SessionId) -> None:
        if self._logs_details:
            log.debug(
                "http.request",
                connection=self._id,
                request=self._exchange.request_id,
                family=self._request.family,
                address=self._peer.address,
                tenant=shown_tenant(tenant),
                session=shown(session),
                agent=self._agent(),
            )

    def _agent(self) -> str:
        """The client's software, with the name of its sub-agent if it is one."""
        agent = self._peer.user_agent or ""
        return f"{agent} [{self._exchange.agent}]" if self._exchange.agent else agent

    def _not_admitted(self, message: NotAdmitted) -> None:
        if self._ended:
            return
        if message.delay_s:
            self.schedule(message.delay_s, msgspec.structs.replace(message, delay_s=0.0))
            return
        if message.error == "unauthorized":
            self._end_as(unauthorized(message.message))
            return
        if message.tenant is not None:
            self._counted_for = message.tenant, SessionId("")
        failed = message.error == "internal_error"
        code = ErrorCode.INTERNAL_ERROR if failed else ErrorCode.OVER_CAPACITY
        self._refuse(ErrorBody(code, message.message, {"retry_after": 1}))

    def _outcome(self, outcome: Outcome) -> None:
        """The one end of the request: end the response as it deserves."""
        if self._ended:
            return
        if outcome.error is None:
            self._completed(outcome.response)
        elif self._relays:
            # The service's own end of its answer, an error too, is the client's to read.
            if self._request_is_whole:
                self._finish()
            else:
                self._break_off()
        elif outcome.response is not None and not self._committed:
            self._pass_on(outcome.response, outcome.error)
        else:
            self._end_with(outcome.error)

    @property
    def _request_is_whole(self) -> bool:
        return self._request.pipe.source.is_whole

    def _completed(self, response: RelayedResponse | None) -> None:
        if self._relays:
            self._finish()
        elif response is not None and not self._committed:
            # A repeat by its key, after the end of the first one.
            self._ended = True
            fields = (*response.fields, *self._own_fields())
            self._responder.respond(response.status, fields, response.body)
            self.stop()
        else:
            self._end_with(error_bodies.repeated_too_late())

    def _finish(self) -> None:
        self._ended = True
        self._responder.end()
        self._wait_for_next()

    def _break_off(self) -> None:
        self._ended = True
        self._responder.abort()
        self.stop()

    def _pass_on(self, response: RelayedResponse, error: ErrorBody) -> None:
        """Answer with the service's own refusal."""
        self._ended = True
        fields = list(response.fields)
        named = {name.lower() for name, _ in fields}
        fields += [each for each in error_fields(api_error(error)) if each[0].lower() not in named]
        self._responder.respond(response.status, (*fields, *self._own_fields()), response.body)
        self.stop()

    def _refuse(self, error: ErrorBody) -> None:
        """Count and answer a request that its session does not end."""
        if self._ended:
            self._stop_if_idle()
            return
        if not self._submitted:
            tenant, session = self._counted_for
            ends = RequestEnds(session, tenant, self._request_board, self._directory.board)
            outcome = Outcome("refused", error=error)
            trace, api = self._exchange.options.trace, self._request.family
            ends.unrouted(self._key, outcome, trace, api=api)
        self._end_with(error)

    def _end_with(self, error: ErrorBody) -> None:
        self._end_as(api_error(error))

    def _end_as(self, error: ApiError) -> None:
        if self._ended:
            self._stop_if_idle()
            return
        if self._relays:
            self._break_off()
            return
        self._ended = True
        family, request_id = self._request.family, self._exchange.request_id
        if self._committed:
            self._responder.write(error_event(family, error, request_id, self._request.model))
            self._responder.end()
        else:
            if error.ends_connection:
                self._responder.close_after()
            fields = ((_CONTENT_TYPE, JSON), *error_fields(error), *self._own_fields())
            self._responder.respond(error.status, fields, error_body(family, error, request_id))
        self.stop()

    def _commit(self) -> None:
        """No outcome within the time for a status of its own: begin the stream."""
        if self._ended or self._gone:
            return
        if not self._committed:
            self._committed = True
            self._responder.begin(_OK, (*_STREAM_FIELDS, *self._own_fields()))
        self._keep_alive()

    def _keep_alive(self) -> None:
        """Show that the request is alive, as long as nothing of its answer has come."""
        if self._ended or self._gone or self._relays:
            return
        if self._request.family == "messages":
            self._responder.write(_PING)
        else:
            self._responder.write(self._comment())
        self._sign_of_life = self.schedule(self._settings.keepalive_s, KeepaliveDue())

    def _comment(self) -> bytes:
        place = self._place
        if place is None:
            return b": exai waiting\n\n"
        estimate = "" if place.estimate_s is None else f" estimate_s={place.estimate_s:.0f}"
        return f": exai queued position={place.position}{estimate}\n\n".encode()

    def _client_left(self) -> None:
        """Give up the request, unless its answer is whole, or the client may send it again."""
        if self._ended:
            return
        self._gone = True
        pipe = self._request.pipe.source
        if pipe.is_whole:
            return
        may_return = self._submitted and pipe.may_be_repeated()
        grace_s = self._settings.retry_grace_s if may_return else 0.0
        pipe.leave(self, may_return=grace_s > 0)
        self._grace_until = self.now() + grace_s
        self._wait_for_repeat()

    def _wait_for_repeat(self) -> None:
        """Wait a little longer for the same request, unless others need the permit of this one."""
        left_s = self._grace_until - self.now()
        others_wait = self._directory.board.has_queued
        if left_s > 0 and not (self._request.pipe.source.presence.runs and others_wait):
            self.schedule(min(left_s, _LOOK_EVERY_S), GraceOver())
        else:
            self._ended = True
            self.stop()

    def _broker_restarted(self) -> None:
        """Repeat the question that the guardian may not have answered."""
        if self._hello is None or self._ended:
            return
        if self._asked_again:
            self._refuse(error_bodies.broker_failed())
        else:
            self._asked_again = True
            self._broker.tell(self._hello)
