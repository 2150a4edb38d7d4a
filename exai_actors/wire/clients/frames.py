"""What a client can say, one type per kind of frame, whichever dialect it was said in.

Two dialects share a socket and are told apart frame by frame: the ``op`` protocol of the EX-AI
daemon and JSON-RPC 2.0 with the method names of MCP. Decoding ends in a ``ClientFrame``, so
nothing behind it knows the difference; ``reply`` carries what the answer needs to know.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, final

import msgspec

from exai_actors.core.calls import CallOptions
from exai_actors.core.tools.table import ChatRequest, ToolRequest, parse_call
from exai_actors.errors import ErrorBody
from exai_actors.ids import RequestKey


class Dialect(Enum):
    """The two ways of speaking to the broker."""

    OP = "op"
    RPC = "json-rpc"


class ProgressToken(msgspec.Struct):
    """Where a JSON-RPC client wants ``notifications/progress`` to go.

    The one mutable thing on the wire: MCP demands that ``progress`` grows with every notification
    of a request, whatever kind of progress it tells.
    """

    token: bytes
    """The token as JSON, as the client sent it."""
    sent: int = 0

    def next(self) -> int:
        """The ``progress`` of the next notification: 1, 2, 3, ..."""
        self.sent += 1
        return self.sent


class ReplyTo(msgspec.Struct, frozen=True, gc=False):
    """How to answer one frame; made by decoding, used only by ``wire.clients.encode``."""

    dialect: Dialect
    op: str
    """The ``op`` of the answer; in JSON-RPC the same word, for choosing the kind of error."""
    ids: bytes
    """The JSON members that name the request, each after a comma; empty if there is no id."""
    acks: bool = False
    """Whether more than the one final frame may be sent (protocol: ``call_tool`` with an id)."""
    progress: ProgressToken | None = None

    def aside(self) -> ReplyTo:
        """The same, for an error that must not be taken for the end of the call of that id."""
        return msgspec.structs.replace(self, op="error", acks=False)


class Hello(msgspec.Struct, frozen=True):
    """The op dialect's first frame.

    A token that is missing, null or no string is ``""``; a session id that is not of 3 to 64
    letters, digits, ``_`` and ``-`` is None.
    """

    token: str
    session_id: str | None
    reply: ReplyTo


class Initialize(msgspec.Struct, frozen=True):
    """JSON-RPC's first frame. It holds no token: one can only have come in the handshake."""

    reply: ReplyTo
    protocol_version: str
    client_name: str


class ListTools(msgspec.Struct, frozen=True):
    """Asks for the tools with their schemas."""

    reply: ReplyTo


class CallTool(msgspec.Struct, frozen=True, gc=False):
    """Asks for one tool to be run.

    ``request`` is None when the client gave no id. ``tool`` has no old spelling suffix any more,
    and may be no tool at all.
    """

    reply: ReplyTo
    request: RequestKey | None
    tool: str
    arguments: dict[str, Any]
    options: CallOptions

    def check(self) -> CheckedCall | ErrorBody:
        """Check the arguments against the tool."""
        arguments = parse_call(self.tool, self.arguments)
        if isinstance(arguments, ErrorBody):
            return arguments
        return CheckedCall(
            reply=self.reply,
            request=self.request,
            tool=self.tool,
            arguments=arguments,
            options=self.options,
        )


@final
class CheckedCall(msgspec.Struct, frozen=True, gc=False):
    """A CallTool with valid arguments; ``tool`` is still the client's name for it."""

    reply: ReplyTo
    request: RequestKey | None
    tool: str
    arguments: ToolRequest
    options: CallOptions

    @property
    def streams(self) -> bool:
        """Whether the client wants chunks."""
        arguments = self.arguments
        return isinstance(arguments, ChatRequest) and arguments.streams(self.options)


class Cancel(msgspec.Struct, frozen=True):
    """The client no longer wants the outcome of ``request``."""

    reply: ReplyTo
    request: RequestKey


class Ping(msgspec.Struct, frozen=True):
    """Asks for a pong; the only frame answered before the session exists."""

    reply: ReplyTo


class Health(msgspec.Struct, frozen=True):
    """Asks for the broker's figures."""

    reply: ReplyTo


class RotateToken(msgspec.Struct, frozen=True):
    """Asks for another token to be in force. Either is ``""`` when the frame lacked it."""

    reply: ReplyTo
    old: str
    new: str


class Ignored(msgspec.Struct, frozen=True):
    """A frame that needs neither action nor answer, such as ``notifications/initialized``."""


class Malformed(msgspec.Struct, frozen=True):
    """A frame that cannot be acted on; answer it with ``error`` and go on.

    ``request`` is the id that a call in the op dialect gave itself, where that could be made out.
    """

    reply: ReplyTo
    error: ErrorBody
    request: RequestKey | None = None


ClientFrame = (
    Hello
    | Initialize
    | ListTools
    | CallTool
    | Cancel
    | Ping
    | Health
    | RotateToken
    | Ignored
    | Malformed
)
