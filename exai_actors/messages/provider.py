"""The messages to a ProviderActor: from sessions, its upstream and operators.

They use the user lane unless the docstring says system lane. Messages with ``refusable = False``
are never refused: their number is bounded by that of the requests accepted before.
"""

from __future__ import annotations

from math import inf
from typing import ClassVar, final

import msgspec

from exai_actors.core.calls import CallOptions, UpstreamFailure, UpstreamRequest, UpstreamResult
from exai_actors.core.capacity.changes import Arrangement, Change
from exai_actors.core.session.pieces import Pieces
from exai_actors.ids import DEFAULT_TENANT, PermitId, RequestKey, SessionId, TenantName
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import SessionMessage


@final
class RunCall(msgspec.Struct, frozen=True, gc=False):
    """Run a call for a session; answered by exactly one Completed, Failed or Refused.

    Before that Enqueued, Queued and Granted if the options say ``reports_progress``. A call that
    streams has ``pieces``, to which they are written before. ``deadline`` is an instant in
    monotonic seconds; after it, and after a CancelCall, the answer may be missing. For the reasons
    in ``fallback_reasons`` the session prefers another provider to waiting or a retry here.
    """

    request: RequestKey
    session: SessionId
    call: UpstreamRequest
    options: CallOptions
    reply_to: Recipient[SessionMessage]
    deadline: float = inf
    tenant: TenantName = DEFAULT_TENANT
    fallback_reasons: frozenset[str] = frozenset()
    pieces: Pieces | None = None


class CancelCall(msgspec.Struct, frozen=True, gc=False):
    """The session has ended the request: remove it from the queue, or abort its upstream call."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    session: SessionId


class PauseStream(msgspec.Struct, frozen=True, gc=False):
    """The reader of the stream is far behind: stop reading from the upstream, for a while."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    session: SessionId


class ResumeStream(msgspec.Struct, frozen=True, gc=False):
    """The reader of the stream is ready again: read on from the upstream."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    session: SessionId


@final
class UpstreamEnded(msgspec.Struct, frozen=True, gc=False):
    """The upstream call has really ended: exactly once for each started call, after its pieces.

    ``hold_s`` is how long the service wants no further call, if its answer says so.
    ``cut_off``: our side closed the connection before the service had finished the call, so the
    service may count it for a little longer. ``ended_at`` is when that was seen, in monotonic
    seconds; None: now. ``first_piece_at`` is when the first piece of a streamed answer came.
    """

    refusable: ClassVar[bool] = False
    permit: PermitId
    result: UpstreamResult
    hold_s: float | None = None
    cut_off: bool = False
    ended_at: float | None = None
    first_piece_at: float | None = None


class ModelsListed(msgspec.Struct, frozen=True, gc=False):
    """The models that the service serves."""

    refusable: ClassVar[bool] = False
    models: tuple[str, ...]


class ModelsUnavailable(msgspec.Struct, frozen=True, gc=False):
    """The service could not be asked for its models."""

    refusable: ClassVar[bool] = False
    failure: UpstreamFailure


class ChangeProvider(msgspec.Struct, frozen=True, gc=False):
    """Change the capacity; ``cause`` names the operator and the reason.

    Sent as an ask: the reply is None if the change is in force, or the reason why it is not.
    """

    refusable: ClassVar[bool] = False
    change: Change
    cause: str


class ArrangeCall(msgspec.Struct, frozen=True, gc=False):
    """Move a queued request to the front, hold it or release it, for an operator."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    session: SessionId
    how: Arrangement


class ClientReturned(msgspec.Struct, frozen=True, gc=False):
    """The client of a request that may have been passed over is there again, or not awaited.

    It now waits until ``deadline``.
    """

    refusable: ClassVar[bool] = False
    request: RequestKey
    session: SessionId
    deadline: float


class RefreshQueue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Report positions to the queued requests."""


class PumpDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Grant again: a gate, hold or permit that requests wait for may be open now."""


class StallDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. End a call that has been paused for too long."""

    permit: PermitId


class RefusalsDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Refuse more of the requests that a block outlasts."""


class CheckDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Check the invariants of permits, queue and guards."""


class AskModels(msgspec.Struct, frozen=True, gc=False):
    """System lane. Ask the service for its models."""


ProviderMessage = (
    RunCall
    | CancelCall
    | PauseStream
    | ResumeStream
    | UpstreamEnded
    | ModelsListed
    | ModelsUnavailable
    | ChangeProvider
    | ArrangeCall
    | ClientReturned
    | PumpDue
    | RefreshQueue
    | RefusalsDue
    | CheckDue
    | StallDue
    | AskModels
)
