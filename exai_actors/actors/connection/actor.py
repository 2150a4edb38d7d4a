"""One socket: passes its frames to the wire protocol, and requests to the session.

It decides nothing about requests; it only knows in which form each is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import structlog
from msgspec.structs import replace

from exai_actors.actors.connection.kept_frames import KeptFrames
from exai_actors.actors.connection.pending_calls import PendingCalls
from exai_actors.actors.connection.slow_consumer import SlowConsumer
from exai_actors.actors.log import logs_details, shown
from exai_actors.actors.session.request_ends import RequestEnds
from exai_actors.core import error_bodies
from exai_actors.core.calls import Outcome
from exai_actors.core.observe.parts import ConnectionState
from exai_actors.core.trace_context import TraceContext
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import DEFAULT_TENANT, ConnectionId, RequestKey, SessionId, shown_tenant
from exai_actors.messages.broker import Admit, BeginSession, BrokerMessage
from exai_actors.messages.broker import RotateToken as AskRotation
from exai_actors.messages.connection import (
    NEEDS_A_CLIENT,
    Admitted,
    BinaryReceived,
    BrokerFailed,
    BrokerRestarted,
    ConnectionMessage,
    Disconnect,
    Drain,
    Heartbeat,
    HelloTimeout,
    NotAdmitted,
    OutboxHigh,
    OutboxLow,
    ReadHandled,
    RequestAccepted,
    RequestEnded,
    RequestGranted,
    RequestQueued,
    RequestReturned,
    SessionFailed,
    SessionLost,
    SlowConsumerTimeout,
    SocketClosed,
    TextReceived,
    TokenRotated,
    TokenWithdrawn,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session_requests import (
    CancelRequest,
    SessionRequest,
    Submit,
)
from exai_actors.runtime import Cancellable, Down, LoopActor, LoopRef
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.close_reasons import CloseReason
from exai_actors.wire.clients.codec import decode
from exai_actors.wire.clients.connection import Close, Connection, State
from exai_actors.wire.clients.fast_path import decode_common_call
from exai_actors.wire.clients.frames import (
    CallTool,
    Cancel,
    CheckedCall,
    ClientFrame,
    Health,
    Hello,
    Ignored,
    Initialize,
    ListTools,
    Malformed,
    Ping,
    ReplyTo,
    RotateToken,
)

if TYPE_CHECKING:
    from exai_actors.actors.connection.settings import ConnectionSettings
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.request_board import RequestBoard
    from exai_actors.ports import Clock, Outbox, Peer


_NO_ID = RequestKey("", "generated")
# After a pause of the whole process a timer is due before the hello that arrived meanwhile is read.
_LAST_CHANCE_S = 0.1
_MAX_WRONG_ROTATIONS = 3

log = structlog.get_logger()


class ConnectionActor(LoopActor):
    """Lives as long as its socket; stops itself after SocketClosed."""

    def __init__(
        self,
        connection_id: ConnectionId,
        peer: Peer,
        outbox: Outbox,
        settings: ConnectionSettings,
        directory: Directory,
        broker: Recipient[BrokerMessage],
        clock: Clock,
        request_board: RequestBoard,
    ) -> None:
        super().__init__()
        self._id = connection_id
        self._peer = peer
        self._outbox = outbox
        self._settings = settings
        self._directory = directory
        self._broker = broker
        self._clock = clock
        self._request_board = request_board
        self._wire = Connection()
        self._session: Recipient[SessionRequest] | None = None
        # The session that accepts new calls: None while draining and after this side has closed.
        self._open_session: Recipient[SessionRequest] | None = None
        # The tenant and the session for which its requests are counted.
        self._counted_for = DEFAULT_TENANT, SessionId("")
        self._kept: KeptFrames | None = None
        self._calls = PendingCalls(connection_id, outbox, settings, clock)
        self._rotation: ReplyTo | None = None
        self._wrong_rotations = 0
        # The hello that waits for its answer, and whether it was sent to a second guardian.
        self._hello: Admit | None = None
        self._asked_again = False
        self._generated = 0
        self._hello_timer: Cancellable | None = None
        self._slow_consumer = SlowConsumer(outbox, settings)
        self._heartbeat_armed = False
        self._draining = False
        self._closing = False
        self._opened_at = self.now()

    def on_start(self) -> None:
        until = max(0.0, self._settings.hello_timeout_s - _LAST_CHANCE_S)
        self._hello_timer = self.schedule(until, HelloTimeout())

    def on_stop(self) -> None:
        self.drop_waiting(lambda message: type(message) in NEEDS_A_CLIENT)
        if self._closing:
            return
        cut_off = self._request_board.cut_off
        if cut_off is None:
            # An operator has stopped or restarted it, or all connections.
            self._end_all(error_bodies.connection_ended())
            self._close_for(CloseReason.DISCONNECTED)
        else:
            self._end_all(cut_off)
            self._close_for(CloseReason.GOING_AWAY)
        self._calls.close()

    def on_failure(self, *_: object) -> None:
        self._calls.close()
        self._outbox.close(CloseReason.INTERNAL.code, CloseReason.INTERNAL.reason)

    def on_receive(self, message: ConnectionMessage | Down[None]) -> None:
        # The two of each call come first: a case takes six times as long as the type.
        if type(message) is TextReceived:
            self._text(message)
            return
        if type(message) is RequestEnded:
            self._calls.finish(message.request, message.outcome)
            if self._draining:
                self._close_when_done()
            return
        # In order of frequency: each case costs those after it.
        match message:
            case RequestGranted():
                self._calls.granted(message.request)
                self._arm_heartbeat()
            case RequestAccepted():
                self._calls.accepted(message, self.now())
                self._arm_heartbeat()
            case RequestQueued():
                self._calls.queued(message, self.now())
            case Admitted():
                if not self._closing:
                    self._admitted(message)
            case NotAdmitted():
                self._not_admitted(message)
            case RequestReturned():
                self._calls.returned(message.request)
            case SessionFailed():
                if self._session is None:
                    self._end_sent()
            case SessionLost():
                self._session_lost()
            case SocketClosed():
                self._closing = True
                if logs_details():
                    self._log_closed(message)
                self.stop()
            case ReadHandled():
                self._outbox.read_on()
            case OutboxHigh():
                self._slow_consumer.outbox_high(self)
            case OutboxLow():
                self._slow_consumer.outbox_low()
                self._calls.release()
            case BinaryReceived():
                self._binary(message)
            case TokenRotated():
                self._rotated(message)
            case TokenWithdrawn():
                self._close_for(CloseReason.UNAUTHORIZED)
            case HelloTimeout(is_last=is_last):
                self._hello_timeout(is_last=is_last)
            case Heartbeat():
                self._heartbeat()
            case SlowConsumerTimeout(taken=taken):
                self._slow_consumer.check(self, taken)
            case Drain(immediately=immediately):
                self._drain(immediately=immediately)
            case BrokerRestarted():
                self._broker_restarted()
            case Disconnect():
                self._close_for(CloseReason.DISCONNECTED)
            case BrokerFailed():
                self._broker_failed()
            case Down():
                self._session_down()
            case _:
                assert_never(message)

    @property
    def _api(self) -> str:
        """How its requests are named in the access log; empty for the broker's own protocol."""
        protocol = self._peer.protocol
        return "" if protocol == "websocket" else protocol

    @property
    def connection_id(self) -> ConnectionId:
        return self._id

    def state(self, tenant: str, session: str) -> ConnectionState:
        """This connection as consoles see it; a session that has begun is known elsewhere."""
        if not session and self._counted_for[1]:
            tenant, session = self._counted_for[0], shown(self._counted_for[1])
        return ConnectionState(
            connection=self._id,
            address=self._peer.address,
            agent=self._peer.user_agent or "",
            tenant=tenant,
            session=session,
            open_s=self.now() - self._opened_at,
            calls=len(self._calls),
            paused=self._slow_consumer.is_slow,
            protocol=self._peer.protocol,
        )

    def _text(self, message: TextReceived) -> None:
        session = self._open_session
        if session is not None and (call := decode_common_call(message.data)) is not None:
            self._submit(session, call)
            return
        if self._closing:
            return
        if self._kept is not None:
            self._keep_for_later(message)
        else:
            self._decode(message)

    def _decode(self, message: TextReceived) -> None:
        frame = self._wire.receive(message.data)
        if isinstance(frame, Close):
            self._close(frame)
        elif isinstance(frame, CallTool) and self._session_has_not_begun:
            # Many clients never make a call, and their sessions never begin.
            # Admitted comes behind the frames in the mailbox, and those have had a place there.
            self._kept = KeptFrames(self._settings.stash_limit, many=self.mailbox_limit)
            self._kept.add(message)
            self._broker.tell_system(BeginSession(self._id))
        else:
            self._frame(frame)

    @property
    def _session_has_not_begun(self) -> bool:
        # Frames are kept until the hello is answered, and while the session begins or restarts.
        return self._session is None and self._kept is None

    def _frame(self, frame: ClientFrame) -> None:
        match frame:
            case Cancel():
                self._cancel(frame)
            case Malformed(reply=reply, error=error, request=request):
                if reply.of_call:
                    self._note_refused(request, error)
                self._calls.refuse(request, reply, error)
            case Ping(reply=reply):
                self._outbox.send(encode.pong(reply, self._clock.wall()))
            case ListTools(reply=reply):
                self._outbox.send(encode.tools(reply, self._directory.tools))
            case Health(reply=reply):
                self._health(reply)
            case RotateToken():
                self._rotate(frame)
            case Hello(token=token, session_id=session_id):
                self._admit(token or self._peer.bearer_token, session_id, frame.resume)
            case Initialize():
                self._admit(self._peer.bearer_token, None, None)
            case Ignored():
                pass
            case CallTool():
                self._call(frame)
            case _:
                assert_never(frame)

    def _call(self, frame: CallTool) -> None:
        call = frame.check()
        request = frame.request
        if isinstance(call, ErrorBody):
            self._refuse(frame, call)
        elif self._open_session is not None:
            self._submit(self._open_session, call)
        elif request is not None and request in self._calls:
            self._join(request, call)
        else:
            error = error_bodies.draining() if self._draining else error_bodies.session_busy()
            self._refuse(frame, error)

    def _join(self, request: RequestKey, call: CheckedCall) -> None:
        error = self._calls.join(request, call)
        if error is not None:
            self._note_refused(request, error, call.options.trace)
            self._calls.refuse(request, call.reply.aside(), error)

    def _refuse(self, frame: CallTool, error: ErrorBody) -> None:
        """Count and answer a frame that starts no call."""
        self._note_refused(frame.request or frame.other_id, error, frame.options.trace)
        self._calls.refuse(frame.request, frame.reply, error)

    def _note_refused(
        self, request: RequestKey | None, error: ErrorBody, trace: TraceContext | None = None
    ) -> None:
        """Count and report a request that comes to no session."""
        self._note(request, Outcome("refused", error=error), trace)

    def _note_kept(self, error: ErrorBody) -> None:
        """Count and report the calls among the kept frames, which get no answer of their own."""
        kept, self._kept = self._kept or (), None
        for each in kept:
            frame = decode(each.data) if isinstance(each, TextReceived) else None
            if isinstance(frame, CallTool):
                self._note_refused(frame.request or frame.other_id, error, frame.options.trace)

    def _note(
        self, request: RequestKey | None, outcome: Outcome, trace: TraceContext | None
    ) -> None:
        tenant, session = self._counted_for
        ends = RequestEnds(session, tenant, self._request_board, self._directory.board)
        ends.unrouted(request or _NO_ID, outcome, trace, api=self._api)

    def _end_all(self, error: ErrorBody) -> None:
        """End all calls. Sessions count those that they have, and the others are counted here."""
        outcome = Outcome("failed", error=error)
        for request, pending in self._calls.take_returned():
            self._note(request, outcome, pending.call.options.trace)
        if self._hello is None:
            self._note_kept(error)
        self._calls.finish_all(outcome)

    def _submit(self, session: Recipient[SessionRequest], call: CheckedCall) -> None:
        request = call.request
        if request is None:
            self._generated += 1
            other = call.other_id or _NO_ID
            request = RequestKey(other.text, other.namespace, self._generated)
        pending = self._calls.add(request, call)
        if pending is None:
            self._join(request, call)
            return
        options = call.options
        if self._peer.trace is not None and options.trace is None:
            options = replace(options, trace=self._peer.trace)
        if self._api:
            options = replace(options, api=self._api)
        submit = Submit(
            connection_id=self._id,
            request=request,
            arguments=call.arguments,
            options=options,
            sink=pending.writer,
        )
        if session.offer(submit) != "accepted":
            error = error_bodies.session_busy()
            self._note_refused(request, error, options.trace)
            self._calls.finish(request, Outcome("refused", error=error))

    def _cancel(self, frame: Cancel) -> None:
        known = self._calls.called(frame.request)
        if self._session is not None:
            # A request that is unknown here may be one of a connection that is gone.
            for request in known or (frame.request,):
                cancel = CancelRequest(request, self._id)
                if self._session.offer(cancel) == "full":
                    error = ErrorBody(
                        ErrorCode.OVER_CAPACITY, "too many messages; cancel again later"
                    )
                    self._outbox.send(encode.error(frame.reply, error))
                    return
        answer = encode.cancelled(frame.reply, self._clock.wall(), found=bool(known))
        if answer is not None:
            self._outbox.send(answer)

    def _rotate(self, frame: RotateToken) -> None:
        if self._rotation is not None:
            self._outbox.send(encode.rotated(frame.reply, "rotation_pending"))
            return
        self._rotation = frame.reply
        self._broker.tell(
            AskRotation(self._id, self.actor_ref, frame.old, frame.new, self._peer.address)
        )

    def _rotated(self, message: TokenRotated) -> None:
        reply, self._rotation = self._rotation, None
        if reply is not None:
            self._outbox.send(encode.rotated(reply, message.error))
        if message.error == "unauthorized":
            self._wrong_rotations += 1
            if self._wrong_rotations == _MAX_WRONG_ROTATIONS:
                self._close_for(CloseReason.UNAUTHORIZED)

    def _not_admitted(self, message: NotAdmitted) -> None:
        if self._closing:
            return
        if message.delay_s:
            # The time for hello may end it earlier, which says less.
            self.schedule(message.delay_s, replace(message, delay_s=0.0))
        else:
            if message.tenant is not None:
                self._counted_for = message.tenant, SessionId("")
                failed = message.error == "internal_error"
                code = ErrorCode.INTERNAL_ERROR if failed else ErrorCode.OVER_CAPACITY
                self._note_kept(ErrorBody(code, message.message))
            self._close(self._wire.refuse(message.error, message.message))

    def _health(self, reply: ReplyTo) -> None:
        answer = encode.health(
            reply,
            self._directory.statistics(),
            now_wall=self._clock.wall(),
            tool_count=len(self._directory.tools),
        )
        self._outbox.send(answer)

    def _admit(self, token: str | None, session_id: str | None, resume: str | None) -> None:
        self._kept = KeptFrames(self._settings.stash_limit)
        self._hello = Admit(
            connection_id=self._id,
            connection=self.actor_ref,
            token=token,
            session_id=None if session_id is None else SessionId(session_id),
            resume=resume,
            address=self._peer.address,
        )
        self._broker.tell(self._hello)

    def _admitted(self, message: Admitted) -> None:
        is_first = self._hello is not None
        if not is_first and message.session is self._session:
            return
        self._counted_for = message.tenant, message.session_id
        if is_first:
            self._welcome(message)
        if message.session is not None:
            self._enter(message.session, is_first=is_first)
        waiting, self._kept = self._kept or (), None
        for kept in waiting:
            match kept:
                case TextReceived():
                    self._text(kept)
                case BinaryReceived():
                    self._binary(kept)

    def _enter(self, session: Recipient[SessionRequest], *, is_first: bool) -> None:
        self._session = self._calls.outlet.session = session
        if not self._draining:
            self._open_session = session
        if isinstance(session, LoopRef):
            self.watch(session)
        if not is_first:
            # Only what its earlier incarnation has not sent is sent again.
            self._end_sent()
        for request, pending in self._calls.take_returned():
            call = pending.call
            session.tell(Submit(self._id, request, call.arguments, call.options, pending.writer))

    def _welcome(self, message: Admitted) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None
        self._hello = None
        self._outbox.admit()
        self._outbox.send(
            self._wire.admit(message.session_id, resumed=message.resumed, resume=message.resume)
        )
        if logs_details():
            log.debug(
                "connection.opened",
                connection=self._id,
                address=self._peer.address,
                tenant=shown_tenant(message.tenant),
                session=shown(message.session_id),
                agent=self._peer.user_agent or "",
            )

    def _log_closed(self, closed: SocketClosed) -> None:
        log.debug(
            "connection.closed",
            connection=self._id,
            address=self._peer.address,
            code=closed.code,
            reason=closed.reason,
            seconds=round(self.now() - self._opened_at, 3),
        )

    def _keep_for_later(self, message: TextReceived | BinaryReceived) -> None:
        """Keep a frame until there is a session.

        Too many of them before hello is answered close the connection.
        """
        assert self._kept is not None
        if self._kept.add(message):
            return
        if self._hello is not None:
            self._close_for(CloseReason.TOO_EAGER)
        elif isinstance(message, TextReceived):
            # The session begins or restarts: further calls are refused, other frames are answered.
            self._decode(message)

    def _binary(self, message: BinaryReceived) -> None:
        if self._kept is not None:
            self._keep_for_later(message)
            return
        answer = self._wire.receive_binary(message.size)
        if isinstance(answer, Close):
            self._close(answer)
        elif isinstance(answer, Malformed):
            self._outbox.send(encode.error(answer.reply, answer.error))

    def _hello_timeout(self, *, is_last: bool) -> None:
        if self._closing or self._wire.state is State.OPEN:
            return
        if is_last:
            self._close(self._wire.time_out_hello())
        else:
            self._hello_timer = self.schedule(_LAST_CHANCE_S, HelloTimeout(is_last=True))

    def _arm_heartbeat(self) -> None:
        if not self._heartbeat_armed:
            self._heartbeat_armed = True
            self.schedule(self._settings.progress_interval_s, Heartbeat())

    def _heartbeat(self) -> None:
        self._heartbeat_armed = False
        if not self._slow_consumer.is_slow:
            self._calls.heartbeat(self.now())
        if self._calls:
            self._arm_heartbeat()

    def _drain(self, *, immediately: bool) -> None:
        self._draining = True
        self._open_session = None
        if immediately:
            self._end_all(error_bodies.interrupted_by_shutdown())
        self._close_when_done()

    def _close_when_done(self) -> None:
        if not self._calls:
            if self._hello is None and not self._closing:
                self._note_kept(error_bodies.draining())
            self._close_for(CloseReason.GOING_AWAY)

    def _session_down(self) -> None:
        """Keep frames for the session's next incarnation; its last messages come first."""
        self._session = self._open_session = self._calls.outlet.session = None
        if not self._closing:
            self._kept = KeptFrames(self._settings.stash_limit)
            self.actor_ref.tell(SessionFailed())

    def _end_sent(self) -> None:
        self._calls.finish_sent(Outcome("failed", error=error_bodies.session_failed()))
        if self._draining:
            self._close_when_done()

    def _session_lost(self) -> None:
        if self._closing:
            return
        error = error_bodies.session_failed()
        self._end_all(error)
        if self._hello is None:
            self._close_for(CloseReason.INTERNAL)
        else:
            self._close(self._wire.refuse("internal_error", error.message))

    def _broker_restarted(self) -> None:
        """Repeat the questions that the guardian may not have answered."""
        if self._rotation is not None:
            self._rotated(TokenRotated("internal_error"))
        if self._closing:
            return
        if self._hello is None:
            if self._session is None and self._kept is not None:
                self._broker.tell_system(BeginSession(self._id))
            return
        if self._asked_again:
            error = error_bodies.broker_failed()
            self._close(self._wire.refuse("internal_error", error.message))
        else:
            self._asked_again = True
            self._broker.tell(self._hello)

    def _broker_failed(self) -> None:
        self._end_all(error_bodies.broker_failed())
        self._close_for(CloseReason.BROKER_FAILED)

    def _close_for(self, reason: CloseReason) -> None:
        if not self._closing:
            self._close(self._wire.close(reason))

    def _close(self, close: Close) -> None:
        self._closing = True
        self._open_session = None
        if close.frame is not None:
            self._outbox.send(close.frame)
        self._outbox.close(close.code, close.reason)
