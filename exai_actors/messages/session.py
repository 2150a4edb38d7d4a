"""What a SessionActor is told: by its connections, by the broker, by providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import msgspec

from exai_actors.core.calls import Completion, IfBusy, UpstreamFailure
from exai_actors.core.tools.table import ToolRequest
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId, RequestKey
from exai_actors.messages.recipient import Recipient

if TYPE_CHECKING:
    from exai_actors.messages.connection import ConnectionMessage


class Attach(msgspec.Struct, frozen=True, gc=False):
    """A connection joins; answered to it by Admitted."""

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId
    connection: Recipient[ConnectionMessage]


class Detach(msgspec.Struct, frozen=True, gc=False):
    """A connection is gone: what only it waits for is aborted, or finished for who comes back."""

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId


@final
class Submit(msgspec.Struct, frozen=True, gc=False):
    """One request; answered by exactly one RequestEnded to each connection that asked for it.

    ``fingerprint`` tells this call from any other under the same id.
    ``repeatable`` is False for a request without an id of the client's: it is not remembered.
    ``deadline_ms`` counts from now. ``reports_progress`` asks for RequestAccepted, RequestQueued
    and RequestGranted, ``stream`` for RequestChunk. ``if_busy`` says what to do when the request
    cannot run at once. Requests of one ``idempotency_key`` are one call with one outcome.
    """

    request: RequestKey
    call: ToolRequest
    fingerprint: int
    connection_id: ConnectionId
    repeatable: bool = True
    stream: bool = False
    reports_progress: bool = False
    deadline_ms: float | None = None
    priority: int = 0
    if_busy: IfBusy = IfBusy.WAIT_IN_TIME
    idempotency_key: RequestKey | None = None


class CancelRequest(msgspec.Struct, frozen=True, gc=False):
    """A connection no longer wants this request; it gets its outcome all the same if it waited.

    A request that nobody waits for is aborted whoever says so.
    """

    request: RequestKey
    connection_id: ConnectionId


class PauseStreams(msgspec.Struct, frozen=True, gc=False):
    """This connection's reader has fallen behind."""

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId


class ResumeStreams(msgspec.Struct, frozen=True, gc=False):
    """This connection's reader has caught up."""

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """The provider has no free permit and has let the request wait."""

    refusable: ClassVar[bool] = False
    request: RequestKey


class Queued(msgspec.Struct, frozen=True, gc=False):
    """Where the waiting request stands; ``position`` counts from 1 in the order of service."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    position: int
    estimate_s: float | None


@final
class Granted(msgspec.Struct, frozen=True, gc=False):
    """The request holds a permit and its upstream call is started."""

    refusable: ClassVar[bool] = False
    request: RequestKey


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer of a streaming call."""

    request: RequestKey
    text: str


@final
class Completed(msgspec.Struct, frozen=True, gc=False):
    """The whole answer."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    completion: Completion


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The upstream call ended without an answer."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    failure: UpstreamFailure


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The provider did not take the request; nothing was sent upstream.

    ``reason`` is the word for it in the ``on`` of a route: ``busy``, ``circuit_open``,
    ``unreachable`` (also for a provider that is drained or paused).
    """

    refusable: ClassVar[bool] = False
    request: RequestKey
    error: ErrorBody
    reason: str = "busy"


class DeadlinesDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Time to look for requests whose deadline has passed."""


RareSessionMessage = (
    Attach
    | Detach
    | CancelRequest
    | PauseStreams
    | ResumeStreams
    | Enqueued
    | Queued
    | Chunk
    | Failed
    | Refused
    | DeadlinesDue
)
SessionMessage = Submit | Granted | Completed | RareSessionMessage
