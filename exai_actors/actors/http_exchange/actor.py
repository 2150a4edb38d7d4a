"""One request over HTTP and its response: in the place of a connection, for one request.

After a whole answer it waits a moment for another request of the same client on the same socket,
which then needs no admission.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

import msgspec
import structlog

from exai_actors.actors.http_exchange.response import Response
from exai_actors.actors.log import logs_details, shown
from exai_actors.actors.session.request_ends import RequestEnds
from exai_actors.core import error_bodies
from exai_actors.core.calls import Outcome
from exai_actors.core.families import Family
from exai_actors.core.observe.parts import ConnectionState
from exai_actors.core.relay import UPSTREAM_PATHS, RelayPipe, RelayRequest
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import DEFAULT_TENANT, ConnectionId, RequestKey, SessionId, shown_tenant
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
from exai_actors.wire.http_api.errors import ApiError, api_error, unauthorized

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.http_exchange.exchange import RelayedExchange
    from exai_actors.actors.http_exchange.settings import ExchangeSettings
    from exai_actors.actors.request_board import RequestBoard
    from exai_actors.ports import Peer, Responder

log = structlog.get_logger()

# How long an exchange waits for another request; it has a place and a session for so long.
_NEXT_WITHIN_S = 1.0
# How often an exchange that waits for a repeat looks whether others wait for its permit.
_LOOK_EVERY_S = 0.1


class _NoPieces:
    """Marks the reader of a response whose bytes take a pipe of their own."""

    def write(self, text: str, /) -> None: ...

    def write_reasoning(self, _: str, /) -> bool:
        return False


_NO_PIECES = _NoPieces()


def _no_request(family: Family) -> RelayRequest:
    """In the place of one that has ended, and need not stay in memory."""
    return RelayRequest(family=family, path="", body=b"", headers=(), model="", pipe=RelayPipe())


_NO_REQUEST: Mapping[Family, RelayRequest] = {
    family: _no_request(family) for family in UPSTREAM_PATHS
}


class ExchangeParts(msgspec.Struct, frozen=True, eq=False):
    """The parts of the broker that all exchanges share."""

    settings: ExchangeSettings
    directory: Directory
    broker: Recipient[BrokerMessage]
    request_board: RequestBoard


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
        parts: ExchangeParts,
    ) -> None:
        super().__init__()
        self._id = connection_id
        self._parts = parts
        self._logs_details = logs_details()
        self._session: Recipient[SessionRequest] | None = None
        self._session_id = SessionId("")
        self._hello: Admit | None = None
        self._asked_again = False
        self._submitted = False
        self._returned = False
        self._gone = False
        self._draining = False
        self._grace_until = 0.0
        # Since when it waits for another request, None while it has one.
        self._idle_since: float | None = None
        self._idle_timer_runs = False
        # The timer of a response that has not begun.
        self._sign_of_life: Cancellable | None = None
        self._take(peer, exchange, responder)

    def _take(self, peer: Peer, exchange: RelayedExchange, responder: Responder) -> None:
        """Make a request and its response those of this actor."""
        self._peer = peer
        self._owner = exchange.owner
        self._key = RequestKey(exchange.request_id, "generated", 1)
        self._request = exchange.request
        self._options = exchange.options
        self._response = Response(responder, exchange, self.now(), self.stop)
        self._paused = False

    def _await_response(self) -> None:
        self._request.pipe.add(self._response)
        if self._request.stream or self._parts.settings.pad_json:
            self._sign_of_life = self.schedule(self._parts.settings.commit_after_s, CommitDue())

    def on_start(self) -> None:
        self._hello = Admit(
            connection_id=self._id,
            connection=self.actor_ref,
            token=self._owner.token,
            session_id=self._owner.session,
            address=self._peer.address,
            has_call=True,
        )
        self._parts.broker.tell(self._hello)
        self._await_response()

    def on_stop(self) -> None:
        self.drop_waiting(lambda message: type(message) in NEEDS_A_CLIENT)
        if not self._response.has_ended:
            self._end_with(error_bodies.interrupted_by_shutdown())
        self._request.pipe.source.leave(self._response)
        self._response.forget(self)

    def on_failure(self, *_: object) -> None:
        self._response.break_off()
        self._response.forget(self)

    def on_receive(self, message: ExchangeMessage | Down[None]) -> None:
        match message:
            case RequestEnded():
                self._outcome(message.outcome)
            case Admitted():
                self._admitted(message)
            case RequestGranted():
                self._response.place = None
            case RequestAccepted():
                pass
            case RequestQueued():
                self._response.place = message
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
            case CommitDue() | KeepaliveDue():
                self._show_life()
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
                    self._response.break_off()
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
            open_s=self._response.open_s(self.now()),
            calls=0 if self._response.has_ended else 1,
            paused=self._paused,
            protocol=self._request.family,
        )

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
            or exchange.owner != self._owner
            or not self.is_quiet
        ):
            return False
        tenant = self._response.tenant
        self._idle_since = None
        self._take(peer, exchange, responder)
        self._response.tenant = tenant
        self._await_response()
        self._log_opened()
        self._submit(session)
        return True

    def left(self) -> None:
        """There will be no other request."""
        self._stop_if_idle()

    def _wait_for_next(self) -> None:
        """The answer is sent; wait for another request of this client, if one may come."""
        if self._draining or not self._response.keep(self):
            self.stop()
            return
        if self._sign_of_life is not None:
            self._sign_of_life.cancel()
            self._sign_of_life = None
        self._idle_since = self.now()
        self._request = _NO_REQUEST[self._request.family]
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

    def _admitted(self, message: Admitted) -> None:
        if message.session is None or message.session is self._session:
            return
        if self._response.has_ended:
            self._stop_if_idle()
            return
        self._session = message.session
        self._session_id = message.session_id
        self._response.tenant = message.tenant
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
            self._log_opened()
        elif not self._returned:
            # Its earlier incarnation had sent the request to a provider.
            self._refuse(error_bodies.session_failed())
            return
        self._submit(message.session)

    def _submit(self, session: Recipient[SessionRequest]) -> None:
        self._returned = False
        self._submitted = True
        submit = Submit(self._id, self._key, self._request, self._options, _NO_PIECES)
        if session.offer(submit) != "accepted":
            self._refuse(error_bodies.session_busy())

    def _log_opened(self) -> None:
        if self._logs_details:
            log.debug(
                "http.request",
                connection=self._id,
                request=self._key.text,
                family=self._request.family,
                address=self._peer.address,
                tenant=shown_tenant(self._response.tenant or DEFAULT_TENANT),
                session=shown(self._session_id),
                agent=self._agent(),
            )

    def _agent(self) -> str:
        """The client's software, with the name of its sub-agent if it is one."""
        agent = self._peer.user_agent or ""
        return f"{agent} [{self._owner.agent}]" if self._owner.agent else agent

    def _not_admitted(self, message: NotAdmitted) -> None:
        if self._response.has_ended:
            return
        if message.delay_s:
            self.schedule(message.delay_s, msgspec.structs.replace(message, delay_s=0.0))
            return
        if message.error == "unauthorized":
            self._end_as(unauthorized(message.message))
            return
        if message.tenant is not None:
            self._response.tenant = message.tenant
        failed = message.error == "internal_error"
        code = ErrorCode.INTERNAL_ERROR if failed else ErrorCode.OVER_CAPACITY
        self._refuse(ErrorBody(code, message.message, {"retry_after": 1}))

    def _outcome(self, outcome: Outcome) -> None:
        """The one end of the request: end the response as it deserves."""
        response, error = self._response, outcome.error
        if response.has_ended:
            return
        if error is None:
            response.complete(outcome.response)
            is_whole = response.relays
        elif response.relays:
            # The service's own end of its answer, an error too, is the client's to read.
            is_whole = self._request.pipe.source.is_whole
            if is_whole:
                response.end()
            else:
                response.break_off()
        else:
            response.refuse(outcome.response, error)
            is_whole = False
        if is_whole:
            self._wait_for_next()
        else:
            self.stop()

    def _refuse(self, error: ErrorBody) -> None:
        """Count and answer a request that its session does not end."""
        if self._response.has_ended:
            self._stop_if_idle()
            return
        if not self._submitted:
            parts, tenant = self._parts, self._response.tenant or DEFAULT_TENANT
            board = parts.directory.board
            ends = RequestEnds(self._session_id, tenant, parts.request_board, board)
            outcome = Outcome("refused", error=error)
            ends.unrouted(self._key, outcome, self._options.trace, api=self._request.family)
        self._end_with(error)

    def _end_with(self, error: ErrorBody) -> None:
        self._end_as(api_error(error))

    def _end_as(self, error: ApiError) -> None:
        if self._response.has_ended:
            self._stop_if_idle()
        else:
            self._response.fail(error)
            self.stop()

    def _show_life(self) -> None:
        """Show that the request is alive, as long as nothing of its answer has come."""
        if not (self._response.has_ended or self._gone or self._response.relays):
            self._response.show_life()
            self._sign_of_life = self.schedule(self._parts.settings.keepalive_s, KeepaliveDue())

    def _client_left(self) -> None:
        """Give up the request, unless its answer is whole, or the client may send it again."""
        if self._response.has_ended:
            return
        self._gone = True
        pipe = self._request.pipe.source
        if pipe.is_whole:
            return
        may_return = self._submitted and pipe.may_be_repeated()
        grace_s = self._parts.settings.retry_grace_s if may_return else 0.0
        pipe.leave(self._response, may_return=grace_s > 0)
        self._grace_until = self.now() + grace_s
        self._wait_for_repeat()

    def _wait_for_repeat(self) -> None:
        """Wait a little longer for the same request, unless others need the permit of this one."""
        left_s = self._grace_until - self.now()
        others_wait = self._parts.directory.board.has_queued
        if left_s > 0 and not (self._request.pipe.source.presence.runs and others_wait):
            self.schedule(min(left_s, _LOOK_EVERY_S), GraceOver())
        else:
            self._response.break_off()
            self.stop()

    def _broker_restarted(self) -> None:
        """Repeat the question that the guardian may not have answered."""
        if self._hello is None or self._response.has_ended:
            return
        if self._asked_again:
            self._refuse(error_bodies.broker_failed())
        else:
            self._asked_again = True
            self._parts.broker.tell(self._hello)
