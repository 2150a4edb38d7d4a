"""A call at its provider, with the requests that it was started for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exai_actors.core.calls import CallOptions, ChatCall
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.ids import PermitId, RequestKey, SessionId
from exai_actors.messages.provider import RunCall

if TYPE_CHECKING:
    from exai_actors.core.capacity.flows import Flow
    from exai_actors.core.capacity.pool import Pool
    from exai_actors.messages.recipient import Recipient
    from exai_actors.messages.session import SessionMessage
    from exai_actors.ports import UpstreamCall

NO_SESSION = SessionId("")


class ProviderCall(ScheduledCall, gc=False, eq=False, kw_only=True):
    """``runs`` are the equal requests that share its outcome, ``run`` is the first of them.

    ``live`` turns False when no session waits for it any more, though its upstream call may still
    run. ``deadline`` is the latest of all its requests: each session ends its own in time.
    ``prompt_length`` and ``sent_length`` count the characters of its prompt and of its chunks.
    ``reader_paused``: the reader of its stream is slow.
    """

    run: RunCall
    runs: tuple[RunCall, ...]
    upstream_call: UpstreamCall | None = None
    live: bool = True
    prompt_length: float = 0.0
    sent_length: int = 0
    reader_paused: bool = False

    @property
    def cost_so_far(self) -> float:
        """The cost it probably has if it is aborted now: its prompt and the chunks so far."""
        return min(self.cost, self.prompt_tokens + self.sent_length / 2)

    def serves(self, session: SessionId, request: RequestKey) -> bool:
        """Whether this request of this session shares its outcome."""
        return any(run.request == request and run.session == session for run in self.runs)

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
