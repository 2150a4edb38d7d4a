"""A call at its provider, with the requests that it was started for."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from exai_actors.core.calls import CallOptions, ChatCall
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.pieces import PieceSink
from exai_actors.ids import PermitId, RequestKey, SessionId
from exai_actors.messages.provider import RunCall

if TYPE_CHECKING:
    from exai_actors.core.capacity.flows import Flow
    from exai_actors.core.capacity.pool import Pool
    from exai_actors.messages.recipient import Recipient
    from exai_actors.messages.session import SessionMessage
    from exai_actors.ports import UpstreamCall
    from exai_actors.runtime import Cancellable

NO_SESSION = SessionId("")


class Fan:
    """Implements ``PieceSink`` for a call that several runs share; it keeps those that leave."""

    __slots__ = ("sinks",)

    def __init__(self, *sinks: PieceSink) -> None:
        self.sinks = list(sinks)

    def write(self, text: str, /) -> None:
        for sink in self.sinks:
            sink.write(text)

    def write_reasoning(self, text: str, /) -> bool:
        wanted = [sink.write_reasoning(text) for sink in self.sinks]
        return any(wanted)


class ProviderCall(ScheduledCall, gc=False, eq=False, kw_only=True):
    """``runs`` are the equal requests that share its outcome, ``run`` is the first of them.

    ``live`` turns False when no session waits for it any more, though its upstream call may still
    run. ``deadline`` is the latest of all its requests: each session ends its own in time.
    ``prompt_length`` counts the characters of its prompt. ``full`` are those of its ``runs`` whose
    readers are far behind; while there are any, it is paused, since ``paused_at`` and until
    ``stall_timer`` ends that. Before, it was paused for ``stalled_s`` in all.
    """

    run: RunCall
    runs: tuple[RunCall, ...]
    upstream_call: UpstreamCall | None = None
    live: bool = True
    prompt_length: float = 0.0
    fan: Fan | None = None
    full: tuple[RunCall, ...] = ()
    stall_timer: Cancellable | None = None
    paused_at: float = inf
    stalled_s: float = 0.0

    @property
    def has_sent(self) -> bool:
        """Whether its readers have got a piece."""
        pieces = self.run.pieces
        return pieces is not None and pieces.count > 0

    @property
    def length_so_far(self) -> int:
        """The number of characters of the answer and its reasoning that have arrived."""
        pieces = self.run.pieces
        return 0 if pieces is None else pieces.length

    @property
    def sink(self) -> PieceSink | None:
        """Where the pieces of its answer go."""
        return self.fan or self.run.pieces

    def find(self, session: SessionId, request: RequestKey) -> RunCall | None:
        """The run of this request of this session; None if it is not one of ``runs``."""
        for run in self.runs:
            if run.request == request and run.session == session:
                return run
        return None

    @property
    def cost_so_far(self) -> float:
        """The cost it probably has if it is aborted now: its prompt and the pieces so far."""
        return min(self.cost, self.prompt_tokens + self.length_so_far / 2)

    def leave(self, session: SessionId, request: RequestKey) -> None:
        """Remove one of several requests; the next one takes the place of the first."""
        self.runs = tuple(
            run for run in self.runs if run.request != request or run.session != session
        )
        self.run = self.runs[0]
        self.deadline = max(run.deadline for run in self.runs)
        self.fallback_reasons = self.run.fallback_reasons


def adopted_call(
    permit: PermitId,
    pool: Pool[ProviderCall],
    flow: Flow,
    provider: Recipient[SessionMessage],
    now: float,
) -> ProviderCall:
    """The record of a call that an earlier incarnation started, without a request here."""
    run = RunCall(
        request=RequestKey(""),
        session=NO_SESSION,
        call=ChatCall("", ()),
        options=CallOptions(),
        reply_to=provider,
    )
    return ProviderCall(
        flow=flow,
        request=run.request,
        pool=pool,
        prompt_tokens=0.0,
        completion_tokens=0.0,
        cost=0.0,
        permit=permit,
        granted_at=now,
        run=run,
        runs=(run,),
        live=False,
    )
