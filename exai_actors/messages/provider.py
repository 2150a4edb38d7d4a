"""What a ProviderActor is told.

All of it travels in order on the user lane except where a docstring says system lane. Messages
marked ``refusable = False`` are bounded by what was accepted before and are never refused.
"""

from __future__ import annotations

from math import inf
from typing import ClassVar, final

import msgspec

from exai_actors.core.calls import CallOptions, ChatCall, UpstreamFailure, UpstreamResult
from exai_actors.core.capacity.changes import Change
from exai_actors.ids import DEFAULT_TENANT, PermitId, RequestKey, SessionId, TenantName
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import SessionMessage


@final
class RunCall(msgspec.Struct, frozen=True, gc=False):
    """Run a call for a session; answered by exactly one Completed, Failed or Refused.

    Before that Enqueued, Queued and Granted if the options say ``reports_progress``, and Chunk if
    the call streams. ``deadline`` is an instant in monotonic seconds; after it, and after a
    CancelCall, the answer may be missing. For the reasons in ``fallback_reasons`` the session
    prefers another provider to waiting or a retry here.
    """

    request: RequestKey
    session: SessionId
    call: ChatCall
    options: CallOptions
    reply_to: Recipient[SessionMessage]
    deadline: float = inf
    tenant: TenantName = DEFAULT_TENANT
    fallback_reasons: frozenset[str] = frozenset()


class CancelCall(msgspec.Struct, frozen=True, gc=False):
    """The session has ended this request; a queued one leaves, a running one is aborted."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    session: SessionId


class PauseStream(msgspec.Struct, frozen=True, gc=False):
    """The reader of this stream has fallen behind: stop reading from the upstream."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    session: SessionId


class ResumeStream(msgspec.Struct, frozen=True, gc=False):
    """The reader has caught up."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    session: SessionId


class UpstreamChunk(msgspec.Struct, frozen=True, gc=False):
    """Text of the answer arrived. Only for streaming calls; never empty."""

    permit: PermitId
    text: str


@final
class UpstreamEnded(msgspec.Struct, frozen=True, gc=False):
    """The upstream call has really ended: exactly once for each started call, after its chunks.

    ``hold_s`` is for how long the provider wants no further call, if it said so beside an answer.
    ``cut_off``: our side closed the connection before the service had finished the call, so the
    service may count it for a little longer.
    """

    refusable: ClassVar[bool] = False
    permit: PermitId
    result: UpstreamResult
    hold_s: float | None = None
    cut_off: bool = False


class ModelsListed(msgspec.Struct, frozen=True, gc=False):
    """The upstream named the models it serves."""

    refusable: ClassVar[bool] = False
    models: tuple[str, ...]


class ModelsUnavailable(msgspec.Struct, frozen=True, gc=False):
    """The upstream could not be asked for its models."""

    refusable: ClassVar[bool] = False
    failure: UpstreamFailure


class ChangeProvider(msgspec.Struct, frozen=True, gc=False):
    """System lane. Put a change in force; ``cause`` says who wants it and why.

    Answered by one ProviderChanged, if ``reply_to`` is given.
    """

    change: Change
    cause: str
    reply_to: Recipient[ProviderChanged] | None = None


class ProviderChanged(msgspec.Struct, frozen=True, gc=False):
    """The answer: ``problem`` says why the change was not made, None that it is in force."""

    change: Change
    problem: str | None


class RefreshQueue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Time to tell the waiting their position again."""


class PumpDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Time has passed that somebody who waits was waiting for."""


class CheckDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Time to see whether permits, queue and doors are what they promise to be."""


class AskModels(msgspec.Struct, frozen=True, gc=False):
    """System lane. Time to ask the upstream for its models (again)."""


ProviderMessage = (
    RunCall
    | CancelCall
    | PauseStream
    | ResumeStream
    | UpstreamChunk
    | UpstreamEnded
    | ModelsListed
    | ModelsUnavailable
    | ChangeProvider
    | PumpDue
    | RefreshQueue
    | CheckDue
    | AskModels
)
