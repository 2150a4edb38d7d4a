"""The one owner of a provider's capacity: queues and grants calls, and settles their ends.

The upstream calls run outside of the actor. Their ends come back as messages, so that a cancel
never waits for HTTP; the pieces of their answers do not pass here. A permit is held from the grant
until the upstream call has really ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from math import inf
from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from exai_actors.actors.provider.call import NO_SESSION, Fan, ProviderCall, adopted_call
from exai_actors.actors.provider.coalescing import Coalescing
from exai_actors.actors.provider.explain import Explained, explain
from exai_actors.actors.provider.hand_back import accuse, give_back, pass_on
from exai_actors.actors.provider.log import (
    UnrecognisedRefusals,
    log_changes,
    log_violations,
)
from exai_actors.actors.provider.model_refresh import ModelRefresh
from exai_actors.actors.provider.places import Place, places
from exai_actors.actors.provider.replies import ProviderReplies
from exai_actors.actors.provider.statistics import Counts, describe
from exai_actors.core.calls import (
    Aborted,
    Completion,
    FailureKind,
    RelayCall,
    UpstreamFailure,
)
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.cost import COMPLETION_WEIGHT
from exai_actors.core.capacity.dispatcher import CallState, Dispatcher
from exai_actors.core.capacity.explain_wait import WaitExplainer
from exai_actors.core.capacity.invariants import invariant_violations
from exai_actors.core.capacity.quarantine import abort_rest_s
from exai_actors.core.capacity.refusals import Refusal
from exai_actors.core.capacity.token_estimates import TokenEstimator, characters_of
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.observe.usage import User
from exai_actors.core.pieces import HELD_BACK_CHARS
from exai_actors.core.routing import BUSY
from exai_actors.core.statistics import FlowStatistics, ProviderStatistics
from exai_actors.core.wait_reasons import Waiting
from exai_actors.ids import DEFAULT_TENANT, PermitId, ProviderName, RequestKey, SessionId
from exai_actors.messages.broker import BrokerMessage
from exai_actors.messages.provider import (
    ArrangeCall,
    AskModels,
    CancelCall,
    ChangeProvider,
    CheckDue,
    ClientReturned,
    ModelsListed,
    ModelsUnavailable,
    PauseStream,
    ProviderMessage,
    PumpDue,
    RefreshQueue,
    RefusalsDue,
    ResumeStream,
    RunCall,
    StallDue,
    UpstreamEnded,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import Failed
from exai_actors.runtime import Cancellable, Down, LoopActor, LoopRef

if TYPE_CHECKING:
    from exai_actors.actors.provider.settings import ProviderSettings
    from exai_actors.actors.statistics_board import StatisticsBoard
    from exai_actors.ports import Upstream

FIRST_REPORT_S = 0.25
REPORTS_REST = 40.0
"""So many times as long as reports of places took none are made: they have 2.5 % of the time."""
CHECK_EVERY_S = 30.0
REFUSED_AT_A_TIME = 200
"""A hold may outlast thousands of waiting requests: others have their turns in between."""
PERMIT_BITS = 40
"""The bits of a permit that number it within its incarnation; the others name the incarnation."""


class ProviderActor(LoopActor):
    """Runs calls on its upstream, as many at a time as its account allows.

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
        self._board = board
        self._settings = settings
        self._name = ProviderName(settings.name)
        self._upstream = upstream
        self._draw = draw
        self._account = account
        self._dispatcher: Dispatcher[ProviderCall] = Dispatcher(
            account, self.incarnation << PERMIT_BITS
        )
        self._estimator = TokenEstimator()
        self._coalescing = Coalescing(enabled=settings.capacity.coalesce)
        self._models = ModelRefresh(self, settings, broker)
        self._watched: set[SessionId] = set()
        self._refresh_armed = False
        self._displacing = False
        self._rests = False
        # A call during the handling of its end: it has no permit any more.
        self._settling: ProviderCall | None = None
        self._poison = account.suspects.poison
        self._wake: Cancellable | None = None
        self._unrecognised = UnrecognisedRefusals(self._name)
        self._counts = Counts()
        self._figures = CallFigures()
        self._replies = ProviderReplies(self._name, self._counts, self._figures, self._coalescing)

    def on_start(self) -> None:
        self._board.register_provider(
            self._name, self.statistics, self.waiting, self.flows, self._queued
        )
        self._board.register_calls(self._name, self._figures, self.started, self._account.usage)
        pool = self._dispatcher.pools[0]
        for permit in self._upstream.hand_over(self.actor_ref):
            # A call of an earlier incarnation counts until its connection is closed.
            flow = pool.queue.flow(NO_SESSION, DEFAULT_TENANT)
            call = adopted_call(permit, pool, flow, self.actor_ref, self.now())
            self._dispatcher.adopt(permit, call)
        if not self._models.names:
            self._upstream.ask_models(self.actor_ref)
        self.schedule(CHECK_EVERY_S, CheckDue())
        # Permits that an earlier incarnation quarantined return by time alone.
        self._arm_wake(self.now())

    def on_suspend(self) -> None:
        """Start no calls."""
        self._rests = True

    def on_resume(self) -> None:
        self._rests = False
        self._pump()

    def on_stop(self) -> None:
        self._abort_all()
        self._drop_calls()

    def on_failure(self, *_: object) -> None:
        self._board.close_provider(self._name, "its actor has failed and is being started again")
        self._abort_all()
        now, messages, suspects = self.now(), self.unhandled, self._account.suspects
        message = messages[0] if messages else None
        accuse(self._name, self._dispatcher, suspects, message, self._settling, now)
        pass_on(self._dispatcher, self._settling, messages)
        give_back(self._name, self._dispatcher, suspects, messages, now)
        self._drop_calls()

    def on_receive(self, message: ProviderMessage | Down[SessionId]) -> str | None:
        # The two of each call come first: a case takes six times as long as the type.
        if type(message) is RunCall:
            self._run(message)
            return None
        if type(message) is UpstreamEnded:
            self._ended(message)
            return None
        # In order of frequency: each case costs those after it.
        match message:
            case CancelCall():
                self._cancel(message.session, message.request)
                # A smaller call may have waited behind it before a rate gate.
                self._pump()
            case PauseStream():
                self._pause(message)
            case ResumeStream(request=request, session=session):
                call = self._find_live(session, request)
                if call is not None:
                    self._let_on(call, session, request)
            case RefreshQueue():
                self._report_positions()
            case PumpDue():
                if not self._rests:
                    self._pump()
            case RefusalsDue():
                self._refuse_unservable(self.now())
            case ChangeProvider():
                return self._change(message)
            case ArrangeCall(request=request, session=session, how=how):
                self._dispatcher.arrange(session, request, how, self.now())
                self._pump()
            case ClientReturned(request=request, session=session, deadline=deadline):
                self._dispatcher.client_returned(session, request, deadline)
                self._pump()
            case ModelsListed():
                self._models.listed(message.models)
            case ModelsUnavailable():
                self._models.unavailable(message.failure)
            case StallDue(permit=permit):
                self._end_stall(permit)
            case CheckDue():
                self._check_invariants()
            case AskModels():
                self._upstream.ask_models(self.actor_ref)
            case Down():
                self._session_down(message.tag)
                if not self._rests:
                    self._pump()
            case _:
                assert_never(message)
        return None

    def statistics(self) -> ProviderStatistics:
        return describe(
            self._settings,
            self._dispatcher,
            self._counts,
            models=self._models.names,
            incarnation=self.incarnation,
            trouble=self._models.trouble,
            now=self.now(),
        )

    def _queued(self) -> int:
        return self._dispatcher.queued

    def flows(self) -> tuple[FlowStatistics, ...]:
        """The requests of each session here."""
        return tuple(
            FlowStatistics(flow.tenant.name, flow.session, in_flight, queued)
            for flow, in_flight, queued in self._dispatcher.flows()
            if flow.session != NO_SESSION
        )

    def places(self) -> Iterator[Place]:
        """The place of each call, for a reader on the loop thread."""
        name = self._name
        for place in places(self._dispatcher, self.now()):
            reason = place.reason
            yield place if reason is None else replace(place, reason=replace(reason, provider=name))

    def explain(self, session: SessionId, request: RequestKey) -> Explained | None:
        """Where a request is and why, for a reader on the loop thread; None if it is not here."""
        call = self._find_live(session, request)
        return None if call is None else explain(self._dispatcher, call, self.now())

    @property
    def name(self) -> ProviderName:
        return self._name

    def state_of(self, session: SessionId, request: RequestKey) -> CallState:
        """Where a request is here."""
        return self._dispatcher.state_of(session, request)

    def leaving(self) -> int:
        """The queued requests that would go elsewhere if the provider were closed."""
        return self._dispatcher.leaving()

    def running(self) -> Counter[User]:
        """How many calls of each user run."""
        return Counter(
            _user_of(call)
            for pool in self._dispatcher.pools
            for call in pool.ledger.held.values()
            if call.flow.session != NO_SESSION
        )

    def waiting(self, session: SessionId, request: RequestKey) -> Waiting | None:
        """The place and the reason of a request that waits here; None if it does not."""
        now = self.now()
        found = self._dispatcher.waiting(session, request, now)
        if found is None and self._coalescing.enabled:
            joined = self._find_live(session, request)
            if joined is not None:
                owner = joined.run
                found = self._dispatcher.waiting(owner.session, owner.request, now)
        if found is None:
            return None
        return replace(found, reason=replace(found.reason, provider=self._name))

    def started(self, session: SessionId, request: RequestKey) -> tuple[float, int]:
        """When the running attempt of a request got its permit (inf: none runs), and the number of
        its attempts so far.
        """
        call = self._find_live(session, request)
        if call is None or call.upstream_call is None:
            return inf, 0 if call is None else call.attempts
        return call.granted_at, call.attempts

    def _run(self, run: RunCall) -> None:
        if run.session not in self._watched:
            self._watch_session(run)
        if self._poison and self._account.suspects.is_poison(hash(run.call), self.now()):
            self._replies.refused_as_poison(run)
            return
        joined = self._coalescing.join(run) if self._coalescing.enabled else None
        if joined is not None:
            self._counts.shared += 1
            if joined.upstream_call is None:
                self._replies.enqueued(run)
                self._report_places_of(joined, run)
            else:
                self._replies.granted(run)
            return
        now = self.now()
        call = self._scheduled(run, now)
        if run.pieces is not None and self._coalescing.enabled:
            call.fan = Fan(run.pieces)
        admission = self._dispatcher.admit(call, now)
        if admission == "granted":
            self._start(call)
        elif isinstance(admission, Refusal):
            self._replies.refused(call, admission, now)
            return
        else:
            self._replies.enqueued(run)
            self._report_places_of(call, run)
            self._arm_wake(now)
            if self._dispatcher.displaced:
                self._refuse_displaced()
        if self._coalescing.enabled:
            self._coalescing.open(call)

    def _refuse_displaced(self) -> None:
        displaced = self._dispatcher.displaced
        if self._displacing:
            # The loop of an outer call comes to these, too.
            return
        self._displacing = True
        while displaced:
            call, refusal = displaced.pop()
            call.runs, joined = call.runs[:1], call.runs[1:]
            self._counts.displaced += 1
            self._replies.refused(call, refusal, self.now())
            # The place was that of the first session; the others have theirs to claim.
            for run in joined:
                self._run(run)
        self._displacing = False
        # A smaller call may have waited behind one of them before a rate gate.
        self._pump()

    def _scheduled(self, run: RunCall, now: float) -> ProviderCall:
        request, options = run.call, run.options
        pool = self._dispatcher.pool_of(request.model)
        length = characters_of(request)
        prompt, completion = self._estimator.estimate(request, length)
        return ProviderCall(
            flow=pool.queue.flow(run.session, run.tenant),
            request=run.request,
            pool=pool,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost=prompt + COMPLETION_WEIGHT * completion,
            admitted_at=now,
            deadline=run.deadline,
            if_busy=options.if_busy,
            priority=options.priority,
            fallback_reasons=run.fallback_reasons,
            model=request.model,
            run=run,
            runs=(run,),
            prompt_length=length,
            presence=request.presence if type(request) is RelayCall else None,
        )

    def _watch_session(self, run: RunCall) -> None:
        self._watched.add(run.session)
        if isinstance(run.reply_to, LoopRef):
            self.watch(run.reply_to, run.session)

    def _start(self, call: ProviderCall) -> None:
        self._counts.granted += 1
        if call.attempts == 1:
            waited_s = call.granted_at - call.admitted_at
            if waited_s:
                self._figures.waits.add(waited_s)
            else:
                self._figures.waits.counts[0] += 1
            for run in call.runs:
                if run.options.reports_progress:
                    self._replies.granted(run)
        if call.presence is not None:
            call.presence.runs = True
            if call.attempts == 1:
                call.presence.granted_at = call.granted_at
        call.upstream_call = self._upstream.start(
            call.permit,
            call.run.call,
            self.actor_ref,
            sink=call.sink,
            fresh=call.resends > 0,
            trace=call.run.options.trace,
        )

    def _ended(self, message: UpstreamEnded) -> None:
        now = self.now()
        rest_s = self._abort_rest_s() if message.cut_off else 0.0
        if rest_s:
            call = self._dispatcher.quarantine(message.permit, now + rest_s)
        else:
            call = self._dispatcher.release(message.permit)
        if call is None:
            return
        self._settling = call
        call.upstream_call = None
        # There is nothing here to settle a call with that an earlier incarnation started.
        if call.attempts:
            granted_at = call.granted_at
            took_s = (message.ended_at or now) - granted_at
            held_s: float | None = took_s
            self._figures.services.add(took_s)
            if message.first_piece_at is not None:
                self._figures.first_pieces.add(message.first_piece_at - granted_at)
            stall = self.system.scheduler.stall
            if granted_at < stall.ended and stall.hides(granted_at, granted_at + took_s):
                held_s = None
            if call.stalled_s or call.full:
                self._end_pause(call)
                self._dispatcher.charge_stall(call, call.stalled_s)
            match message.result:
                case Completion():
                    self._completed(call, message.result, now, held_s)
                case UpstreamFailure():
                    self._failed(call, message.result, now)
                case Aborted():
                    self._aborted(call, now)
                case _:
                    assert_never(message.result)
        if message.hold_s is not None:
            self._dispatcher.guards.on_rate_headers(message.hold_s, call.model, now)
            self._refuse_unservable(now)
        changed = bool(self._account.unlogged)
        if changed:
            log_changes(self._account, self._name)
        self._settling = None
        if any(self._dispatcher.all_waiting):
            self._pump()
        elif changed:
            # The end of a hold is reported even if no call waits for it.
            self._arm_wake(now)

    def _abort_rest_s(self) -> float:
        """How long a permit rests until the service has noticed the closed connection."""
        return abort_rest_s(self._settings.capacity.quarantine_s, self._upstream.round_trip_s)

    def _completed(
        self, call: ProviderCall, completion: Completion, now: float, held_s: float | None
    ) -> None:
        self._counts.completed += 1
        prompt, answer = self._estimator.learn(
            call.run.call.model,
            call.prompt_length,
            call.prompt_tokens,
            completion.usage,
            len(completion.text),
        )
        cost = prompt + COMPLETION_WEIGHT * answer
        self._dispatcher.settlement.completed(call, prompt + answer, cost, now, held_s)
        flow = call.flow
        used = flow.used
        if used is None or now >= used.until or call.model != flow.used_model:
            used = flow.used = self._account.usage.present(_user_of(call), now)
            flow.used_model = call.model
        used.calls += 1
        used.tokens += prompt + answer
        if call.live:
            self._replies.completed(call, completion)

    def _aborted(self, call: ProviderCall, now: float) -> None:
        self._counts.aborted += 1
        self._dispatcher.settlement.aborted(call, call.cost_so_far, now)
        self._account.usage.note(_user_of(call), call.prompt_tokens + call.length_so_far / 4, now)
        if call.live:
            failure = UpstreamFailure(
                FailureKind.BROKEN, "the call was aborted", text_sent=call.has_sent
            )
            self._replies.failed(call, failure)

    def _failed(self, call: ProviderCall, failure: UpstreamFailure, now: float) -> None:
        self._counts.failed += 1
        self._figures.failures[failure.kind] += 1
        if not failure.recognised:
            self._unrecognised.note(failure, now)
        if call.has_sent and not failure.text_sent:
            failure = replace(failure, text_sent=True)
        if self._dispatcher.settlement.failed(
            call, failure, now, self._draw(), may_retry=call.live
        ):
            self._counts.retried += 1
            if call.presence is not None:
                call.presence.runs = False
        elif call.live:
            waits = BUSY in call.fallback_reasons and self._dispatcher.would_wait(
                call, failure, now
            )
            self._replies.failed(call, failure, would_wait=waits)
        self._refuse_unservable(now)

    def _refuse_unservable(self, now: float) -> None:
        refused = self._dispatcher.refuse_unservable(now, REFUSED_AT_A_TIME)
        for call, refusal in refused:
            self._replies.refused(call, refusal, now)
        if len(refused) == REFUSED_AT_A_TIME:
            self.schedule(0.0, RefusalsDue())

    def _cancel(self, session: SessionId, request: RequestKey) -> None:
        call = self._find_live(session, request)
        if call is not None:
            self._leave(call, session, request)

    def _leave(self, call: ProviderCall, session: SessionId, request: RequestKey) -> None:
        """Remove one request from a call; the call itself is given up with the last one."""
        if call.full:
            self._let_on(call, session, request)
        if len(call.runs) > 1:
            first = call.run
            call.leave(session, request)
            run = call.run
            if run is not first:
                flow = call.pool.queue.flow(run.session, run.tenant)
                self._dispatcher.transfer(call, flow, run.request, self.now())
            return
        call.live = False
        self._replies.dropped(call)
        if call.upstream_call is not None:
            call.upstream_call.abort()
        else:
            self._dispatcher.withdraw(session, request)

    def _find_live(self, session: SessionId, request: RequestKey) -> ProviderCall | None:
        found = self._dispatcher.find_queued(session, request)
        if found is not None:
            return found
        # A queued call serves other requests than its own only if they have joined it.
        dispatcher = self._dispatcher
        calls = dispatcher.calls() if self._coalescing.enabled else dispatcher.started()
        return next((call for call in calls if call.live and call.find(session, request)), None)

    def _pause(self, message: PauseStream) -> None:
        call = self._find_live(message.session, message.request)
        run = None if call is None else call.find(message.session, message.request)
        if call is None or run is None or call.upstream_call is None or run in call.full:
            return
        call.full += (run,)
        if call.stall_timer is None:
            call.paused_at = self.now()
            call.upstream_call.pause()
            allowed_s = self._settings.stall_timeout_s - call.stalled_s
            call.stall_timer = self.schedule(max(0.0, allowed_s), StallDue(call.permit))

    def _let_on(self, call: ProviderCall, session: SessionId, request: RequestKey) -> None:
        """The reader of a run has caught up, or gone: resume the call if it was the last one."""
        call.full = tuple(
            run for run in call.full if run.request != request or run.session != session
        )
        if not call.full and call.stall_timer is not None:
            self._end_pause(call)
            if call.upstream_call is not None:
                call.upstream_call.resume()

    def _end_pause(self, call: ProviderCall) -> None:
        if call.stall_timer is not None:
            call.stall_timer.cancel()
            call.stall_timer = None
            call.stalled_s += self.now() - call.paused_at

    def _end_stall(self, permit: PermitId) -> None:
        """Fail the runs that have kept a call paused for too long; it resumes for the others."""
        call = self._dispatcher.find(permit)
        if call is None:
            return
        failure = UpstreamFailure(
            FailureKind.BROKEN,
            "was cut off because the client reads its answer too slowly: more than "
            f"{HELD_BACK_CHARS:,} characters waited for {self._settings.stall_timeout_s:g} s",
            text_sent=True,
        )
        for run in call.full:
            run.reply_to.tell(
                Failed(run.request, failure, granted_at=call.granted_at, attempts=call.attempts)
            )
            self._leave(call, run.session, run.request)

    def _pump(self) -> None:
        now = self.now()
        for call in self._dispatcher.pump(now):
            self._start(call)
        for call in self._dispatcher.expired:
            self._replies.dropped(call)
        self._dispatcher.expired.clear()
        if self._account.unlogged:
            log_changes(self._account, self._name)
        self._arm_wake(now)

    def _arm_wake(self, now: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        wake_at = self._dispatcher.wake_at(now)
        if wake_at < inf:
            self._wake = self.schedule(max(0.0, wake_at - now), PumpDue())

    def _change(self, message: ChangeProvider) -> str | None:
        now = self.now()
        problem = apply_change(self._dispatcher, message.change, message.cause, now)
        self._refuse_unservable(now)
        self._pump()
        return problem

    def _report_places_of(self, call: ProviderCall, run: RunCall) -> None:
        if run.options.reports_progress:
            self._dispatcher.positions.add(call)
            self._arm_refresh(FIRST_REPORT_S)

    def _arm_refresh(self, delay_s: float) -> None:
        if not self._refresh_armed:
            self._refresh_armed = True
            self.schedule(delay_s, RefreshQueue())

    def _report_positions(self) -> None:
        self._refresh_armed = False
        now, dispatcher = self.now(), self._dispatcher
        if dispatcher.positions.any():
            due = dispatcher.positions.due(now, self._settings.progress_interval_s)
            self._replies.positions(due, WaitExplainer(dispatcher.guards, now))
            self._arm_refresh(max(FIRST_REPORT_S, (self.now() - now) * REPORTS_REST))

    def _check_invariants(self) -> None:
        # While it rests, requests may wait for nothing but its resumption.
        if not self._rests:
            violations = invariant_violations(
                self._dispatcher, self.now(), self._settings.longest_call_s
            )
            self._counts.violations += log_violations(self._name, violations)
        for pool in self._dispatcher.pools:
            pool.queue.estimate_rates(self.now())
        self.schedule(CHECK_EVERY_S, CheckDue())

    def _session_down(self, session: SessionId) -> None:
        self._watched.discard(session)
        dispatcher = self._dispatcher
        # A queued call serves other sessions than its own only if they have joined it.
        for call in tuple(dispatcher.calls() if self._coalescing.enabled else dispatcher.started()):
            for run in call.runs:
                if call.live and run.session == session:
                    self._leave(call, session, run.request)
        for call in dispatcher.forget(session):
            call.live = False
            self._replies.dropped(call)

    def _drop_calls(self) -> None:
        """The sessions of the calls that wait unread know their fate: they are no dead letters."""
        self.drop_waiting(lambda message: isinstance(message, RunCall | CancelCall))

    def _abort_all(self) -> None:
        for call in tuple(self._dispatcher.started()):
            if call.upstream_call is not None:
                call.upstream_call.abort()


def _user_of(call: ProviderCall) -> User:
    return call.flow.tenant.name, call.flow.session, call.model
