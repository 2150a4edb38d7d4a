"""A request at its provider together with those who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exai_actors.core.calls import ChatCall, IfBusy
from exai_actors.core.capacity.jobs import Job
from exai_actors.ids import PermitId, RequestKey, SessionId
from exai_actors.messages.provider import Want

if TYPE_CHECKING:
    from exai_actors.core.capacity.dispatcher import Dispatcher
    from exai_actors.core.capacity.flows import Flow
    from exai_actors.core.capacity.pools import Pool
    from exai_actors.messages.recipient import Recipient
    from exai_actors.messages.session import SessionMessage
    from exai_actors.ports import UpstreamCall

NOBODY = SessionId("")


class Asked(Job, gc=False, eq=False, kw_only=True):
    """``others`` asked for the very same call while it was here and share its outcome.

    ``wanted`` turns False when nobody wants it any more, though its call may still run.
    ``deadline`` is the latest of theirs: each session ends its own request in time.
    ``text_length`` counts the characters of its answer that were handed on, ``characters`` those of
    its prompt.
    """

    want: Want
    others: tuple[Want, ...] = ()
    call: UpstreamCall | None = None
    wanted: bool = True
    text_length: int = 0
    characters: float = 0.0

    @property
    def cost_so_far(self) -> float:
        """What it has probably cost if it is broken off now: its prompt and what was written."""
        return min(self.cost, self.prompt_tokens + self.text_length / 2)

    @property
    def wants(self) -> tuple[Want, ...]:
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
        self.elsewhere = first.elsewhere


class SharedCalls:
    """Which calls that are waiting or running an identical one may join.

    A stream whose text has begun is joined by nobody: half a stream is no answer.
    """

    __slots__ = ("_by_call",)

    def __init__(self) -> None:
        self._by_call: dict[ChatCall, Asked] = {}

    def join(self, want: Want) -> Asked | None:
        """Add a want to the identical call that is here; None when there is none to join."""
        asked = self._by_call.get(want.call)
        if asked is None or not asked.wanted or (want.call.stream and asked.text_length):
            return None
        if want.if_busy is IfBusy.REFUSE and asked.call is None:
            # Who wants no waiting shares in none.
            return None
        asked.others = (*asked.others, want)
        asked.deadline = max(asked.deadline, want.deadline)
        return asked

    def open(self, asked: Asked) -> None:
        """Let others join this one from now on."""
        self._by_call[asked.want.call] = asked

    def close(self, asked: Asked) -> None:
        """It has ended, or a later one has taken its place."""
        if self._by_call.get(asked.want.call) is asked:
            del self._by_call[asked.want.call]


def find_wanted(
    dispatcher: Dispatcher[Asked], session: SessionId, request: RequestKey, *, shared: bool
) -> Asked | None:
    """A request that is still wanted. One that waits is found at once, others by a walk.

    ``shared``: several may wait for one that waits itself.
    """
    found = dispatcher.waiting(session, request)
    if found is not None and found.want.session == session:
        return found
    for asked in dispatcher.all_jobs() if shared else dispatcher.granted():
        if asked.wanted and asked.concerns(session, request):
            return asked
    return None


def left_over(
    permit: PermitId,
    pool: Pool[Asked],
    flow: Flow,
    provider: Recipient[SessionMessage],
    now: float,
) -> Asked:
    """What stands for a predecessor's call that still runs: nobody here asked for it."""
    want = Want(RequestKey(""), NOBODY, ChatCall("", ()), False, provider)
    return Asked(
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
