"""One conversation of a client: counts its window, keeps its outcomes, ends each request once.

The session alone decides how a request ends, and tells everyone who asked for it exactly once;
whatever a provider says of a request after that is not heard any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, assert_never

from exai_actors.actors.session.connections import SessionConnections
from exai_actors.actors.session.local_tools import LocalTools
from exai_actors.actors.session.providers import SessionProviders
from exai_actors.core import error_bodies
from exai_actors.core.calls import (
    ChatMessage,
    Completion,
    IfBusy,
    Outcome,
    OutcomeKind,
    ToolResult,
)
from exai_actors.core.routing import fallback_reason
from exai_actors.core.session.conversations import Conversations
from exai_actors.core.session.outcomes import OutcomeStore
from exai_actors.core.session.requests import ActiveRequest, Repeat, SessionRequests
from exai_actors.core.session.table import name_of
from exai_actors.core.session.window import EnterResult, Window
from exai_actors.core.tools.table import ChatRequest
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId, ConversationId, ProviderName, RequestKey, SessionId
from exai_actors.messages.broker import BrokerMessage, SessionFinished, SessionFinishes
from exai_actors.messages.connection import Admitted, RequestAccepted, RequestEnded
from exai_actors.messages.provider import ProviderMessage, RunCall
from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.messages.session import (
    Attach,
    Chunk,
    Completed,
    DeadlinesDue,
    Detach,
    Enqueued,
    Failed,
    Granted,
    Queued,
    Refused,
    SessionMessage,
)
from exai_actors.messages.session_requests import (
    CancelRequest,
    PauseStreams,
    ResumeStreams,
    Submit,
)
from exai_actors.runtime import Cancellable, Down, LoopActor

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.settings import SessionSettings
    from exai_actors.ports import Clock

# Looking a member up on its Enum costs as much as a handler's step.
_ACCEPTED = Offer.ACCEPTED
_STARTED = EnterResult.STARTED
_FULL = EnterResult.FULL
_TOO_MUCH_TEXT = EnterResult.TOO_MUCH_TEXT
_COMPLETED = OutcomeKind.COMPLETED


class SessionActor(LoopActor):
    """``conversation_prefix`` makes the conversation ids minted here unlike any other session's."""

    def __init__(
        self,
        session_id: SessionId,
        settings: SessionSettings,
        directory: Directory,
        clock: Clock,
        conversation_prefix: str,
        broker: Recipient[BrokerMessage],
    ) -> None:
        super().__init__()
        self._now = self.system.driver.now
        self._me = self.actor_ref
        self._id = session_id
        self._tenant = settings.tenant
        self._timeout_s = settings.request_timeout_s
        self._system_prompt = settings.system_prompt
        self._directory = directory
        self._clock = clock
        self._prefix = conversation_prefix
        self._broker = broker
        # Whether the broker was told that this works on though no connection is left.
        self._finishing = False
        self._minted = 0
        self._clients = SessionConnections()
        self._providers = SessionProviders(session_id, directory)
        self._requests = SessionRequests(
            Window(settings.window, settings.conversation_limit, settings.queue),
            OutcomeStore(settings.outcome_count, settings.outcome_size, settings.outcome_ttl_s),
            settings.request_size,
        )
        self._conversations = Conversations(
            settings.conversations, settings.history_turns, settings.history_size
        )
        self._startable: deque[ActiveRequest] = deque()
        self._timer: Cancellable | None = None
        self._armed_for = inf
        self._answers = LocalTools(directory, clock)

    def on_receive(self, message: SessionMessage | Down) -> None:
        # In order of frequency: each case costs those after it.
        match message:
            case Submit():
                self._submit(message)
            case Completed():
                if active := self._requests.find(message.request):
                    self._completed(active, message.completion)
            case Granted():
                if active := self._requests.find(message.request):
                    self._clients.granted(active)
            case Chunk(request, text):
                if active := self._requests.find(request):
                    self._clients.piece(active, text)
            case Enqueued(request):
                if active := self._requests.find(request):
                    self._clients.accepted(active)
            case Queued(request, position, estimate_s):
                if active := self._requests.find(request):
                    self._clients.queued(active, position, estimate_s)
            case Failed(request, failure):
                if active := self._requests.find(request):
                    error = error_bodies.provider_failed(active.route.provider, failure)
                    self._went_wrong(active, fallback_reason(failure), OutcomeKind.FAILED, error)
            case Refused(request, error, reason):
                if active := self._requests.find(request):
                    self._went_wrong(active, reason, OutcomeKind.REFUSED, error)
            case CancelRequest():
                self._cancel(message)
            case Attach(connection_id, connection):
                self._clients.connections[connection_id] = connection
                connection.tell(Admitted(name_of(self._id), self.actor_ref))
            case Detach():
                self._detach(message.connection_id)
            case PauseStreams():
                self._clients.behind.add(message.connection_id)
                self._steer(self._requests.read_by(message.connection_id))
            case ResumeStreams():
                self._clients.behind.discard(message.connection_id)
                self._steer(self._requests.read_by(message.connection_id))
            case DeadlinesDue():
                self._deadlines_due()
            case Down():
                self._provider_down(ProviderName(str(message.tag)))
            case _:
                assert_never(message)

    def _submit(self, submit: Submit) -> None:
        clock, request, key = self._now, submit.request, submit.idempotency_key
        now = clock()
        names: tuple[RequestKey, ...] = ()
        if key is not None or self._requests.is_known(request):
            waiter = (submit.connection_id, request)
            known = self._requests.recognise(waiter, submit.fingerprint, now, key)
            if known is not None and known is not Repeat.BEGUN_BEFORE:
                joined = self._requests.find_named(request, key)
                self._clients.repeated(submit, known, joined)
                self._steer(self._requests.read_by(submit.connection_id))
                return
            if known is Repeat.BEGUN_BEFORE:
                names = (request,)
                request = self._requests.next_run(request)
            if key is not None:
                names += (key,)
        call = submit.call
        if isinstance(call, ChatRequest):
            self._accept(submit, request, names, call, now)
            return
        outcome = self._answers.run(submit.request, call)
        if submit.request.is_repeatable:
            names = (submit.request, *names)
        self._requests.remember(names, submit.fingerprint, outcome, now)
        self._clients.tell(submit.connection_id, RequestEnded(submit.request, outcome))

    def _accept(
        self,
        submit: Submit,
        request: RequestKey,
        names: tuple[RequestKey, ...],
        call: ChatRequest,
        now: float,
    ) -> None:
        """Take a new request in; ``request`` is what its provider is to know it by."""
        route = self._directory.routing.find(call.model)
        if route is None:
            self._clients.refuse(submit, self._answers.model_not_found(call.model))
            return
        timeout_s = self._timeout_s
        if submit.deadline_ms is not None:
            timeout_s = submit.deadline_ms / 1000
        if call.timeout_s is not None:
            timeout_s = min(timeout_s, call.timeout_s)
        conversation = call.continuation_id
        if conversation is None:
            self._minted = minted = self._minted + 1
            conversation = f"{self._prefix}-{minted}"
        deadline = now + timeout_s
        waiter = (submit.connection_id, submit.request)
        active = ActiveRequest(
            request,
            call,
            submit.fingerprint,
            route,
            ConversationId(conversation),
            [waiter],
            waiter,
            deadline,
            timeout_s,
            submit.stream,
            submit.reports_progress,
            submit.priority,
            submit.if_busy,
            names,
        )
        if deadline < self._armed_for:
            self._arm(deadline)
        entry = self._requests.accept(active)
        if entry is _STARTED:
            self._start(active)
        elif entry is _FULL:
            self._clients.refuse(submit, error_bodies.session_full(self._requests.waiting))
        elif entry is _TOO_MUCH_TEXT:
            self._clients.refuse(submit, error_bodies.session_text_limit())
        elif submit.if_busy is IfBusy.REFUSE:
            self._requests.abandon(active, now)
            self._clients.refuse(submit, error_bodies.session_would_wait())
        elif submit.reports_progress:
            self._clients.tell(submit.connection_id, RequestAccepted(submit.request))

    def _start(self, active: ActiveRequest) -> None:
        route = active.route
        asked = active.call
        call = asked.to_upstream(
            route.model,
            self._system_prompt,
            self._conversations.history(active.conversation) if asked.continuation_id else (),
            active.stream,
        )
        want = RunCall(
            active.request,
            self._id,
            call,
            active.reports_progress,
            self._me,
            active.priority,
            active.deadline,
            self._tenant,
            active.if_busy,
            route.fallback_reasons,
        )
        name = route.provider
        provider = self._providers.known.get(name) or self._find_provider(name)
        if provider is None or provider.offer(want) is not _ACCEPTED:
            error = error_bodies.provider_unreachable(name)
            self._went_wrong(active, "unreachable", OutcomeKind.REFUSED, error)
            return
        active.at_provider = True
        if self._clients.behind:
            self._steer((active,))

    def _find_provider(self, name: ProviderName) -> Recipient[ProviderMessage] | None:
        found = self._providers.find(name)
        if found is not None:
            self.watch(found, name)
        return found

    def _completed(self, active: ActiveRequest, completion: Completion) -> None:
        call = active.call
        self._conversations.add(
            active.conversation,
            ChatMessage("user", call.prompt, call.images),
            ChatMessage("assistant", completion.text),
        )
        result = ToolResult(
            (completion.text,),
            active.conversation,
            completion.model,
            active.route.provider,
            completion.finish_reason,
            completion.usage,
            completion.reasoning,
        )
        self._end(active, Outcome(_COMPLETED, result))

    def _went_wrong(
        self, active: ActiveRequest, reason: str | None, kind: OutcomeKind, error: ErrorBody
    ) -> None:
        """Go on at the next target of the request's route, or else end it."""
        if active.move_on(reason, error):
            self._requests.run_again(active)
            self._start_all([active])
        else:
            self._end(
                active, Outcome(kind, error=error_bodies.with_tried_targets(error, active.tried))
            )

    def _end(self, active: ActiveRequest, outcome: Outcome) -> None:
        """Give the one outcome to everyone who asked, and start what waited for the room."""
        clock = self._now
        startable = self._requests.end(active, outcome, clock())
        self._answers.events.append((self._clock.wall(), active.request, "chat", outcome.kind))
        self._clients.ended(active, outcome)
        if startable:
            self._start_all(startable)
        if self._finishing and not self._requests.active():
            self._finishing = False
            self._broker.tell(SessionFinished(self._id))

    def _start_all(self, startable: list[ActiveRequest]) -> None:
        # A start that goes wrong ends its request and comes back here: a loop, not a recursion.
        looping = bool(self._startable)
        self._startable.extend(startable)
        while self._startable and not looping:
            self._start(self._startable[0])
            self._startable.popleft()

    def _cancel(self, message: CancelRequest) -> None:
        active = self._requests.find_named(message.request)
        if active is None:
            return
        waiter = (message.connection_id, message.request)
        outcome = Outcome(OutcomeKind.CANCELLED, error=error_bodies.cancelled())
        if active.waiters in ([waiter], []):
            self._providers.withdraw(active)
            self._end(active, outcome)
        elif waiter in active.waiters:
            was_reader = active.reader == waiter
            active.leave(waiter)
            self._clients.tell(message.connection_id, RequestEnded(message.request, outcome))
            if was_reader:
                self._steer((active,))

    def _detach(self, connection_id: ConnectionId) -> None:
        self._clients.remove(connection_id)
        startable: list[ActiveRequest] = []
        had_read = self._requests.read_by(connection_id)
        for active in self._requests.leave(connection_id):
            kept = (
                active.route.provider in self._directory.finish_on_disconnect
                and active.can_be_collected
            )
            if not kept:
                self._providers.withdraw(active)
                startable += self._requests.abandon(active, self._now())
        self._steer(active for active in had_read if self._requests.find(active.request) is active)
        # One deserted request may have made room for another that is deserted as well.
        self._start_all([each for each in startable if self._requests.find(each.request) is each])
        if not self._clients.connections and self._requests.active():
            self._finishing = True
            self._broker.tell(SessionFinishes(self._id))

    def _steer(self, streams: Iterable[ActiveRequest]) -> None:
        self._providers.steer(streams, self._clients.is_read)

    def _deadlines_due(self) -> None:
        self._armed_for = inf
        for active in self._requests.overdue(self._now()):
            # The end of one lets another start, which may be refused and end before its turn here.
            if self._requests.find(active.request) is active:
                self._providers.withdraw(active)
                error = error_bodies.with_tried_targets(
                    error_bodies.expired("chat", active.timeout_s), active.tried
                )
                self._end(active, Outcome(OutcomeKind.EXPIRED, error=error))
        following = self._requests.next_deadline()
        if following is not None:
            self._arm(following)

    def _provider_down(self, provider: ProviderName) -> None:
        self._providers.forget(provider)
        for active in self._requests.at(provider):
            error = error_bodies.provider_restarted(provider)
            self._went_wrong(active, "unreachable", OutcomeKind.FAILED, error)

    def _arm(self, instant: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = instant
        self._timer = self.schedule(max(0.0, instant - self._now()), DeadlinesDue())
