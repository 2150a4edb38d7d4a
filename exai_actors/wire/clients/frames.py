"""The frames that clients send, one type for each kind, the same for both dialects.

A connection may mix two dialects, frame by frame: the ``op`` protocol of the EX-AI daemon, and
JSON-RPC 2.0 with the methods of MCP. Both decode to a ``ClientFrame``, whose ``reply`` holds all
that encoding an answer needs.
"""

from __future__ import annotations

from typing import Any, Literal, final

import msgspec

from exai_actors.core.calls import CallOptions
from exai_actors.core.tools.table import ToolRequest, parse_call
from exai_actors.errors import ErrorBody
from exai_actors.ids import RequestKey

Dialect = Literal["op", "json-rpc"]
"""The two forms of frames."""


_CALLS = frozenset({"call_tool_res", "tools/call"})


class ProgressToken(msgspec.Struct):
    """The token of a JSON-RPC request for ``notifications/progress``, and its counter.

    The only mutable part of a frame: in MCP ``progress`` must grow with each notification of a
    request.
    """

    token: bytes
    """As JSON."""
    sent: int = 0

    def next_progress(self) -> int:
        """The ``progress`` of the next notification: 1, 2, 3, ..."""
        self.sent += 1
        return self.sent


class ReplyTo(msgspec.Struct, frozen=True, gc=False):
    """How to answer one frame. Made by the readers, used by ``wire.clients.encode`` only."""

    dialect: Dialect
    op: str
    """The ``op`` of the answer; in JSON-RPC the request's method, empty if it is unknown."""
    ids: bytes
    """The JSON members that name the request, each after a comma; empty if it has no id."""
    acks: bool = False
    """Whether frames may precede the last one (a ``call_tool`` with a ``request_id``)."""
    progress: ProgressToken | None = None

    @property
    def of_call(self) -> bool:
        """Whether the frame asks to run a tool."""
        return self.op in _CALLS

    def aside(self) -> ReplyTo:
        """A copy for an error that does not end the call with this id."""
        return msgspec.structs.replace(self, op="error", acks=False)


class Hello(msgspec.Struct, frozen=True):
    """The first frame of the op dialect.

    ``token`` is empty unless the frame has one that is a string; ``session_id`` is None unless it
    has 3 to 64 letters, digits, ``_`` and ``-``; ``resume`` is the secret for it, if any.
    """

    token: str
    session_id: str | None
    reply: ReplyTo
    resume: str | None = None


class Initialize(msgspec.Struct, frozen=True):
    """The first frame of JSON-RPC. It has no token; only the handshake can carry one."""

    reply: ReplyTo
    protocol_version: str


class ListTools(msgspec.Struct, frozen=True):
    """Asks for the tools with their schemas."""

    reply: ReplyTo


class CallTool(msgspec.Struct, frozen=True, gc=False):
    """Asks to run a tool.

    ``request`` is None without a ``request_id``. ``other_id`` is any other id, by which the call
    can be cancelled while it is in flight; clients use it again for other calls. ``tool`` is
    without old spelling suffixes, and may be the name of no tool.
    """

    reply: ReplyTo
    request: RequestKey | None
    tool: str
    arguments: dict[str, Any]
    options: CallOptions
    other_id: RequestKey | None = None

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
            other_id=self.other_id,
        )


@final
class CheckedCall(msgspec.Struct, frozen=True, gc=False):
    """A CallTool with valid arguments; ``tool`` is still the client's name for it."""

    reply: ReplyTo
    request: RequestKey | None
    tool: str
    arguments: ToolRequest
    options: CallOptions
    other_id: RequestKey | None = None


class Cancel(msgspec.Struct, frozen=True):
    """Asks to cancel the request of this name, and those that have it as their other id."""

    reply: ReplyTo
    request: RequestKey


class Ping(msgspec.Struct, frozen=True):
    """Asks for a pong; the only frame that is answered before the session exists."""

    reply: ReplyTo


class Health(msgspec.Struct, frozen=True):
    """Asks for the broker's figures."""

    reply: ReplyTo


class RotateToken(msgspec.Struct, frozen=True):
    """Asks to replace an access token. A token that the frame lacks is empty."""

    reply: ReplyTo
    old: str
    new: str


class Ignored(msgspec.Struct, frozen=True):
    """A frame without action or answer, such as ``notifications/initialized``."""


class Malformed(msgspec.Struct, frozen=True):
    """A frame that is answered with ``error`` and has no other effect.

    ``request`` is the key of a call in the op dialect, if its ``request_id`` could be read.
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
