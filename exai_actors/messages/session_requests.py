"""The part of a session's messages that its connections send.

Kept apart from the rest because a connection refers to its session by these, and a session refers
to its connections: neither module has to import the other.
"""

from __future__ import annotations

from typing import ClassVar, final

import msgspec

from exai_actors.core.calls import IfBusy
from exai_actors.core.tools.table import ToolRequest
from exai_actors.ids import ConnectionId, RequestKey


@final
class Submit(msgspec.Struct, frozen=True, gc=False):
    """One request; answered by exactly one RequestEnded to each connection that asked for it.

    ``fingerprint`` tells this call from any other under the same id.
    ``deadline_ms`` counts from now. ``reports_progress`` asks for RequestAccepted, RequestQueued
    and RequestGranted, ``stream`` for RequestChunk. ``if_busy`` says what to do when the request
    cannot run at once. Requests of one ``idempotency_key`` are one call with one outcome.
    """

    request: RequestKey
    call: ToolRequest
    fingerprint: int
    connection_id: ConnectionId
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


SessionRequest = Submit | CancelRequest | PauseStreams | ResumeStreams
