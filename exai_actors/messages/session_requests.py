"""The part of a session's messages that its connections send.

Kept apart from the rest because a connection refers to its session by these, and a session refers
to its connections: neither module has to import the other.
"""

from __future__ import annotations

from typing import ClassVar, final

import msgspec

from exai_actors.core.calls import CallOptions
from exai_actors.core.tools.table import ToolRequest
from exai_actors.ids import ConnectionId, RequestKey


@final
class Submit(msgspec.Struct, frozen=True, gc=False):
    """A request. Each connection that sends it gets exactly one RequestEnded.

    Before that RequestAccepted, RequestQueued and RequestGranted if the options say
    ``reports_progress``, and RequestChunk if the call streams.
    """

    connection_id: ConnectionId
    request: RequestKey
    arguments: ToolRequest
    options: CallOptions


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
