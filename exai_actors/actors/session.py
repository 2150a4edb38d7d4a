"""One conversation of a client: counts its window, keeps its outcomes, ends each request once.

The session alone decides how a request ends, and tells everyone who asked for it exactly once;
whatever a provider says of a request after that is not heard any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, assert_never

from exai_actors.core import failures
from exai_actors.core.calls import ChatMessage, Completion, Outcome, OutcomeKind, ToolResult
from exai_actors.core.conversations import Conversations
from exai_actors.core.local_tools import Event, answer
from exai_actors.core.outcomes import OutcomeStore
from exai_actors.core.session_requests import ActiveRequest, Repeat, SessionRequests
from exai_actors.core.tools import ChatRequest, LocalRequest
from exai_actors.core.window import Entry, Window
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId, ConversationId, ProviderName, RequestKey, SessionId
from exai_actors.messages.connection import (
    Admitted,
    ConnectionMessage,
    RequestAccepted,
    RequestChunk,
    RequestEnded,
    RequestGranted,
    RequestQueued,
)
from exai_actors.messages.provider import (
    CancelWant,
    PauseStream,
    ProviderMessage,
    ResumeStream,
    Want,
)
from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.messages.session import (
    Attach,
    CancelRequest,
    Chunk,
    Completed,
    DeadlinesDue,
    Detach,
    Enqueued,
    Failed,
    Granted,
    PauseStreams,
    Queued,
    RareSessionMessage,
    Refused,
    ResumeStreams,
    SessionMessage,
    Submit,
)
from exai_actors.runtime import Cancellable, Down, LoopActor

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.settings import SessionSettings
    from exai_actors.ports import Clock

EVENTS_KEPT = 50


class SessionActor(LoopActor):
    """``conversation_prefix`` makes the conversation ids minted here unlike any other session's."""

    def __init__(
        self,
        session_id: SessionId,
        settings: SessionSettings,
        directory: Directory,
        clock: Clock,
        conversation_prefix: str,
    ) -> None:
        super().__init__()
        self._now = self.system.driver.now
        self._me = self.actor_ref
        self._id = session_id
        self._settings = settings
        self._timeout_s = settings.request_timeout_s
        self._system_prompt = settings.system_prompt
        self._directory = directory
        self._clock = clock
        self._prefix = conversation_prefix
        self._minted = 0
        self._connections: dict[ConnectionId, Recipient[ConnectionMessage]] = {}
        self._paused: set[ConnectionId] = set()
        self._requests = SessionRequests(
            Window(settings.window, settings.conversation_limit, settings.queue),
            OutcomeStore(settings.outcome_count, settings.outcome_size, settings.outcome_ttl_s),
        )
        self._conversations = Conversations(
            settings.conversations, settings.history_turns, settings.history_size
        )
        self._startable: deque[ActiveRequest] = deque()
        self._timer: Cancellable | None = None
        self._armed_for = inf
        self._providers: dict[ProviderName, Recipient[ProviderMessage]] = {}
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)

    def on_receive(self, message: SessionMessage | Down) -> None:
        # The three of every call come first: each case of a match costs those behind it.
        if type(message) is Submit:
            self._submit(message)
        elif type(message) is Completed:
            self._completed(message.request, message.completion)
        elif type(message) is Granted:
            self._report(message.request, RequestGranted(message.request))
        else:
            self._rare(message)

    def _rare(self, message: RareSessionMessage | Down) -> None:
        match message:
            case Chunk():
                self._chunk(message)
            case Enqueued(request):
                self._report(request, RequestAccepted(request))
            case Queued(request, position, estimate_s):
                self._report(request, RequestQueued(request, position, estimate_s))
            case Failed():
                if active := self._requests.find(message.request):
                    error = failures.provider_failed(active.route.provider, message.failure)
                    self._end(active, Outcome(OutcomeKind.FAILED, error=error))
            case Refused():
                if active := self._requests.find(message.request):
                    self._end(active, Outcome(OutcomeKind.REFUSED, error=message.error))
            case CancelRequest():
                self._cancel(message)
            case Attach():
                self._connections[message.connection_id] = message.connection
                message.connection.tell(Admitted(self._id, self.actor_ref))
            case Detach():
                self._detach(message.connection_id)
            case PauseStreams():
                self._paused.add(message.connection_id)
                self._steer_streams(self._requests.read_by(message.connection_id))
            case ResumeStreams():
                self._paused.discard(message.connection_id)
                self._steer_streams(self._requests.read_by(message.connection_id))
            case DeadlinesDue():
                self._deadlines_due()
            case Down():
                self._provider_down(ProviderName(str(message.tag)))
            case _:
                assert_never(message)

    def _submit(self, submit: Submit) -> None:
        now, request, call = self._now(), submit.request, submit.call
        if submit.repeatable and self._requests.is_known(request):
            known = self._requests.recognise(request, submit.fingerprint, submit.connection_id, now)
            if known is not None:
                self._repeat(submit, known)
                return
        if isinstance(call, ChatRequest):
            self._accept(submit, call, now)
        else:
            self._answer(submit, call, now)

    def _repeat(self, submit: Submit, known: Repeat | Outcome) -> None:
        match known:
            case Repeat.OTHER_CALL:
                self._refuse(submit, failures.id_reused())
            case Repeat.IN_FLIGHT:
                if submit.reports_progress:
                    self._tell(submit.connection_id, RequestAccepted(submit.request))
            case Outcome() as outcome:
                self._tell(submit.connection_id, RequestEnded(submit.request, outcome))
            case _:
                assert_never(known)

    def _answer(self, submit: Submit, local: LocalRequest, now: float) -> None:
        result = answer(local, self._directory.routing, self._directory.statistics(), self._events)
        outcome = Outcome(OutcomeKind.COMPLETED, result)
        self._note(submit.request, local.tool, outcome)
        if submit.repeatable:
            self._requests.remember(submit.request, submit.fingerprint, outcome, now)
        self._tell(submit.connection_id, RequestEnded(submit.request, outcome))

    def _accept(self, submit: Submit, call: ChatRequest, now: float) -> None:
        route = self._directory.routing.find(call.model)
        if route is None:
            self._refuse(submit, self._model_not_found(call.model))
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
        active = ActiveRequest(
            submit.request,
            call,
            submit.fingerprint,
            route,
            ConversationId(conversation),
            [submit.connection_id],
            submit.connection_id,
            deadline,
            timeout_s,
            submit.repeatable,
            submit.stream,
            submit.reports_progress,
            submit.priority,
        )
        entry = self._requests.accept(active)
        if entry is Entry.FULL:
            self._refuse(submit, failures.session_full(self._requests.waiting))
            return
        if deadline < self._armed_for:
            self._arm(deadline)
        if entry is Entry.STARTED:
            self._start(active)
        elif submit.reports_progress:
            self._tell(submit.connection_id, RequestAccepted(submit.request))

    def _model_not_found(self, model: str | None) -> ErrorBody:
        troubles = [
            f"{provider.name}: {provider.trouble}"
            for provider in self._directory.statistics().providers
            if provider.trouble is not None
        ]
        return failures.model_not_found(model, self._directory.routing.models(), troubles)

    def _start(self, active: ActiveRequest) -> None:
        route = active.route
        asked = active.call
        call = asked.to_upstream(
            route.model,
            self._system_prompt,
            self._conversations.history(active.conversation) if asked.continuation_id else (),
            active.stream,
        )
        want = Want(
            active.request, self._id, call, active.reports_progress, self._me, active.priority
        )
        provider = self._providers.get(route.provider) or self._find_provider(route.provider)
        if provider is None or provider.offer(want) is not Offer.ACCEPTED:
            error = failures.provider_unreachable(route.provider)
            self._end(active, Outcome(OutcomeKind.REFUSED, error=error))
            return
        active.at_provider = True
        if self._paused:
            self._steer_streams((active,))

    def _find_provider(self, name: ProviderName) -> Recipient[ProviderMessage] | None:
        """The provider's present incarnation; a restarted one has to be found anew."""
        found = self._directory.providers[name].resolve()
        if found is not None:
            self.watch(found, name)
            self._providers[name] = found
        return found

    def _completed(self, request: RequestKey, completion: Completion) -> None:
        active = self._requests.find(request)
        if active is None:
            return
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
        self._end(active, Outcome(OutcomeKind.COMPLETED, result))

    def _chunk(self, chunk: Chunk) -> None:
        active = self._requests.find(chunk.request)
        if active is not None and active.reader is not None:
            self._tell(active.reader, RequestChunk(chunk.request, active.sequence, chunk.text))
            active.sequence += 1

    def _end(self, active: ActiveRequest, outcome: Outcome) -> None:
        """Give the one outcome to everyone who asked, and start what waited for the room."""
        startable = self._requests.end(active, outcome, self._now())
        self._events.append((self._clock.wall(), active.request, "chat", outcome.kind))
        ended = RequestEnded(active.request, outcome)
        for connection_id in active.waiters:
            connection = self._connections.get(connection_id)
            if connection is not None:
                connection.tell(ended)
        if startable:
            self._start_all(startable)

    def _start_all(self, startable: list[ActiveRequest]) -> None:
        # A start that is refused ends its request and comes back here: a loop, not a recursion.
        looping = bool(self._startable)
        self._startable.extend(startable)
        while self._startable and not looping:
            self._start(self._startable[0])
            self._startable.popleft()

    def _withdraw(self, active: ActiveRequest) -> None:
        if active.at_provider:
            self._providers[active.route.provider].tell(CancelWant(active.request, self._id))

    def _cancel(self, message: CancelRequest) -> None:
        active = self._requests.find(message.request)
        if active is None or message.connection_id not in active.waiters:
            return
        outcome = Outcome(OutcomeKind.CANCELLED, error=failures.cancelled())
        if len(active.waiters) == 1:
            self._withdraw(active)
            self._end(active, outcome)
        else:
            was_reader = active.reader == message.connection_id
            active.leave(message.connection_id)
            self._tell(message.connection_id, RequestEnded(message.request, outcome))
            if was_reader:
                self._steer_streams((active,))

    def _detach(self, connection_id: ConnectionId) -> None:
        self._connections.pop(connection_id, None)
        self._paused.discard(connection_id)
        startable: list[ActiveRequest] = []
        had_read = self._requests.read_by(connection_id)
        for active in self._requests.leave(connection_id):
            self._withdraw(active)
            startable += self._requests.desert(active)
        self._steer_streams(active for active in had_read if active.waiters)
        # One deserted request may have made room for another that is deserted as well.
        self._start_all([each for each in startable if self._requests.find(each.request) is each])

    def _steer_streams(self, requests: Iterable[ActiveRequest]) -> None:
        """Let each stream run or rest as its reader can follow; it runs when nobody reads it."""
        for active in requests:
            if active.stream and active.at_provider:
                message = PauseStream if active.reader in self._paused else ResumeStream
                self._providers[active.route.provider].tell(message(active.request, self._id))

    def _deadlines_due(self) -> None:
        self._armed_for = inf
        for active in self._requests.overdue(self._now()):
            self._withdraw(active)
            error = failures.expired("chat", active.timeout_s)
            self._end(active, Outcome(OutcomeKind.EXPIRED, error=error))
        following = self._requests.next_deadline()
        if following is not None:
            self._arm(following)

    def _provider_down(self, provider: ProviderName) -> None:
        del self._providers[provider]
        outcome = Outcome(OutcomeKind.FAILED, error=failures.provider_gone(provider))
        lost = [
            active
            for active in self._requests.active()
            if active.at_provider and active.route.provider == provider
        ]
        for active in lost:
            self._end(active, outcome)

    def _refuse(self, submit: Submit, error: ErrorBody) -> None:
        outcome = Outcome(OutcomeKind.REFUSED, error=error)
        self._tell(submit.connection_id, RequestEnded(submit.request, outcome))

    def _note(self, request: RequestKey, tool: str, outcome: Outcome) -> None:
        self._events.append((self._clock.wall(), request, tool, outcome.kind))

    def _report(
        self, request: RequestKey, message: RequestAccepted | RequestGranted | RequestQueued
    ) -> None:
        if active := self._requests.find(request):
            for connection_id in active.waiters:
                self._tell(connection_id, message)

    def _tell(self, connection_id: ConnectionId, message: ConnectionMessage) -> None:
        connection = self._connections.get(connection_id)
        if connection is not None:
            connection.tell(message)

    def _arm(self, instant: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = instant
        self._timer = self.schedule(max(0.0, instant - self._now()), DeadlinesDue())
