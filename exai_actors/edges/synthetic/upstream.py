"""The upstream of the built-in synthetic provider: no network, no key and no AI."""

from __future__ import annotations

from collections.abc import Callable

from exai_actors.core.calls import (
    Aborted,
    ChatCall,
    Completion,
    FailureKind,
    RelayCall,
    UpstreamFailure,
    UpstreamRequest,
    UpstreamResult,
)
from exai_actors.core.synthetic import SyntheticModel, pieces
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.ended_call import ENDED_CALL
from exai_actors.edges.synthetic.settings import SyntheticSettings
from exai_actors.ids import PermitId
from exai_actors.messages.provider import (
    ModelsListed,
    ProviderMessage,
    UpstreamEnded,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import PieceSink, UpstreamCall
from exai_actors.runtime import Callback, Cancellable
from exai_actors.wire.http_api.chat_form import ChatForm, chat_call

# Text that is due within one tick is sent as one chunk, so that a fast pace needs few timers.
MIN_TICK_S = 0.01
_DEFAULTS = SyntheticSettings()


CallLater = Callable[[float, Callback], Cancellable]
"""Run a callback after some seconds: a driver's ``call_later``, or ``loop.call_later``."""
Now = Callable[[], float]
"""The monotonic clock that these seconds are measured by."""


class SyntheticUpstream:
    """Implements ``ports.Upstream`` with a SyntheticModel.

    With neither delay nor pace, a call ends before ``start`` returns. A call that fails does so
    after the delay and before any text. A call ends when its last step is due, even if a busy loop
    runs that step later.
    """

    def __init__(
        self,
        call_later: CallLater,
        now: Now,
        *,
        name: str,
        models: tuple[str, ...],
        settings: SyntheticSettings = _DEFAULTS,
    ) -> None:
        self._name = name
        self._call_later = call_later
        self._now = now
        self._models = models
        self._delay_s = settings.delay_ms / 1000
        self._pace = settings.tokens_per_second
        self._model = SyntheticModel(
            tokens=settings.tokens, failure_rate=settings.failure_rate, seed=settings.seed
        )
        self._instant = not (settings.delay_ms or settings.tokens_per_second)
        self._number = 0
        self._running: set[_RunningCall] = set()
        self._closed = False

    @property
    def round_trip_s(self) -> float:
        return 0.0

    def start(
        self,
        permit: PermitId,
        call: UpstreamRequest,
        reply_to: Recipient[ProviderMessage],
        *,
        sink: PieceSink | None = None,
        fresh: bool = False,  # noqa: ARG002
        trace: TraceContext | None = None,  # noqa: ARG002
    ) -> UpstreamCall:
        self._number += 1
        if type(call) is RelayCall:
            sink, call = ChatForm(call, self._number, self._name), chat_call(call)
        elif not call.stream:
            sink = None
        result = self._result(call)
        if self._closed or self._instant:
            if sink is not None and isinstance(result, Completion):
                sink.write(result.text)
                if isinstance(sink, ChatForm):
                    sink.finish(result)
            reply_to.tell(UpstreamEnded(permit, result))
            return ENDED_CALL
        running = _RunningCall(
            self._call_later, self._now, permit, reply_to, sink, result, self._running.discard
        )
        self._running.add(running)
        running.begin(self._schedule(call, result))
        return running

    def hand_over(self, reply_to: Recipient[ProviderMessage]) -> tuple[PermitId, ...]:
        for running in self._running:
            running.reply_to = reply_to
        return tuple(running.permit for running in self._running)

    def ask_models(self, reply_to: Recipient[ProviderMessage]) -> None:
        reply_to.tell(ModelsListed(self._models))

    async def aclose(self) -> None:
        self._closed = True
        for running in tuple(self._running):
            running.abort()

    def _result(self, call: ChatCall) -> UpstreamResult:
        if self._closed:
            return UpstreamFailure(
                FailureKind.BROKEN, "takes no more calls: the broker is stopping"
            )
        if self._model.fails(self._number):
            return self._model.failure(self._number)
        return self._model.answer(call)

    def _schedule(self, call: ChatCall, result: UpstreamResult) -> list[tuple[float, str]]:
        """The steps of a call: seconds after the step before, and text. The last ends the call."""
        if not isinstance(result, Completion):
            return [(self._delay_s, "")]
        count = result.usage.completion_tokens if result.usage else 1
        if not self._pace:
            return [(self._delay_s, result.text)]
        if not call.stream:
            return [(self._delay_s + (count - 1) / self._pace, "")]
        texts = pieces(result, count)
        together = max(1, round(MIN_TICK_S * self._pace))
        groups = ["".join(texts[at : at + together]) for at in range(0, len(texts), together)]
        return [(self._delay_s, groups[0]), *((together / self._pace, text) for text in groups[1:])]


class _RunningCall:
    """Implements ``ports.UpstreamCall``."""

    __slots__ = (
        "_call_later",
        "_due",
        "_ended",
        "_is_late",
        "_next",
        "_now",
        "_on_end",
        "_paused",
        "_result",
        "_sink",
        "_steps",
        "_timer",
        "permit",
        "reply_to",
    )

    def __init__(
        self,
        call_later: CallLater,
        now: Now,
        permit: PermitId,
        reply_to: Recipient[ProviderMessage],
        sink: PieceSink | None,
        result: UpstreamResult,
        on_end: Callable[[_RunningCall], object],
    ) -> None:
        self._call_later = call_later
        self._now = now
        self._due: float | None = None
        self.permit = permit
        self.reply_to = reply_to
        self._sink = sink
        self._result = result
        self._on_end = on_end
        self._steps: list[tuple[float, str]] = []
        self._next = 0
        self._timer: Cancellable | None = None
        self._paused = False
        # The next step was due during the pause.
        self._is_late = False
        self._ended = False

    def begin(self, steps: list[tuple[float, str]]) -> None:
        """Take the steps in order; those without a wait immediately."""
        self._steps = steps
        self._schedule_step()

    def abort(self) -> None:
        self._end(Aborted(), None)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._is_late:
                self._is_late = False
                self._due = self._now()
                self._take_step()

    def _schedule_step(self) -> None:
        wait, _ = self._steps[self._next]
        if wait:
            self._due = self._now() + wait
            self._timer = self._call_later(wait, self._take_step)
        else:
            self._take_step()

    def _take_step(self) -> None:
        self._timer = None
        if self._paused:
            self._is_late = True
            return
        text = self._steps[self._next][1]
        self._next += 1
        if text and self._sink is not None:
            self._sink.write(text)
        if self._next < len(self._steps):
            self._schedule_step()
        else:
            self._end(self._result, self._due)

    def _end(self, result: UpstreamResult, ended_at: float | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_end(self)
        if isinstance(self._sink, ChatForm) and isinstance(result, Completion):
            self._sink.finish(result)
        self.reply_to.offer(UpstreamEnded(self.permit, result, ended_at=ended_at))
