"""The one owner of a provider's capacity: queues what does not fit, grants, and hears the end.

Upstream calls run outside; their chunks and their end come back as messages, so a cancel is
always heard. A permit is held from the grant until the upstream call has really ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec
import structlog

from exai_actors.core import failures
from exai_actors.core.calls import Aborted, Completion, FailureKind, UpstreamFailure
from exai_actors.core.capacity import Permit
from exai_actors.core.dispatch import Dispatcher
from exai_actors.core.statistics import ProviderStatistics
from exai_actors.ids import PermitId, ProviderName, RequestKey, SessionId
from exai_actors.messages.broker import BrokerMessage, ProviderModels
from exai_actors.messages.provider import (
    AskModels,
    CancelWant,
    ModelsListed,
    ModelsUnavailable,
    PauseStream,
    ProviderMessage,
    RareProviderMessage,
    RefreshQueue,
    Resize,
    ResumeStream,
    UpstreamChunk,
    UpstreamEnded,
    Want,
)
from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.messages.session import (
    Chunk,
    Completed,
    Enqueued,
    Failed,
    Granted,
    Queued,
    Refused,
)
from exai_actors.runtime import Down, LoopActor, LoopRef

if TYPE_CHECKING:
    from exai_actors.actors.board import Board
    from exai_actors.actors.settings import ProviderSettings
    from exai_actors.ports import Upstream, UpstreamCall

log = structlog.get_logger()

FIRST_REPORT_S = 0.25
NOBODY = SessionId("")
# Permits of different incarnations must differ: each has so many bits for its own.
_PERMIT_BITS = 40


class _Running(msgspec.Struct, gc=False, eq=False):
    """A granted request. ``wanted`` turns False when its session has ended it."""

    want: Want
    call: UpstreamCall | None = None
    wanted: bool = True


class ProviderActor(LoopActor):
    """Runs Wants on its upstream, at most ``settings.limit`` at a time."""

    def __init__(
        self,
        settings: ProviderSettings,
        upstream: Upstream,
        broker: Recipient[BrokerMessage],
        board: Board,
    ) -> None:
        super().__init__()
        self._now = self.system.driver.now
        self._me = self.actor_ref
        self._board = board
        self._settings = settings
        self._name = ProviderName(settings.name)
        self._upstream = upstream
        self._broker = broker
        self._models = settings.models
        self._dispatcher: Dispatcher[Want] = Dispatcher(
            settings.limit, settings.queue, self.incarnation << _PERMIT_BITS
        )
        self._running: dict[PermitId, _Running] = {}
        self._watched: set[SessionId] = set()
        self._refresh_armed = False
        self._models_attempt = 0
        self._trouble: str | None = None
        self._granted = self._completed = self._failed = self._aborted = self._refused = 0

    def on_start(self) -> None:
        self._board.post_provider(self._name, self.statistics)
        now = self._now()
        for permit in self._upstream.hand_over(self._me):
            # A predecessor's call goes on until its connection is closed, and counts until then.
            self._dispatcher.ledger.adopt(Permit(permit, NOBODY, RequestKey(""), now))
        if not self._models:
            self._upstream.ask_models(self.actor_ref)

    def on_stop(self) -> None:
        self._abort_all()

    def on_failure(self, *_: object) -> None:
        self._abort_all()

    def on_receive(self, message: ProviderMessage | Down) -> None:
        # The two of every call come first: each case of a match costs those behind it.
        if type(message) is Want:
            self._want(message)
        elif type(message) is UpstreamEnded:
            self._ended(message)
        else:
            self._rare(message)

    def _rare(self, message: RareProviderMessage | Down) -> None:
        match message:
            case UpstreamChunk():
                self._chunk(message)
            case CancelWant():
                self._cancel(message)
            case PauseStream() | ResumeStream():
                self._steer(message)
            case RefreshQueue():
                self._report_positions()
            case Resize():
                self._dispatcher.ledger.resize(message.limit)
                self._pump()
            case ModelsListed():
                self._models_listed(message.models)
            case ModelsUnavailable():
                self._models_unavailable(message.failure)
            case AskModels():
                self._upstream.ask_models(self.actor_ref)
            case Down():
                self._session_down(SessionId(str(message.tag)))
            case _:
                assert_never(message)

    def statistics(self) -> ProviderStatistics:
        ledger, queue = self._dispatcher.ledger, self._dispatcher.queue
        return ProviderStatistics(
            name=self._name,
            kind=self._settings.kind,
            models=self._models,
            limit=ledger.limit,
            in_flight=ledger.in_flight,
            queued=len(queue),
            queue_limit=queue.limit,
            over=ledger.over,
            anomalies=ledger.anomalies,
            granted=self._granted,
            completed=self._completed,
            failed=self._failed,
            aborted=self._aborted,
            refused=self._refused,
            mean_service_s=self._dispatcher.service_time.mean_s,
            incarnation=self.incarnation,
            trouble=self._trouble,
        )

    def _want(self, want: Want) -> None:
        if want.session not in self._watched:
            self._watch_session(want)
        now = self._now()
        permit = self._dispatcher.grant_at_once(want.session, want.request, now)
        if permit is not None:
            self._start(permit, want)
        elif self._dispatcher.enqueue(want.session, want.request, want, now, want.priority):
            if want.reports_progress:
                want.reply_to.tell(Enqueued(want.request))
            if not self._refresh_armed:
                self._refresh_armed = True
                self.schedule(FIRST_REPORT_S, RefreshQueue())
        else:
            self._refused += 1
            queued = len(self._dispatcher.queue)
            wait = self._dispatcher.service_time.wait_s(queued, self._dispatcher.ledger.limit)
            error = failures.provider_full(self._name, queued, round(wait or 1.0, 3))
            want.reply_to.tell(Refused(want.request, error))

    def _watch_session(self, want: Want) -> None:
        self._watched.add(want.session)
        if isinstance(want.reply_to, LoopRef):
            self.watch(want.reply_to, want.session)

    def _start(self, permit: Permit, want: Want) -> None:
        running = _Running(want)
        self._running[permit.id] = running
        self._granted += 1
        if want.reports_progress:
            want.reply_to.tell(Granted(want.request))
        running.call = self._upstream.start(permit.id, want.call, self._me)

    def _ended(self, message: UpstreamEnded) -> None:
        now = self._now()
        if self._dispatcher.release(message.permit, now) is None:
            return
        running = self._running.pop(message.permit, None)
        if running is None:
            self._pump()
            return
        want = running.want
        result = message.result
        if type(result) is Completion:
            self._completed += 1
            if running.wanted:
                want.reply_to.tell(Completed(want.request, result))
        else:
            self._ended_without(result, running)
        self._pump()

    def _ended_without(self, result: UpstreamFailure | Aborted, running: _Running) -> None:
        want = running.want
        match result:
            case UpstreamFailure() as failure:
                self._failed += 1
                if running.wanted:
                    want.reply_to.tell(Failed(want.request, failure))
            case Aborted():
                self._aborted += 1
                if running.wanted:
                    failure = UpstreamFailure(FailureKind.BROKEN, "the call was aborted")
                    want.reply_to.tell(Failed(want.request, failure))
            case _:
                assert_never(result)

    def _chunk(self, message: UpstreamChunk) -> None:
        running = self._running.get(message.permit)
        if running is None or not running.wanted:
            return
        want = running.want
        if want.reply_to.offer(Chunk(want.request, message.text)) is Offer.FULL:
            failure = UpstreamFailure(
                FailureKind.BROKEN, "the session cannot keep up with the answer", text_sent=True
            )
            want.reply_to.tell(Failed(want.request, failure))
            self._abandon(want.session, want.request)

    def _cancel(self, message: CancelWant) -> None:
        if self._dispatcher.queue.remove(message.session, message.request) is None:
            self._abandon(message.session, message.request)

    def _abandon(self, session: SessionId, request: RequestKey) -> None:
        running = self._find(session, request)
        if running is not None:
            running.wanted = False
            if running.call is not None:
                running.call.abort()

    def _pump(self) -> None:
        if self._dispatcher.queue.entries:
            for permit, want in self._dispatcher.pump(self._now()):
                self._start(permit, want)

    def _find(self, session: SessionId, request: RequestKey) -> _Running | None:
        """A running request that is still wanted. Walks: cancels are rare beside grants."""
        for running in self._running.values():
            want = running.want
            if want.request == request and want.session == session and running.wanted:
                return running
        return None

    def _steer(self, message: PauseStream | ResumeStream) -> None:
        running = self._find(message.session, message.request)
        if running is not None and running.call is not None:
            if isinstance(message, PauseStream):
                running.call.pause()
            else:
                running.call.resume()

    def _report_positions(self) -> None:
        for position, estimate_s, waiting in self._dispatcher.positions_due(
            self._now(), self._settings.progress_interval_s
        ):
            want = waiting.entry
            if want.reports_progress:
                want.reply_to.tell(Queued(want.request, position, estimate_s))
        self._refresh_armed = bool(self._dispatcher.queue)
        if self._refresh_armed:
            self.schedule(FIRST_REPORT_S, RefreshQueue())

    def _session_down(self, session: SessionId) -> None:
        self._watched.discard(session)
        self._dispatcher.queue.remove_session(session)
        for running in tuple(self._running.values()):
            if running.want.session == session:
                self._abandon(session, running.want.request)

    def _models_listed(self, models: tuple[str, ...]) -> None:
        self._models_attempt = 0
        self._trouble = None
        if models != self._models:
            self._models = models
            self._broker.tell(ProviderModels(self._name, models))
        self.schedule(self._settings.models_refresh_s, AskModels())

    def _models_unavailable(self, failure: UpstreamFailure) -> None:
        delay_s = self._settings.models_retry_s * 2 ** min(self._models_attempt, 16)
        delay_s = min(delay_s, self._settings.models_refresh_s)
        self._models_attempt += 1
        self._trouble = failure.message
        log.warning(
            "a provider did not tell its models",
            provider=self._name,
            why=failure.message,
            again_in_s=delay_s,
        )
        self.schedule(delay_s, AskModels())

    def _abort_all(self) -> None:
        for running in tuple(self._running.values()):
            if running.call is not None:
                running.call.abort()
