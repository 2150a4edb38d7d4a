"""The one owner of a provider's capacity: queues what does not fit, grants, and hears the end.

Upstream calls run outside; their chunks and their end come back as messages, so a cancel is
always heard. A permit is held from the grant until the upstream call has really ended.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from exai_actors.actors.provider.call import (
    NO_SESSION,
    ProviderCall,
    SharedCalls,
    adopted_call,
    find_live,
)
from exai_actors.actors.provider.log import log_changes, log_faults
from exai_actors.actors.provider.model_refresh import ModelRefresh
from exai_actors.actors.provider.replies import ProviderReplies
from exai_actors.actors.provider.statistics import Counts, describe
from exai_actors.core.calls import Aborted, Completion, FailureKind, UpstreamFailure
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.dispatcher import Admission, Dispatcher
from exai_actors.core.capacity.scheduled_call import Refusal
from exai_actors.core.capacity.self_check import faults_of
from exai_actors.core.capacity.token_estimates import TokenEstimator, characters_of
from exai_actors.core.statistics import ProviderStatistics
from exai_actors.ids import DEFAULT_TENANT, ProviderName, RequestKey, SessionId
from exai_actors.messages.broker import BrokerMessage
from exai_actors.messages.provider import (
    AskModels,
    CancelCall,
    ChangeProvider,
    CheckDue,
    ModelsListed,
    ModelsUnavailable,
    PauseStream,
    ProviderChanged,
    ProviderMessage,
    PumpDue,
    RefreshQueue,
    ResumeStream,
    RunCall,
    UpstreamChunk,
    UpstreamEnded,
)
from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.messages.session import (
    Chunk,
    Completed,
    Enqueued,
    Failed,
    Granted,
)
from exai_actors.runtime import Cancellable, Down, LoopActor, LoopRef

if TYPE_CHECKING:
    from exai_actors.actors.settings import ProviderSettings
    from exai_actors.actors.statistics_board import StatisticsBoard
    from exai_actors.ports import Upstream

FIRST_REPORT_S = 0.25
CHECK_EVERY_S = 30.0
# Permits of different incarnations must differ: each has so many bits for its own.
_PERMIT_BITS = 40
_GRANTED = Admission.GRANTED


class ProviderActor(LoopActor):
    """Runs Wants on its upstream, as many at a time as its account allows.

    ``account`` outlives the incarnations. ``draw`` gives the jitter of retries, uniform in [0, 1).
    """

    def __init__(
        self,
        settings: ProviderSettings,
        account: Account,
        upstream: Upstream,
        broker: Recipient[BrokerMessage],
        board: StatisticsBoard,
        draw: Callable[[], float],
    ) -> None:
        super().__init__()
        self._now = self.system.driver.now
        self._me = self.actor_ref
        self._board = board
        self._settings = settings
        self._name = ProviderName(settings.name)
        self._upstream = upstream
        self._draw = draw
        self._account = account
        self._dispatcher: Dispatcher[ProviderCall] = Dispatcher(
            account, self.incarnation << _PERMIT_BITS
        )
        self._estimator = TokenEstimator()
        self._only_pool = None if account.model_limits else self._dispatcher.pools[0]
        self._shared = SharedCalls() if settings.capacity.coalesce else None
        self._quarantines = settings.capacity.quarantine_s > 0
        self._models = ModelRefresh(self, settings, broker)
        self._watched: set[SessionId] = set()
        self._refresh_armed = False
        self._wake: Cancellable | None = None
        self._wakes_at = inf
        self._counts = Counts()
        self._answers = ProviderReplies(self._name, self._counts, self._shared)

    def on_start(self) -> None:
        self._board.post_provider(self._name, self.statistics)
        for permit in self._upstream.hand_over(self._me):
            # A predecessor's call goes on until its connection is closed, and counts until then.
            pool = self._dispatcher.pools[0]
            flow = pool.queue.flow(NO_SESSION, DEFAULT_TENANT)
            self._dispatcher.adopt(permit, adopted_call(permit, pool, flow, self._me, self._now()))
        if not self._models.names:
            self._upstream.ask_models(self.actor_ref)
        self.schedule(CHECK_EVERY_S, CheckDue())

    def on_stop(self) -> None:
        self._abort_all()

    def on_failure(self, *_: object) -> None:
        self._abort_all()

    def on_receive(self, message: ProviderMessage | Down) -> None:
        # In order of frequency: each case costs those after it.
        match message:
            case RunCall():
                self._want(message)
            case UpstreamEnded():
                self._ended(message)
            case UpstreamChunk():
                self._chunk(message)
            case CancelCall():
                self._cancel(message.session, message.request)
                # Behind it may wait one who needs less of a rate gate.
                self._pump()
            case PauseStream() | ResumeStream():
                self._steer(message)
            case RefreshQueue():
                self._tell_places()
            case PumpDue():
                self._wakes_at = inf
                self._pump()
            case ChangeProvider():
                self._change(message)
            case ModelsListed():
                self._models.listed(message.models)
            case ModelsUnavailable():
                self._models.unavailable(message.failure)
            case CheckDue():
                self._check()
            case AskModels():
                self._upstream.ask_models(self.actor_ref)
            case Down():
                self._session_down(SessionId(str(message.tag)))
                self._pump()
            case _:
                assert_never(message)

    def statistics(self) -> ProviderStatistics:
        return describe(
            self._settings,
            self._dispatcher,
            self._counts,
            models=self._models.names,
            incarnation=self.incarnation,
            trouble=self._models.trouble,
            now=self._now(),
        )

    def _want(self, want: RunCall) -> None:
        if want.session not in self._watched:
            self._watch_session(want)
        if self._shared is not None and (joined := self._shared.join(want)) is not None:
            self._counts.shared += 1
            if want.reports_progress:
                message = Granted if joined.call is not None else Enqueued
                want.reply_to.tell(message(want.request))
            return
        clock, call = self._now, want.call
        now = clock()
        pool = self._only_pool or self._dispatcher.pool_of(call.model)
        characters = characters_of(call)
        prompt, completion = self._estimator.estimate(call, characters)
        call_ = ProviderCall(
            pool.queue.flow(want.session, want.tenant),
            want.request,
            pool,
            prompt,
            completion,
            prompt + 2 * completion,
            now,
            want.deadline,
            want.if_busy,
            want.priority,
            want.fallback_reasons,
            want=want,
            characters=characters,
        )
        arrival = self._dispatcher.admit(call_, now)
        if arrival is _GRANTED:
            self._start(call_)
        elif isinstance(arrival, Refusal):
            self._answers.refused(call_, arrival)
            return
        else:
            if want.reports_progress:
                want.reply_to.tell(Enqueued(want.request))
            self._arm_refresh()
            self._arm_wake(now)
        if self._shared is not None:
            self._shared.open(call_)

    def _watch_session(self, want: RunCall) -> None:
        self._watched.add(want.session)
        if isinstance(want.reply_to, LoopRef):
            self.watch(want.reply_to, want.session)

    def _start(self, call_: ProviderCall) -> None:
        self._counts.granted += 1
        want = call_.want
        if call_.attempts == 1 and (call_.others or want.reports_progress):
            for each in call_.wants:
                if each.reports_progress:
                    each.reply_to.tell(Granted(each.request))
        call_.call = self._upstream.start(call_.permit, want.call, self._me)

    def _ended(self, message: UpstreamEnded) -> None:
        clock, permit, result = self._now, message.permit, message.result
        now = clock()
        dispatcher = self._dispatcher
        if self._quarantines and type(result) is Aborted:
            call_ = dispatcher.quarantine(permit, now)
        else:
            call_ = dispatcher.release(permit)
        if call_ is None:
            return
        if not call_.attempts:
            # A predecessor's: there is nothing here to settle it with.
            self._pump()
            return
        if type(result) is Completion:
            self._counts.completed += 1
            prompt, completion = self._estimator.learn(
                call_.want.call.model,
                call_.characters,
                call_.prompt_tokens,
                result.usage,
                len(result.text),
            )
            dispatcher.completed(call_, prompt + completion, prompt + 2 * completion, now)
            if call_.wanted:
                want = call_.want
                want.reply_to.tell(Completed(want.request, result))
                for other in call_.others:
                    other.reply_to.tell(Completed(other.request, result))
                if self._shared is not None:
                    self._shared.close(call_)
        else:
            self._ended_without(result, call_, now)
        if message.hold_s is not None:
            dispatcher.guards.on_rate_headers(message.hold_s, now)
            self._answers.refuse_unservable(self._dispatcher.refuse_unservable(now))
            log_changes(self._account, self._name)
        if dispatcher.is_waited_for():
            self._pump()

    def _ended_without(
        self, result: UpstreamFailure | Aborted, call_: ProviderCall, now: float
    ) -> None:
        call_.call = None
        match result:
            case UpstreamFailure() as failure:
                self._counts.failed += 1
                if call_.text_length and not failure.text_sent:
                    failure = replace(failure, text_sent=True)
                draw = self._draw()
                if self._dispatcher.failed(call_, failure, now, draw, wanted=call_.wanted):
                    self._counts.tried_again += 1
                    self._arm_refresh()
                elif call_.wanted:
                    self._answers.failed(call_, failure)
                self._answers.refuse_unservable(self._dispatcher.refuse_unservable(now))
            case Aborted():
                self._counts.aborted += 1
                self._dispatcher.abandoned(call_, call_.cost_so_far, now)
                if call_.wanted:
                    self._answers.failed(
                        call_, UpstreamFailure(FailureKind.BROKEN, "the call was aborted")
                    )
            case _:
                assert_never(result)
        log_changes(self._account, self._name)

    def _chunk(self, message: UpstreamChunk) -> None:
        call_ = self._dispatcher.find(message.permit)
        if call_ is None or not call_.wanted:
            return
        call_.text_length += len(message.text)
        for want in call_.wants if call_.others else (call_.want,):
            if want.reply_to.offer(Chunk(want.request, message.text)) is Offer.FULL:
                failure = UpstreamFailure(
                    FailureKind.BROKEN, "the session cannot keep up with the answer", text_sent=True
                )
                want.reply_to.tell(Failed(want.request, failure))
                self._leave(call_, want.session, want.request)

    def _cancel(self, session: SessionId, request: RequestKey) -> None:
        call_ = self._find(session, request)
        if call_ is not None:
            self._leave(call_, session, request)

    def _leave(self, call_: ProviderCall, session: SessionId, request: RequestKey) -> None:
        """One who waits for it goes; the call itself is given up with the last of them."""
        if call_.others:
            first = call_.want
            call_.leave(session, request)
            want = call_.want
            if want is not first:
                flow = call_.pool.queue.flow(want.session, want.tenant)
                self._dispatcher.transfer(call_, flow, want.request, want.priority, self._now())
            return
        call_.wanted = False
        self._answers.close(call_)
        if call_.call is not None:
            call_.call.abort()
        else:
            self._dispatcher.withdraw(session, request)

    def _pump(self) -> None:
        now = self._now()
        for call_ in self._dispatcher.pump(now):
            self._start(call_)
        if expired := self._dispatcher.expired:
            for call_ in expired:
                self._answers.close(call_)
            expired.clear()
        self._arm_wake(now)

    def _arm_wake(self, now: float) -> None:
        wake_at = self._dispatcher.wake_at(now)
        if wake_at < self._wakes_at:
            if self._wake is not None:
                self._wake.cancel()
            self._wakes_at = wake_at
            self._wake = self.schedule(max(0.0, wake_at - now), PumpDue())

    def _check(self) -> None:
        """Ask of itself, now and then, what tests ask after every message."""
        faults = faults_of(self._dispatcher, self._now(), self._settings.longest_call_s)
        self._counts.faults += log_faults(self._name, faults)
        self.schedule(CHECK_EVERY_S, CheckDue())

    def _find(self, session: SessionId, request: RequestKey) -> ProviderCall | None:
        return find_live(self._dispatcher, session, request, shared=self._shared is not None)

    def _steer(self, message: PauseStream | ResumeStream) -> None:
        call_ = self._find(message.session, message.request)
        if call_ is not None and call_.call is not None:
            if isinstance(message, PauseStream):
                call_.call.pause()
            else:
                call_.call.resume()

    def _change(self, message: ChangeProvider) -> None:
        now = self._now()
        problem = apply_change(self._dispatcher, message.change, message.cause, now)
        if message.reply_to is not None:
            message.reply_to.tell(ProviderChanged(message.change, problem))
        self._answers.refuse_unservable(self._dispatcher.refuse_unservable(now))
        log_changes(self._account, self._name)
        self._pump()

    def _arm_refresh(self) -> None:
        if not self._refresh_armed:
            self._refresh_armed = True
            self.schedule(FIRST_REPORT_S, RefreshQueue())

    def _tell_places(self) -> None:
        self._answers.places(
            self._dispatcher.waits.positions_due(self._now(), self._settings.progress_interval_s)
        )
        self._refresh_armed = bool(self._dispatcher.queued)
        if self._refresh_armed:
            self.schedule(FIRST_REPORT_S, RefreshQueue())

    def _session_down(self, session: SessionId) -> None:
        self._watched.discard(session)
        for call_ in tuple(self._dispatcher.all_jobs()):
            for want in call_.wants:
                if call_.wanted and want.session == session:
                    self._leave(call_, session, want.request)
        self._dispatcher.forget(session)

    def _abort_all(self) -> None:
        for call_ in tuple(self._dispatcher.granted()):
            if call_.call is not None:
                call_.call.abort()
