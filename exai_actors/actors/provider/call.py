"""A request at its provider together with those who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exai_actors.core.calls import ChatCall, IfBusy
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.ids import PermitId, RequestKey, SessionId
from exai_actors.messages.provider import RunCall

if TYPE_CHECKING:
    from exai_actors.core.capacity.dispatcher import Dispatcher
    from exai_actors.core.capacity.flows import Flow
    from exai_actors.core.capacity.pools import Pool
    from exai_actors.messages.recipient import Recipient
    from exai_actors.messages.session import SessionMessage
    from exai_actors.ports import UpstreamCall

NO_SESSION = SessionId("")


class ProviderCall(ScheduledCall, gc=False, eq=False, kw_only=True):
    """``others`` asked for the very same call while it was here and share its outcome.

    ``wanted`` turns False when nobody wants it any more, though its call may still run.
    ``deadline`` is the latest of theirs: each session ends its own request in time.
    ``text_length`` counts the characters of its answer that were handed on, ``characters`` those of
    its prompt.
    """

    want: RunCall
    others: tuple[RunCall, ...] = ()
    call: UpstreamCall | None = None
    wanted: bool = True
    text_length: int = 0
    characters: float = 0.0

    @property
    def cost_so_far(self) -> float:
        """What it has probably cost if it is broken off now: its prompt and what was written."""
        return min(self.cost, self.prompt_tokens + self.text_length / 2)

    @property
    def wants(self) -> tuple[RunCall, ...]:
        """All who are to hear of it."""
        return (self.want, *self.others)

    def concerns(self, session: SessionId, request: RequestKey) -> bool:
        """Whether this request of this session is among those who wait for it."""
        want = self.want
        if want.request == request and want.session == session:
            return True
        return any(want.request == request and want.session == session for want in self.others)

    def leave(self, session: SessionId, request: RequestKey) -> None:
        """One of several who wait for it goes; the next takes the first's place."""
        first, *others = (
            want for want in self.wants if want.request != request or want.session != session
        )
        self.want = first
        self.others = tuple(others)
        self.deadline = max(want.deadline for want in self.wants)
        self.fallback_reasons = first.fallback_reasons


class SharedCalls:
    """Which calls that are waiting or running an identical one may join.

    A stream whose text has begun is joined by nobody: half a stream is no answer.
    """

    __slots__ = ("_by_call",)

    def __init__(self) -> None:
        self._by_call: dict[ChatCall, ProviderCall] = {}

    def join(self, want: RunCall) -> ProviderCall | None:
        """Add a want to the identical call that is here; None when there is none to join."""
        call_ = self._by_call.get(want.call)
        if call_ is None or not call_.wanted or (want.call.stream and call_.text_length):
            return None
        if want.if_busy is IfBusy.REFUSE and call_.call is None:
            # Who wants no waiting shares in none.
            return None
        call_.others = (*call_.others, want)
        call_.deadline = max(call_.deadline, want.deadline)
        return call_

    def open(self, call_: ProviderCall) -> None:
        """Let others join this one from now on."""
        self._by_call[call_.want.call] = call_

    def close(self, call_: ProviderCall) -> None:
        """It has ended, or a later one has taken its place."""
        if self._by_call.get(call_.want.call) is call_:
            del self._by_call[call_.want.call]


def find_live(
    dispatcher: Dispatcher[ProviderCall], session: SessionId, request: RequestKey, *, shared: bool
) -> ProviderCall | None:
    """A request that is still wanted. One that waits is found at once, others by a walk.

    ``shared``: several may wait for one that waits itself.
    """
    found = dispatcher.waiting(session, request)
    if found is not None and found.want.session == session:
        return found
    for call_ in dispatcher.all_jobs() if shared else dispatcher.granted():
        if call_.wanted and call_.concerns(session, request):
            return call_
    return None


def adopted_call(
    permit: PermitId,
    pool: Pool[ProviderCall],
    flow: Flow,
    provider: Recipient[SessionMessage],
    now: float,
) -> ProviderCall:
    """What stands for a predecessor's call that still runs: nobody here asked for it."""
    want = RunCall(RequestKey(""), NO_SESSION, ChatCall("", ()), False, provider)
    return ProviderCall(
        flow,
        want.request,
        pool,
        0.0,
        0.0,
        0.0,
        now,
        permit=permit,
        granted_at=now,
        want=want,
        wanted=False,
    )
