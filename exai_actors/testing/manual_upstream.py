"""An upstream without a service: the test answers each call."""

from __future__ import annotations

from typing import Any

from exai_actors.core.calls import (
    Aborted,
    ChatCall,
    Completion,
    FailureKind,
    RelayCall,
    UpstreamFailure,
    UpstreamRequest,
    Usage,
)
from exai_actors.core.trace_context import TraceContext
from exai_actors.ids import PermitId
from exai_actors.messages.provider import (
    ModelsListed,
    ModelsUnavailable,
    ProviderMessage,
    UpstreamEnded,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import PieceSink


class ManualCall:
    """One started call; implements ``ports.UpstreamCall``.

    ``abort`` only sets ``abort_asked``: as with a real service, the call ends later, by the test.
    """

    def __init__(
        self,
        permit: PermitId,
        call: UpstreamRequest,
        reply_to: Recipient[ProviderMessage],
        sink: PieceSink | None,
    ) -> None:
        self.sink = sink
        self.permit = permit
        self._call = call
        self.fresh = False
        self.trace: TraceContext | None = None
        self.abort_asked = False
        self.paused = False
        self.ended = False
        self.reply_to = reply_to

    @property
    def call(self) -> ChatCall:
        """The chat call. AssertionError if it is a relayed one."""
        assert isinstance(self._call, ChatCall)
        return self._call

    @property
    def is_relayed(self) -> bool:
        return isinstance(self._call, RelayCall)

    @property
    def relayed(self) -> RelayCall:
        """The relayed call. AssertionError if it is a chat call."""
        assert isinstance(self._call, RelayCall)
        return self._call

    @property
    def prompt(self) -> str:
        """The text of the last message: the client's prompt."""
        return self.call.messages[-1].content

    def abort(self) -> None:
        self.abort_asked = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def chunk(self, text: str) -> None:
        """Send a piece of the answer, if the call streams."""
        if self.sink is not None:
            self.sink.write(text)

    def reason(self, text: str) -> None:
        """Send a piece of the model's reasoning, if the call streams."""
        if self.sink is not None:
            self.sink.write_reasoning(text)

    def complete(
        self,
        text: str = "done",
        *,
        finish_reason: str = "stop",
        hold_s: float | None = None,
        first_piece_at: float | None = None,
    ) -> None:
        """End with a complete answer; ``hold_s`` is the hold that came with it.

        ``first_piece_at`` is that of UpstreamEnded.
        """
        usage = Usage(1, len(text.split()))
        completion = Completion(text, self._call.model, finish_reason, usage)
        self._end(completion, hold_s, first_piece_at=first_piece_at)

    def fail(
        self,
        kind: FailureKind = FailureKind.SERVER_ERROR,
        message: str = "broken",
        *,
        retry_after: float | None = None,
        text_sent: bool = False,
        cut_off: bool = False,
        **more: Any,
    ) -> None:
        """End with a failure, ``more`` being fields of it.

        ``cut_off`` as in ``close``, for example at a timeout.
        """
        failure = UpstreamFailure(
            kind, message, retry_after=retry_after, text_sent=text_sent, **more
        )
        self._end(failure, cut_off=cut_off)

    def close(self, *, cut_off: bool = True) -> None:
        """End as an aborted call does, its connection closed.

        ``cut_off``: the service may not have noticed yet, so the permit rests for a moment.
        """
        self._end(Aborted(), cut_off=cut_off)

    def end_again(self) -> None:
        """Report the end a second time, which no upstream should."""
        self.reply_to.offer(UpstreamEnded(self.permit, Aborted()))

    def _end(
        self,
        result: Completion | UpstreamFailure | Aborted,
        hold_s: float | None = None,
        *,
        cut_off: bool = False,
        first_piece_at: float | None = None,
    ) -> None:
        assert not self.ended, "this call has ended already"
        self.ended = True
        self.reply_to.offer(
            UpstreamEnded(self.permit, result, hold_s, cut_off, first_piece_at=first_piece_at)
        )


class ManualUpstream:
    """Implements ``ports.Upstream``; ``calls`` are all calls ever started, in order."""

    def __init__(self, round_trip_s: float = 0.0) -> None:
        self.round_trip_s = round_trip_s
        self.calls: list[ManualCall] = []
        self.models_asked: list[Recipient[ProviderMessage]] = []
        self.closed = False

    @property
    def running(self) -> list[ManualCall]:
        return [call for call in self.calls if not call.ended]

    def start(
        self,
        permit: PermitId,
        call: UpstreamRequest,
        reply_to: Recipient[ProviderMessage],
        *,
        sink: PieceSink | None = None,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> ManualCall:
        started = ManualCall(permit, call, reply_to, sink)
        started.fresh = fresh
        started.trace = trace
        self.calls.append(started)
        return started

    def hand_over(self, reply_to: Recipient[ProviderMessage]) -> tuple[PermitId, ...]:
        for call in self.running:
            call.reply_to = reply_to
        return tuple(call.permit for call in self.running)

    def ask_models(self, reply_to: Recipient[ProviderMessage]) -> None:
        self.models_asked.append(reply_to)

    def list_models(self, *models: str) -> None:
        """Answer the oldest request for the models."""
        self.models_asked.pop(0).tell(ModelsListed(models))

    def refuse_models(self) -> None:
        """Answer the oldest request for the models with a failure."""
        failure = UpstreamFailure(FailureKind.CONNECT, "nobody there")
        self.models_asked.pop(0).tell(ModelsUnavailable(failure))

    async def aclose(self) -> None:
        self.closed = True
