"""The messages to a SessionActor: from its connections, the broker and providers.

In those from providers ``request`` is the key of the run that the provider was sent.
"""

from __future__ import annotations

from math import inf
from typing import ClassVar, final

import msgspec

from exai_actors.core.calls import Completion, UpstreamFailure
from exai_actors.core.capacity.changes import Arrangement
from exai_actors.core.wait_reasons import WaitReason
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId, ProviderName, RequestKey
from exai_actors.messages.connection import ClientMessage
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session_requests import SessionRequest


class Attach(msgspec.Struct, frozen=True, gc=False):
    """A connection joins the session, and is sent Admitted with ``resumed`` and ``resume``."""

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId
    connection: Recipient[ClientMessage]
    resumed: bool = False
    resume: str | None = None


class Detach(msgspec.Struct, frozen=True, gc=False):
    """A connection has ended. Requests that only it waits for are aborted or finished."""

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """The provider has no free permit; the request is queued."""

    refusable: ClassVar[bool] = False
    request: RequestKey


class Queued(msgspec.Struct, frozen=True, gc=False):
    """The place of a queued request; ``position`` counts from 1 in the order of service.

    ``reason`` is that of the wait.
    """

    refusable: ClassVar[bool] = False
    request: RequestKey
    position: int
    estimate_s: float | None
    reason: WaitReason | None = None


@final
class Granted(msgspec.Struct, frozen=True, gc=False):
    """The request has a permit, and its upstream call is started."""

    refusable: ClassVar[bool] = False
    request: RequestKey


@final
class Completed(msgspec.Struct, frozen=True, gc=False):
    """The whole answer, from the last of ``attempts``, which got its permit at ``granted_at``."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    completion: Completion
    granted_at: float = inf
    attempts: int = 1


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The upstream call ended without an answer.

    ``would_wait``: another attempt would have to wait at this provider, and the call has a fallback
    that takes it instead. The last of ``attempts`` got its permit at ``granted_at``.
    """

    refusable: ClassVar[bool] = False
    request: RequestKey
    failure: UpstreamFailure
    would_wait: bool = False
    granted_at: float = inf
    attempts: int = 1


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The provider refused the request; nothing was sent upstream, or ``attempts`` have failed.

    ``reason`` is a value for the ``on`` of a route: ``busy``, ``circuit_open``, ``unreachable``
    (also for a provider that is drained or paused). ``would_wait``: it is refused because it would
    have waited, which a route also calls ``busy``.
    """

    refusable: ClassVar[bool] = False
    request: RequestKey
    error: ErrorBody
    reason: str = "busy"
    would_wait: bool = True
    attempts: int = 0


class Returned(msgspec.Struct, frozen=True, gc=False):
    """The provider's actor has failed. Without an error, the call was not sent to the service.

    The session then sends it to the next incarnation; otherwise the request ends with the error.
    """

    refusable: ClassVar[bool] = False
    request: RequestKey
    error: ErrorBody | None = None


class ProviderLost(msgspec.Struct, frozen=True, gc=False):
    """From the session to itself: those of ``runs`` that the provider has not returned are lost.

    It comes behind the last messages of the provider, which the notice of its end overtakes.
    """

    refusable: ClassVar[bool] = False
    provider: ProviderName
    runs: tuple[RequestKey, ...]


class ProviderDecided(msgspec.Struct, frozen=True, gc=False):
    """The provider has been started again, or will not be soon."""

    refusable: ClassVar[bool] = False
    provider: ProviderName


class DeadlinesDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. End the requests whose deadline has passed."""


class EndRequest(msgspec.Struct, frozen=True, gc=False):
    """Cancel a request for all its clients, by the word of an operator.

    Sent as an ask, with the request's number in the session: the reply is None, or why not.
    """

    refusable: ClassVar[bool] = False
    number: int
    reason: str


class ArrangeRequest(msgspec.Struct, frozen=True, gc=False):
    """Have a request that is queued at its provider moved to the front, held or released.

    Sent as an ask, as EndRequest.
    """

    refusable: ClassVar[bool] = False
    number: int
    how: Arrangement


class EndSession(msgspec.Struct, frozen=True, gc=False):
    """Cancel all requests, close the connections and end, by the word of an operator."""

    refusable: ClassVar[bool] = False
    reason: str


class UnreadDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. While the session is suspended: end the requests that expire in its mailbox."""

    refusable: ClassVar[bool] = False


class ShrinkKept(msgspec.Struct, frozen=True, gc=False):
    """Keep at most ``size`` bytes of outcomes and conversations: all sessions keep too much."""

    refusable: ClassVar[bool] = False
    size: int


class LimitText(msgspec.Struct, frozen=True, gc=False):
    """If the process ``is_short`` of memory, refuse new requests while others are in flight."""

    refusable: ClassVar[bool] = False
    is_short: bool


SessionMessage = (
    SessionRequest
    | Attach
    | Detach
    | Enqueued
    | Queued
    | Granted
    | Completed
    | Failed
    | Refused
    | Returned
    | ProviderLost
    | ProviderDecided
    | DeadlinesDue
    | UnreadDue
    | EndRequest
    | ArrangeRequest
    | EndSession
    | ShrinkKept
    | LimitText
)
