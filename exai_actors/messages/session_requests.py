"""The messages to a SessionActor that its connections send.

They are apart from ``session`` so that ``connection``, which needs them, does not import the
module that imports it.
"""

from __future__ import annotations

from typing import ClassVar, final

import msgspec

from exai_actors.core.calls import CallOptions
from exai_actors.core.pieces import PieceSink
from exai_actors.core.tools.table import ToolRequest
from exai_actors.ids import ConnectionId, RequestKey


@final
class Submit(msgspec.Struct, frozen=True, gc=False):
    """A request. Each connection that sends it gets exactly one RequestEnded.

    Before that RequestAccepted, RequestQueued and RequestGranted if the options say
    ``reports_progress``. If the call streams, its pieces are written to the ``sink`` of one of
    them, and none after RequestEnded was sent.
    """

    connection_id: ConnectionId
    request: RequestKey
    arguments: ToolRequest
    options: CallOptions
    sink: PieceSink | None = None


class CancelRequest(msgspec.Struct, frozen=True, gc=False):
    """A connection does not need the outcome of this request any more.

    It still gets one if it waits for the request. A request without any waiter can be cancelled by
    every connection of the session.
    """

    request: RequestKey
    connection_id: ConnectionId


class ReaderFull(msgspec.Struct, frozen=True, gc=False):
    """The client reads too slowly, and the sink of this request holds as much as it may."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    connection_id: ConnectionId


class ReaderReady(msgspec.Struct, frozen=True, gc=False):
    """The sink that was full has passed everything on."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    connection_id: ConnectionId


SessionRequest = Submit | CancelRequest | ReaderFull | ReaderReady
