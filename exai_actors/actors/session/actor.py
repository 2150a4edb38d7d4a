"""One session: limits its requests at providers, stores outcomes, ends each request exactly once.

The session alone decides how a request ends and sends that outcome once to each connection that
waits for it. It ignores whatever a provider reports about the request afterwards.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from exai_actors.actors.memory_board import MemoryBoard, SessionMemory
from exai_actors.actors.session.connections import SessionConnections
from exai_actors.actors.session.hand_back import hand_back
from exai_actors.actors.session.local_tools import LocalTools
from exai_actors.actors.session.request_ends import Reply, RequestEnds, api_of
from exai_actors.actors.session.request_log import RequestLog
from exai_actors.actors.session.unread import CHECK_EVERY_S, Unread
from exai_actors.actors.session.view import SessionView
from exai_actors.core import error_bodies
from exai_actors.core.calls import (
    ChatMessage,
    IfBusy,
    Outcome,
    OutcomeKind,
    RelayedResponse,
    ToolResult,
)
from exai_actors.core.relay import RelayRequest
from exai_actors.core.routing import AUTO, fallback_reason
from exai_actors.core.session.pieces import Pieces
from exai_actors.core.session.requests import ActiveRequest, SessionRequests
from exai_actors.core.session.table import name_of
from exai_actors.core.session.window import Window
from exai_actors.core.tools.table import ChatRequest, LocalRequest
from exai_actors.core.wait_reasons import Waiting
from exai_actors.errors import ErrorBody
from exai_actors.ids import (
    ConnectionId,
    ConversationId,
    ProviderName,
    RequestKey,
    SessionId,
    TenantName,
)
from exai_actors.messages.broker import (
    BrokerMessage,
    SessionFinished,
    SessionFinishes,
    SessionRestarted,
)
from exai_actors.messages.connection import Admitted, Disconnect, RequestAccepted, RequestEnded
from exai_actors.messages.provider import (
    ArrangeCall,
    CancelCall,
    ClientReturned,
    PauseStream,
    ProviderMessage,
    ResumeStream,
    RunCall,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import (
    ArrangeRequest,
    Attach,
    Completed,
    DeadlinesDue,
    Detach,
    EndRequest,
    EndSession,
    Enqueued,
    Failed,
    Granted,
    LimitText,
    ProviderDecided,
    ProviderLost,
    Queued,
    Refused,
    Returned,
    SessionMessage,
    ShrinkKept,
    UnreadDue,
)
from exai_actors.messages.session_requests import (
    CancelRequest,
    ReaderFull,
    ReaderReady,
    Submit,
)
from exai_actors.runtime import Cancellable, Down, LoopActor

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.request_board import RequestBoard
    from exai_actors.actors.session.kept import SessionKept
    from exai_actors.actors.session.settings import SessionSettings
    from exai_actors.ports import Clock


class SessionActor(LoopActor):
    """The state of one session. Outlives its connections; ``kept`` outlives its incarnations.

    ``conversation_prefix`` distinguishes the conversation ids generated here from those of all
    other sessions. While it lives, its memory is on ``memory_board``.
    """

    def __init__(
        self,
        session_id: SessionId,
        settings: SessionSettings,
        directory: Directory,
        clock: Clock,
        conversation_prefix: str,
        broker: Recipient[BrokerMessage],
        memory_board: MemoryBoard,
        request_board: RequestBoard,
        kept: SessionKept,
    ) -> None:
        super().__init__()
        self._id = session_id
        self._settings = settings
        self._directory = directory
        self._conversation_prefix = conversation_prefix
        self._broker = broker
        self._finishing = False
        self._is_ending = False
        self._connections = SessionConnections()
        # Of each provider the incarnation that this session watches.
        self._providers: dict[ProviderName, Recipient[ProviderMessage]] = {}
        # The requests that wait for a provider's next incarnation: returned ones and new ones.
        self._awaiting: dict[ProviderName, tuple[list[ActiveRequest], list[ActiveRequest]]] = {}
        self._requests = SessionRequests(
            Window(
                limit=settings.window,
                conversation_limit=settings.conversation_limit,
                queue=settings.queue,
            ),
            kept.outcomes,
            text_limit=settings.request_bytes,
        )
        self._conversations = kept.conversations
        self._kept = kept
        self._unread: Unread | None = None
        self._poison = kept.suspects.poison
        self._startable: list[ActiveRequest] = []
        self._timer: Cancellable | None = None
        self._timer_due = inf
        self._local_tools = LocalTools(directory, clock, settings.tenant)
        self._log = RequestLog(session_id, settings.tenant)
        self._ends = RequestEnds(session_id, settings.tenant, request_board, directory.board)
        self._memory_board = memory_board
        self._memory = SessionMemory(
            session_id,
            settings.tenant,
            self.actor_ref,
            self._requests,
            self._conversations,
        )

    def on_start(self) -> None:
        self._memory_board.sessions.add(self._memory)
        if self.incarnation > 1:
            self._broker.tell_system(SessionRestarted(self._id))

    def on_suspend(self) -> None:
        self._unread = Unread(self._settings.request_timeout_s)
        self._end_expired_unread()

    def on_resume(self) -> None:
        self._unread = None

    def on_stop(self) -> None:
        self._close_pipes()
        self._leave_boards()
        lost = self._lost()
        for active in self._requests.active():
            self._note_end(active, lost)

        def is_dropped(message: object) -> bool:
            if isinstance(message, Submit):
                self._ends.unrouted(message.request, lost, message.options.trace)
            return False

        self.drop_waiting(is_dropped)

    def on_failure(self, *_: object) -> None:
        self._close_pipes()
        self._leave_boards()
        suspects = self._kept.suspects
        for request, outcome in hand_back(
            self._requests, self._connections, suspects, self.unhandled, self.now()
        ):
            if isinstance(request, ActiveRequest):
                self._note_end(request, outcome)
            else:
                self._ends.unrouted(request.request, outcome, request.options.trace)
        self._note_lost()

    def _note_lost(self) -> None:
        """Note the end of the requests that their connections end now; others are sent again."""
        returned = {
            message.request
            for message in self.unhandled
            if isinstance(message, Returned) and message.error is None
        }
        lost = self._lost()
        for active in self._requests.active():
            if active.at_provider and active.run not in returned:
                self._note_end(active, lost)

    def _lost(self) -> Outcome:
        """The outcome that connections send for the requests that this actor leaves behind."""
        error = self._ends.board.cut_off or error_bodies.session_failed()
        return Outcome("failed", error=error)

    def _note_end(self, active: ActiveRequest, outcome: Outcome) -> None:
        """Count and report the end of a request that this session does not answer."""
        self._ends.ended(active, outcome, self.now(), None)

    def _close_pipes(self) -> None:
        for active in self._requests.active():
            if active.pieces is not None:
                active.pieces.close()

    def _leave_boards(self) -> None:
        self._memory_board.sessions.discard(self._memory)
        self._directory.board.forget_session(self._id, self._waiting)

    def on_receive(self, message: SessionMessage | Down[ProviderName]) -> str | None:
        # The two of each call come first: a case takes six times as long as the type.
        if type(message) is Submit:
            self._submit(message)
            return None
        if type(message) is Completed:
            if active := self._requests.find(message.request):
                self._completed(active, message)
            return None
        # In order of frequency: each case costs those after it.
        match message:
            case Granted():
                if active := self._requests.find(message.request):
                    self._connections.granted(active)
            case Enqueued(request=run):
                if active := self._requests.find(run):
                    self._connections.accepted(active)
            case Queued(request=run):
                if active := self._requests.find(run):
                    self._connections.queued(active, message)
            case Failed(request=run, failure=failure, would_wait=would_wait):
                if active := self._requests.find(run):
                    error = error_bodies.provider_failed(active.route.provider, failure)
                    reason = fallback_reason(failure)
                    self._unanswered(
                        active,
                        reason,
                        "failed",
                        error,
                        would_wait=would_wait,
                        reply=message,
                        response=failure.response,
                    )
            case Refused(request=run, error=error, reason=reason, would_wait=would_wait):
                if active := self._requests.find(run):
                    self._unanswered(
                        active, reason, "refused", error, would_wait=would_wait, reply=message
                    )
            case CancelRequest():
                self._cancel(message)
            case Attach(
                connection_id=connection_id, connection=connection, resumed=resumed, resume=resume
            ):
                self._connections.add(connection_id, connection)
                connection.offer(
                    Admitted(
                        name_of(self._id),
                        self.actor_ref,
                        self._settings.tenant,
                        resumed=resumed,
                        resume=resume,
                    )
                )
                if self._is_ending:
                    connection.tell(Disconnect())
            case Detach(connection_id=connection_id):
                self._detach(connection_id)
            case ReaderFull(request=request, connection_id=connection_id):
                if active := self._requests.read_by((connection_id, request)):
                    self._pause(active)
            case ReaderReady(request=request, connection_id=connection_id):
                if active := self._requests.read_by((connection_id, request)):
                    self._resume(active)
            case Returned(request=run, error=error):
                if active := self._requests.find(run):
                    self._returned(active, error)
            case ProviderLost(provider=provider, runs=runs):
                self._provider_lost(provider, runs)
            case ProviderDecided(provider=provider):
                self._provider_decided(provider)
            case DeadlinesDue():
                self._deadlines_due()
            case UnreadDue():
                self._end_expired_unread()
            case ShrinkKept(size=size):
                self._shrink_kept(size)
            case LimitText(is_short=is_short):
                self._requests.text_limit = 0 if is_short else self._settings.request_bytes
            case EndRequest() | ArrangeRequest():
                return self._operate(message)
            case EndSession(reason=reason):
                self._end_all(reason)
            case Down():
                self._provider_down(message.tag)
            case _:
                assert_never(message)
        return None

    def _submit(self, submit: Submit) -> None:
        name, key = submit.request, submit.options.idempotency_key
        arguments, now = submit.arguments, self.now()
        if self._poison and self._kept.suspects.is_poison(hash(arguments), now):
            self._refuse(submit, error_bodies.session_poison())
            return
        if key is not None or self._requests.is_known(name):
            waiter = (submit.connection_id, name)
            known = self._requests.recognise(waiter, hash(arguments), now, key, submit.sink)
            if known is not None:
                error = self._connections.repeated(submit, known)
                if error is not None:
                    self._refuse(submit, error)
                elif isinstance(known, ActiveRequest) and not isinstance(arguments, LocalRequest):
                    if key is not None and known.has_no_other_client:
                        self._extend(known, submit, arguments)
                    if isinstance(arguments, RelayRequest):
                        self._serve(submit, known, arguments)
                return
        names: tuple[RequestKey, ...] = () if name.run else (name,)
        if key is not None:
            names += (key,)
        match arguments:
            case ChatRequest():
                self._accept(submit, names, arguments, now)
            case RelayRequest():
                if not self._joins(submit, arguments):
                    self._accept(submit, names, arguments, now)
            case LocalRequest():
                outcome = self._local_tools.run(name, arguments)
                self._requests.remember(names, hash(arguments), outcome, now)
                options = submit.options
                self._ends.unrouted(name, outcome, options.trace, arguments.tool, options.api)
                self._connections.tell(submit.connection_id, RequestEnded(name, outcome))
            case _:
                assert_never(arguments)

    def _accept(
        self,
        submit: Submit,
        names: tuple[RequestKey, ...],
        arguments: ChatRequest | RelayRequest,
        now: float,
    ) -> None:
        """Take a new request in and start it, unless it has to wait or is refused."""
        model, routing = arguments.model, self._directory.routing
        if type(arguments) is RelayRequest:
            routing = self._directory.by_family[arguments.family]
        conversation = arguments.continuation_id
        if conversation is not None:
            before = self._conversations.find(ConversationId(conversation))
            if before is None:
                error = error_bodies.conversation_unknown(conversation)
                self._refuse(submit, error)
                return
            if routing.is_default(model):
                model = before.model
        route = routing.find(model)
        if route is None:
            error = (
                self._local_tools.family_not_found(arguments)
                if isinstance(arguments, RelayRequest)
                else self._local_tools.model_not_found(None if routing.is_default(model) else model)
            )
            self._refuse(submit, error)
            return
        options = submit.options
        timeout_s = self._settings.request_timeout_s
        if options.deadline_ms is not None or arguments.timeout_s is not None:
            timeout_s = arguments.time_allowed(options, timeout_s)
        if conversation is None:
            self._kept.generated += 1
            conversation = f"{self._conversation_prefix}-{self._kept.generated}"
        waiter = (submit.connection_id, submit.request)
        run = self._requests.next_run(submit.request)
        pieces = None
        if arguments.stream if options.stream is None else options.stream:
            pieces = Pieces({} if submit.sink is None else {waiter: submit.sink})
        active = ActiveRequest(
            run=run,
            number=run.run,
            names=names,
            arguments=arguments,
            options=options,
            route=route,
            conversation=ConversationId(conversation),
            waiters=[waiter],
            deadline=now + timeout_s,
            timeout_s=timeout_s,
            pieces=pieces,
        )
        if self._ends.is_observed:
            self._ends.began(active)
        if active.deadline < self._timer_due:
            self._set_timer(active.deadline)
        match self._requests.accept(active):
            case "started":
                self._start(active)
            case "full":
                error = error_bodies.session_full(
                    self._requests.waiting, self._requests.wait_reason(active)
                )
                self._refuse(submit, error)
            case "too much text":
                error = error_bodies.session_text_limit(is_short=self._requests.text_limit == 0)
                self._refuse(submit, error)
            case "waiting":
                self._waits_here(submit, active)

    def _joins(self, submit: Submit, arguments: RelayRequest) -> bool:
        """Let a request have the response to an equal one, whose client has left."""
        active = self._requests.deserted(arguments)
        if active is None:
            return False
        active.join((submit.connection_id, submit.request), submit.sink)
        self._extend(active, submit, arguments)
        self._connections.repeated(submit, active)
        self._serve(submit, active, arguments)
        return True

    def _extend(
        self, active: ActiveRequest, submit: Submit, arguments: ChatRequest | RelayRequest
    ) -> None:
        """Give a request that nobody else waits for the time that its repeat allows itself."""
        timeout_s = arguments.time_allowed(submit.options, self._settings.request_timeout_s)
        if self.now() + timeout_s > active.deadline:
            active.deadline, active.timeout_s = self.now() + timeout_s, timeout_s
            self._tell_returned(active)

    def _tell_returned(self, active: ActiveRequest) -> None:
        """Tell the provider that a request's client is back, and until when the request may wait.

        It may have been passed over while its client was away.
        """
        provider = self._providers.get(active.route.provider)
        if active.at_provider and provider is not None:
            provider.tell(ClientReturned(active.run, self._id, active.deadline))

    def _serve(self, submit: Submit, active: ActiveRequest, arguments: RelayRequest) -> None:
        """Give the readers of a repeat the response to the request that it repeats."""
        known = active.arguments
        if not isinstance(known, RelayRequest) or known is arguments:
            return
        if known.pipe.may_join():
            known.pipe.take_in(arguments.pipe)
            self._tell_returned(active)
        else:
            active.leave((submit.connection_id, submit.request))
            self._refuse(submit, error_bodies.repeated_too_late())

    def _waits_here(self, submit: Submit, active: ActiveRequest) -> None:
        # Most sessions never let a request wait, and cost the board nothing.
        self._directory.board.register_session(self._id, self._settings.tenant, self._waiting)
        if submit.options.if_busy is IfBusy.REFUSE:
            reason = self._requests.wait_reason(active)
            self._requests.abandon(active)
            self._refuse(submit, error_bodies.session_would_wait(reason))
        elif submit.options.reports_progress:
            accepted = RequestAccepted(submit.request, self._requests.wait_reason(active))
            self._connections.tell(submit.connection_id, accepted)

    def _waiting(self) -> int:
        return self._requests.waiting

    @property
    def session_id(self) -> SessionId:
        return self._id

    @property
    def tenant(self) -> TenantName:
        return self._settings.tenant

    @property
    def connections(self) -> SessionConnections:
        return self._connections

    @property
    def lets_wait(self) -> bool:
        """Whether requests wait here: for room, their conversation, or a provider's return."""
        return bool(self._requests.waiting or self._awaiting)

    @property
    def active(self) -> int:
        """The number of requests without an outcome."""
        return len(self._requests)

    def find_named(self, name: RequestKey) -> ActiveRequest | None:
        """The request in flight that clients know by this name."""
        return self._requests.find_named(name)

    @property
    def view(self) -> SessionView:
        """This session as consoles see it, for readers on the loop thread."""
        return SessionView(
            path=self.path,
            session_id=self._id,
            settings=self._settings,
            requests=self._requests,
            conversations=self._conversations,
            connections=self._connections,
        )

    def _refuse(self, submit: Submit, error: ErrorBody) -> None:
        self._log.refused(submit.request, error, self.now())
        outcome = Outcome("refused", error=error)
        api = api_of(submit.arguments, submit.options)
        self._ends.unrouted(submit.request, outcome, submit.options.trace, api=api)
        self._connections.tell(submit.connection_id, RequestEnded(submit.request, outcome))

    def _start(self, active: ActiveRequest) -> None:
        """Send the request to the present target of its route."""
        route, arguments = active.route, active.arguments
        history: tuple[ChatMessage, ...] = ()
        system_prompt = self._settings.system_prompt
        if arguments.continuation_id is not None:
            # While the request waited, an earlier turn may have ended, and newer conversations
            # may have taken the place of this one.
            before = active.before or self._conversations.find(active.conversation)
            if before is None:
                error = error_bodies.conversation_unknown(active.conversation)
                self._end(active, Outcome("refused", error=error))
                return
            active.before = before
            history = before.history
            system_prompt = before.system or system_prompt
        run = RunCall(
            request=active.run,
            session=self._id,
            call=arguments.to_upstream(
                route.model, system_prompt, history, active.pieces is not None
            ),
            options=(
                active.options
                if active.span is None
                else replace(active.options, trace=active.span.context)
            ),
            reply_to=self.actor_ref,
            deadline=active.deadline,
            tenant=self._settings.tenant,
            fallback_reasons=route.fallback_reasons,
            pieces=active.pieces,
        )
        provider = self._providers.get(route.provider) or self._watch_provider(route.provider)
        if provider is None:
            # It has failed, and is being started again, unless it is closed.
            self._await_provider(active, returned=False)
            return
        # Before it is sent: whatever fails from here on, it is not sent twice.
        active.at_provider = True
        if provider.offer(run) != "accepted":
            active.at_provider = False
            error = error_bodies.provider_unreachable(route.provider)
            self._unanswered(active, "unreachable", "refused", error)

    def _watch_provider(self, name: ProviderName) -> Recipient[ProviderMessage] | None:
        """Watch the provider's present incarnation, if there is one."""
        found = self._directory.providers[name].resolve()
        if found is not None:
            self._providers[name] = found
            self.watch(found, name)
        return found

    def _completed(self, active: ActiveRequest, reply: Completed) -> None:
        arguments, completion = active.arguments, reply.completion
        if type(arguments) is RelayRequest:
            self._relayed(active, arguments, reply)
            return
        model, system = arguments.model, ""
        if model is None or model == AUTO:
            model = self._model_of(active)
        if active.before is not None:
            system = active.before.system
        more = arguments.more
        if more is not None:
            system = more.system or system
        dropped: int | None = None
        # A client that sends messages keeps its conversation itself, as does one that calls tools:
        # their results are messages.
        if (more is None or not more.messages) and not completion.tool_calls:
            dropped = self._conversations.add(
                active.conversation,
                (
                    ("user", arguments.prompt, arguments.images, b""),
                    ("assistant", completion.text, (), b""),
                ),
                active.before,
                model,
                system,
            )
        result = ToolResult(
            outputs=(completion.text,),
            continuation_id=None if dropped is None else active.conversation,
            model=completion.model,
            provider=active.route.provider,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            reasoning=completion.reasoning,
            dropped_turns=dropped or 0,
            tool_calls=completion.tool_calls,
        )
        self._end(active, Outcome("completed", result), reply)

    def _relayed(self, active: ActiveRequest, arguments: RelayRequest, reply: Completed) -> None:
        completion = reply.completion
        result = ToolResult(
            outputs=(),
            model=completion.model,
            provider=active.route.provider,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
        )
        response = arguments.pipe.recorded() if active.names else None
        self._end(active, Outcome("completed", result, response=response), reply)

    def _model_of(self, active: ActiveRequest) -> str:
        """The name that stands for the model of a request without one, or with AUTO."""
        routing, model = self._directory.routing, active.arguments.model
        if not routing.is_default(model):
            return AUTO
        if active.before is not None:
            return active.before.model
        return routing.default_model or active.route.model

    def _unanswered(
        self,
        active: ActiveRequest,
        reason: str | None,
        kind: OutcomeKind,
        error: ErrorBody,
        *,
        would_wait: bool = False,
        reply: Reply | None = None,
        response: RelayedResponse | None = None,
    ) -> None:
        """Start the request at the next target of its route, or end it if there is none."""
        failed = active.route
        if active.try_next_target(reason, error, would_wait=would_wait):
            self._log.rerouted(failed, active, error, self.now())
            active.attempts += 0 if reply is None else reply.attempts
            self._requests.run_again(active)
            self._start_all([active])
        else:
            error = error_bodies.with_tried_targets(error, active.tried)
            outcome = Outcome(kind, error=error, response=response)
            self._log.failed(active, outcome, self.now())
            self._end(active, outcome, reply)

    def _end(self, active: ActiveRequest, outcome: Outcome, reply: Reply | None = None) -> None:
        """Send the outcome to all waiters, and start the requests that waited for the room."""
        now = self.now()
        startable = self._requests.end(active, outcome, now)
        self._ends.ended(active, outcome, now, reply)
        # A name is kept with the outcome anyway, a run would be kept for this alone.
        request = active.names[0] if active.names else active.run
        self._local_tools.note_end(request, "chat", outcome.kind)
        self._connections.ended(active, outcome)
        if startable:
            self._start_all(startable)
        if self._finishing and not self._requests.active():
            self._finishing = False
            self._broker.tell(SessionFinished(self._id))

    def _start_all(self, startable: list[ActiveRequest]) -> None:
        # A start that fails ends its request and comes back here: a loop instead of a recursion.
        looping = bool(self._startable)
        self._startable.extend(startable)
        while self._startable and not looping:
            self._start(self._startable[0])
            del self._startable[0]

    def _cancel(self, message: CancelRequest) -> None:
        waiter = (message.connection_id, message.request)
        active = self._requests.find_named(message.request) or self._requests.awaited_by(waiter)
        if active is None:
            return
        outcome = Outcome("cancelled", error=error_bodies.cancelled())
        if active.waiters in ([waiter], []):
            self._withdraw(active)
            self._end(active, outcome)
        elif waiter in active.waiters:
            active.leave(waiter)
            self._connections.tell(message.connection_id, RequestEnded(message.request, outcome))
            self._resume_unread()

    def _operate(self, message: EndRequest | ArrangeRequest) -> str | None:
        """Do an operator's will to one request; return why it cannot be done."""
        active = self._requests.numbered(message.number)
        if active is None:
            return "it has ended"
        match message:
            case EndRequest(reason=reason):
                self._end_for_operator(active, reason)
            case ArrangeRequest(how=how):
                provider = self._providers.get(active.route.provider)
                if not active.at_provider or provider is None:
                    return "it waits in its session, not at a provider"
                provider.tell(ArrangeCall(active.run, self._id, how))
            case _:
                assert_never(message)
        return None

    def _end_for_operator(self, active: ActiveRequest, reason: str) -> None:
        self._withdraw(active)
        self._end(active, Outcome("cancelled", error=error_bodies.ended_by_operator(reason)))

    def _end_all(self, reason: str) -> None:
        # The latest first, so that none starts in the place of an earlier one.
        for active in reversed(self._requests.active()):
            if self._is_active(active):
                self._end_for_operator(active, reason)
        self._connections.disconnect()
        # The notice of this actor's end would overtake the outcomes on their way to connections.
        self._is_ending = True
        if not self._connections:
            self.stop()

    def _detach(self, connection_id: ConnectionId) -> None:
        self._connections.remove(connection_id)
        if self._is_ending and not self._connections:
            self.stop()
        startable: list[ActiveRequest] = []
        for active in self._requests.leave(connection_id):
            finishes = active.route.provider in self._directory.finish_on_disconnect
            if finishes and active.names:
                if isinstance(active.arguments, RelayRequest):
                    active.arguments.pipe.presence.is_away = False
                    self._tell_returned(active)
            else:
                self._withdraw(active)
                startable += self._requests.abandon(active)
                cut_off = self._ends.board.cut_off
                self._note_end(
                    active,
                    Outcome("cancelled", error=error_bodies.cancelled())
                    if cut_off is None
                    else Outcome("failed", error=cut_off),
                )
        self._resume_unread()
        # A deserted request may have made room for another that is deserted as well.
        self._start_all([active for active in startable if self._is_active(active)])
        if not self._connections and self._requests.active():
            self._finishing = True
            self._broker.tell(SessionFinishes(self._id))

    def _is_active(self, active: ActiveRequest) -> bool:
        return self._requests.find(active.run) is active

    def _withdraw(self, active: ActiveRequest) -> None:
        """Tell the provider that the outcome is not needed."""
        provider = self._providers.get(active.route.provider)
        if active.at_provider and provider is not None:
            provider.tell(CancelCall(active.run, self._id))

    def _pause(self, active: ActiveRequest) -> None:
        """Let the provider pause a stream whose reader is far behind."""
        provider = self._providers.get(active.route.provider)
        if active.pieces is not None and provider is not None:
            active.pieces.is_full = True
            provider.tell(PauseStream(active.run, self._id))

    def _resume(self, active: ActiveRequest) -> None:
        provider = self._providers.get(active.route.provider)
        if active.pieces is not None and provider is not None:
            active.pieces.is_full = False
            provider.tell(ResumeStream(active.run, self._id))

    def _resume_unread(self) -> None:
        """Resume the streams that are paused for a reader that has left."""
        for active in self._requests.full():
            if active.pieces is not None and active.pieces.reader is None:
                self._resume(active)

    def _deadlines_due(self) -> None:
        self._timer_due = inf
        for active in self._requests.overdue(self.now()):
            # The end of an earlier one may have started and ended this one.
            if self._is_active(active):
                error = error_bodies.with_tried_targets(self._expired(active), active.tried)
                self._withdraw(active)
                outcome = Outcome("expired", error=error)
                self._log.failed(active, outcome, self.now())
                self._end(active, outcome)
        following = self._requests.next_deadline()
        if following is not None:
            self._set_timer(following)

    def _end_expired_unread(self) -> None:
        """End the requests whose time is over in the mailbox, while this actor is suspended."""
        unread, now = self._unread, self.now()
        if unread is None:
            return

        def is_expired(message: object) -> bool:
            if not isinstance(message, Submit):
                return False
            allowed_s = unread.expired(message, now)
            if allowed_s is not None:
                self._refuse(message, error_bodies.expired_unread(allowed_s))
            return allowed_s is not None

        self.drop_waiting(is_expired)
        self.schedule(CHECK_EVERY_S, UnreadDue())

    def _expired(self, active: ActiveRequest) -> ErrorBody:
        """The error of an overdue request, with the reason of its wait until now."""
        provider = active.route.provider
        if active.at_provider and provider in self._providers:
            waiting = self._directory.board.waiting(provider, self._id, active.run)
        else:
            waiting = Waiting(None, self._requests.wait_reason(active))
        return error_bodies.expired("chat", active.timeout_s, waiting, self.now(), provider)

    def _provider_down(self, provider: ProviderName) -> None:
        del self._providers[provider]
        runs = tuple(active.run for active in self._requests.at(provider))
        if runs:
            self.actor_ref.tell(ProviderLost(provider, runs))

    def _provider_lost(self, provider: ProviderName, runs: tuple[RequestKey, ...]) -> None:
        for run in runs:
            if active := self._requests.find(run):
                error = error_bodies.provider_restarted(provider)
                self._unanswered(active, "unreachable", "failed", error)

    def _returned(self, active: ActiveRequest, error: ErrorBody | None) -> None:
        if error is not None:
            error = error_bodies.with_tried_targets(error, active.tried)
            self._end(active, Outcome("failed", error=error))
            return
        active.at_provider = False
        # Late replies of the incarnation that failed must match nothing.
        self._requests.run_again(active)
        self._await_provider(active, returned=True)

    def _await_provider(self, active: ActiveRequest, *, returned: bool) -> None:
        """Start a request when its provider has an actor again, returned ones before new ones."""
        provider = active.route.provider
        if provider not in self._awaiting:
            self._awaiting[provider] = ([], [])
            self._directory.awaited.wait(provider, self.actor_ref)
        self._awaiting[provider][0 if returned else 1].append(active)

    def _provider_decided(self, provider: ProviderName) -> None:
        returned, fresh = self._awaiting.pop(provider, ([], []))
        startable = [each for each in returned + fresh if self._is_active(each)]
        if provider in self._providers or self._watch_provider(provider) is not None:
            self._start_all(startable)
            return
        for active in startable:
            if self._is_active(active):
                error = error_bodies.provider_unreachable(provider)
                self._unanswered(active, "unreachable", "refused", error)

    def _shrink_kept(self, size: int) -> None:
        """Drop outcomes first: a conversation cannot be repeated."""
        histories = self._conversations.kept_bytes
        self._requests.shrink_kept(max(0, size - histories))
        self._conversations.shrink(size)

    def _set_timer(self, instant: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = instant
        self._timer = self.schedule(max(0.0, instant - self.now()), DeadlinesDue())
