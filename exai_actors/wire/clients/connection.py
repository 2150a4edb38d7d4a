"""One connection's side of the protocol, without the connection: bytes in, frames out.

The caller feeds each text frame to ``receive`` and acts on what comes back; it tells the broker's
decision by ``admitted`` or ``not_admitted`` and sends the bytes it gets for it. A ``Close`` is to
be carried out at once: its frame sent, if it has one, then the socket closed with code and reason.

While the broker decides (AUTHENTICATING) frames are read as usual; the caller keeps them, as many
as it can bear, until the session exists. From then on callers may try
``fast_path.decode_common_call`` first: it changes no state.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.close_reasons import CloseReason
from exai_actors.wire.clients.codec import binary_refused, decode
from exai_actors.wire.clients.frames import (
    CallTool,
    ClientFrame,
    Dialect,
    Hello,
    Ignored,
    Initialize,
    Malformed,
    Ping,
)
from exai_actors.wire.json_encoding import to_json

MAX_HELLO_SIZE = 64 * 1024
"""Bytes of the largest first frame: nobody unknown makes us parse more."""


class State(Enum):
    """Where a connection is in its life."""

    AWAITING_HELLO = auto()
    AUTHENTICATING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class Step(Enum):
    """What moves a connection on."""

    HELLO = auto()
    REFUSE_HELLO = auto()
    ADMIT = auto()
    NOT_ADMIT = auto()
    CLOSE = auto()
    SOCKET_CLOSED = auto()


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.AWAITING_HELLO, Step.HELLO): State.AUTHENTICATING,
    (State.AWAITING_HELLO, Step.REFUSE_HELLO): State.CLOSING,
    (State.AWAITING_HELLO, Step.CLOSE): State.CLOSING,
    (State.AWAITING_HELLO, Step.SOCKET_CLOSED): State.CLOSED,
    (State.AUTHENTICATING, Step.ADMIT): State.OPEN,
    (State.AUTHENTICATING, Step.REFUSE_HELLO): State.CLOSING,
    (State.AUTHENTICATING, Step.NOT_ADMIT): State.CLOSING,
    (State.AUTHENTICATING, Step.CLOSE): State.CLOSING,
    (State.AUTHENTICATING, Step.SOCKET_CLOSED): State.CLOSED,
    (State.OPEN, Step.CLOSE): State.CLOSING,
    (State.OPEN, Step.SOCKET_CLOSED): State.CLOSED,
    (State.CLOSING, Step.SOCKET_CLOSED): State.CLOSED,
}


# Looking a member up on its Enum costs as much as reading a field of the frame.
_OPEN, _AUTHENTICATING = State.OPEN, State.AUTHENTICATING


class IllegalStep(Exception):
    """The connection is in no state for this; nothing was changed."""


class Close(msgspec.Struct, frozen=True):
    """Send ``frame`` if there is one, then close the socket."""

    code: int
    reason: str
    frame: bytes | None = None


class Connection:
    """The state of one connection. Raises IllegalStep for what cannot happen in that state."""

    def __init__(self) -> None:
        self.state = State.AWAITING_HELLO
        self._initialize: Initialize | None = None

    def receive(self, data: bytes) -> ClientFrame | Close:
        """What the text frame ``data`` asks for. Frames after the end are Ignored."""
        if self.state is _OPEN or self.state is _AUTHENTICATING:
            frame = decode(data)
            if type(frame) is CallTool:
                return frame
            return _second_hello(frame) if isinstance(frame, Hello | Initialize) else frame
        if self.state is State.AWAITING_HELLO:
            return self._first(data)
        return Ignored()

    def receive_binary(self, size: int) -> ClientFrame | Close:
        """What a binary frame of ``size`` bytes, which the protocol does not use, comes to."""
        if self.state is State.AWAITING_HELLO:
            return self._refuse_hello(CloseReason.INVALID_HELLO, "invalid_hello")
        if self.state in (State.CLOSING, State.CLOSED):
            return Ignored()
        return binary_refused(size)

    def admitted(self, session_id: str) -> bytes:
        """The frame that tells the client that it is in: hello_ack or the initialize result."""
        self._step(Step.ADMIT)
        if self._initialize is not None:
            return encode.initialize_result(
                self._initialize.reply, self._initialize.protocol_version, session_id
            )
        return to_json({"op": "hello_ack", "ok": True, "session_id": session_id})

    def not_admitted(self, error: str, message: str = "") -> Close:
        """``error`` is the word for ``hello_ack.error``; ``unauthorized`` has its own code."""
        self._step(Step.NOT_ADMIT)
        close = CloseReason.NOT_ADMITTED
        code = ErrorCode.OVER_CAPACITY
        if error == "unauthorized":
            close, code = CloseReason.UNAUTHORIZED, ErrorCode.UNAUTHORIZED
        elif error == "draining":
            close, code = CloseReason.GOING_AWAY, ErrorCode.DRAINING
        if self._initialize is not None:
            body = ErrorBody(code, message or error)
            frame = encode.error(self._initialize.reply, body)
        else:
            frame = _hello_refused(error, message)
        return Close(close.code, close.reason, frame)

    def hello_timed_out(self) -> Close:
        """For too long the client said nothing, or nobody answered what it said."""
        self._step(Step.REFUSE_HELLO)
        return Close(CloseReason.HELLO_TIMEOUT.code, CloseReason.HELLO_TIMEOUT.reason)

    def close(self, reason: CloseReason) -> Close:
        """End the connection for ``reason``, from any state before CLOSING."""
        self._step(Step.CLOSE)
        return Close(reason.code, reason.reason)

    def socket_closed(self) -> None:
        """The socket is gone, whoever closed it."""
        self._step(Step.SOCKET_CLOSED)

    def _step(self, step: Step) -> None:
        after = TRANSITIONS.get((self.state, step))
        if after is None:
            raise IllegalStep(f"{step.name} in state {self.state.name}")
        self.state = after

    def _first(self, data: bytes) -> ClientFrame | Close:
        if len(data) > MAX_HELLO_SIZE:
            return self._refuse_hello(CloseReason.INVALID_HELLO, "invalid_hello")
        frame = decode(data)
        match frame:
            case Hello():
                self._step(Step.HELLO)
                return frame
            case Initialize():
                self._step(Step.HELLO)
                self._initialize = frame
                return frame
            case Ping() if frame.reply.dialect is Dialect.RPC:
                return frame
            case Malformed() if frame.error.code is ErrorCode.VALIDATION_ERROR:
                return self._refuse_hello(CloseReason.INVALID_HELLO, "invalid_hello")
            case _:
                return self._refuse_hello(CloseReason.MISSING_HELLO, "missing_hello")

    def _refuse_hello(self, reason: CloseReason, error: str) -> Close:
        self._step(Step.REFUSE_HELLO)
        return Close(reason.code, reason.reason, _hello_refused(error, ""))


def _hello_refused(error: str, message: str) -> bytes:
    frame = {"op": "hello_ack", "ok": False, "error": error}
    if message:
        frame["message"] = message
    return to_json(frame)


def _second_hello(frame: Hello | Initialize) -> Malformed:
    word = "hello" if isinstance(frame, Hello) else "initialize"
    return Malformed(
        frame.reply,
        ErrorBody(
            ErrorCode.PROTOCOL_ERROR,
            f"Unexpected {word}: this connection has a session already",
            {"operation": word},
        ),
    )
