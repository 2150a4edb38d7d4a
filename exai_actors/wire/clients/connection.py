"""The state machine of one client connection: bytes in, frames out, no input or output.

A connection moves through its states in one direction::

    AWAITING_HELLO --HELLO--> AUTHENTICATING --ADMIT--> OPEN
          |                         |                    |
    REJECT_HELLO, CLOSE   REJECT_HELLO, REFUSE, CLOSE   CLOSE
          |                         |                    |
          +-------------------------+--------------------+--> CLOSED

AWAITING_HELLO
    The first frame must be a hello or an ``initialize``. A JSON-RPC ping may precede it.
AUTHENTICATING
    The broker decides on the hello. Frames that the client sent right after it are decoded.
OPEN
    The client has a session.
CLOSED
    The protocol has ended. Frames that still arrive are Ignored.

``TRANSITIONS`` is the whole machine. Events that it lacks raise IllegalTransition and change
nothing.

The caller must

- pass each text frame to ``receive`` and the size of each binary frame to ``receive_binary``, in
  order, and act on the results;
- carry out a ``Close`` immediately: send its frame, if any, then close the socket;
- after a Hello or Initialize, get the broker's decision, report it by ``admit`` or ``refuse``, and
  send the resulting bytes;
- until then keep the decoded frames, as many as it can afford;
- call ``time_out_hello`` if the connection is not OPEN in time.

A lost socket is not an event: the caller drops the object. While the connection is OPEN, the caller
may try ``fast_path.decode_common_call`` before ``receive``; it changes no state.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.close_reasons import CloseReason
from exai_actors.wire.clients.codec import decode, refuse_binary
from exai_actors.wire.clients.frames import (
    ClientFrame,
    Hello,
    Ignored,
    Initialize,
    Malformed,
    Ping,
)
from exai_actors.wire.json_encoding import to_json

MAX_HELLO_SIZE = 64 * 1024
"""Bytes of the largest first frame, which comes from an unknown client."""


class State(Enum):
    """The state of a connection; see the module."""

    AWAITING_HELLO = auto()
    AUTHENTICATING = auto()
    OPEN = auto()
    CLOSED = auto()


class Event(Enum):
    """A cause of a transition."""

    HELLO = auto()
    """The client has sent a valid first frame."""
    REJECT_HELLO = auto()
    """The first frame was no hello, or it or the decision on it did not come in time."""
    ADMIT = auto()
    REFUSE = auto()
    """The broker does not admit the client."""
    CLOSE = auto()
    """The broker ends the connection for any other reason."""


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.AWAITING_HELLO: {
        Event.HELLO: State.AUTHENTICATING,
        Event.REJECT_HELLO: State.CLOSED,
        Event.CLOSE: State.CLOSED,
    },
    State.AUTHENTICATING: {
        Event.ADMIT: State.OPEN,
        Event.REJECT_HELLO: State.CLOSED,
        Event.REFUSE: State.CLOSED,
        Event.CLOSE: State.CLOSED,
    },
    State.OPEN: {Event.CLOSE: State.CLOSED},
    State.CLOSED: {},
}


class IllegalTransition(Exception):
    """The event is not possible in this state; nothing was changed."""


class Close(msgspec.Struct, frozen=True):
    """Send ``frame``, if any, then close the socket with ``code`` and ``reason``."""

    code: int
    reason: str
    frame: bytes | None = None


class Connection:
    """The state of one connection. Its methods raise IllegalTransition; see the module."""

    def __init__(self) -> None:
        self.state = State.AWAITING_HELLO
        self._initialize: Initialize | None = None

    def receive(self, data: bytes) -> ClientFrame | Close:
        """Decode the text frame ``data``."""
        match self.state:
            case State.CLOSED:
                return Ignored()
            case State.AWAITING_HELLO:
                return self._receive_first(data)
        frame = decode(data)
        return _second_hello(frame) if isinstance(frame, Hello | Initialize) else frame

    def receive_binary(self, size: int) -> Malformed | Ignored | Close:
        """Refuse a binary frame of ``size`` bytes; the protocol has none."""
        match self.state:
            case State.CLOSED:
                return Ignored()
            case State.AWAITING_HELLO:
                problem = "a binary frame came first"
                return self._reject_hello(CloseReason.INVALID_HELLO, "invalid_hello", problem)
        return refuse_binary(size)

    def admit(self, session_id: str, *, resumed: bool = False, resume: str | None = None) -> bytes:
        """Open the connection; return the hello_ack or the result of ``initialize``.

        ``resumed``: the session was there before. ``resume`` is the secret by which others join it.
        """
        self._transition(Event.ADMIT)
        if self._initialize is not None:
            return encode.initialize_result(
                self._initialize.reply, self._initialize.protocol_version, session_id
            )
        ack = {"op": "hello_ack", "ok": True, "session_id": session_id, "resumed": resumed}
        return to_json(ack if resume is None else ack | {"resume": resume})

    def refuse(self, error: str, message: str = "") -> Close:
        """Refuse the client. ``error`` is the word for ``hello_ack.error``."""
        self._transition(Event.REFUSE)
        close, code = _REFUSALS.get(error, (CloseReason.NOT_ADMITTED, ErrorCode.OVER_CAPACITY))
        if self._initialize is not None:
            frame = encode.error(self._initialize.reply, ErrorBody(code, message or error))
        else:
            frame = _negative_ack(error, message)
        return Close(close.code, close.reason, frame)

    def time_out_hello(self) -> Close:
        """End a connection whose hello, or the decision on it, did not come in time."""
        self._transition(Event.REJECT_HELLO)
        return Close(CloseReason.HELLO_TIMEOUT.code, CloseReason.HELLO_TIMEOUT.reason)

    def close(self, reason: CloseReason) -> Close:
        """End the connection."""
        self._transition(Event.CLOSE)
        return Close(reason.code, reason.reason)

    def _transition(self, event: Event) -> None:
        after = TRANSITIONS[self.state].get(event)
        if after is None:
            raise IllegalTransition(f"{event.name} in state {self.state.name}")
        self.state = after

    def _receive_first(self, data: bytes) -> ClientFrame | Close:
        if len(data) > MAX_HELLO_SIZE:
            problem = f"the first frame has {len(data)} bytes, at most {MAX_HELLO_SIZE} are allowed"
            return self._reject_hello(CloseReason.INVALID_HELLO, "invalid_hello", problem)
        frame = decode(data)
        match frame:
            case Hello():
                self._transition(Event.HELLO)
                return frame
            case Initialize():
                self._transition(Event.HELLO)
                self._initialize = frame
                return frame
            case Ping() if frame.reply.dialect == "json-rpc":
                return frame
            case Malformed() if frame.error.code is ErrorCode.VALIDATION_ERROR:
                problem = "the first frame is not JSON"
                return self._reject_hello(CloseReason.INVALID_HELLO, "invalid_hello", problem)
            case Ignored():
                return self._reject_hello(CloseReason.MISSING_HELLO, "missing_hello", _NO_HELLO)
            case _ if frame.reply.dialect == "json-rpc":
                self._transition(Event.REJECT_HELLO)
                reason = CloseReason.MISSING_HELLO
                body = ErrorBody(ErrorCode.PROTOCOL_ERROR, f"{_NO_HELLO}; {_HOW_TO_INITIALIZE}")
                return Close(reason.code, reason.reason, encode.error(frame.reply, body))
            case _:
                return self._reject_hello(CloseReason.MISSING_HELLO, "missing_hello", _NO_HELLO)

    def _reject_hello(self, reason: CloseReason, error: str, problem: str) -> Close:
        self._transition(Event.REJECT_HELLO)
        frame = _negative_ack(error, f"{problem}; {_HOW_TO_BEGIN}")
        return Close(reason.code, reason.reason, frame)


_NO_HELLO = "the first frame is not a hello"
_HOW_TO_INITIALIZE = (
    'begin with {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}, and a token in '
    "the header Authorization of the handshake"
)
_HOW_TO_BEGIN = (
    'begin with {"op": "hello", "token": "YOUR-TOKEN"} (without token if the broker needs none), '
    'or with the method "initialize" of JSON-RPC'
)


_REFUSALS = {
    "unauthorized": (CloseReason.UNAUTHORIZED, ErrorCode.UNAUTHORIZED),
    "draining": (CloseReason.GOING_AWAY, ErrorCode.DRAINING),
    "internal_error": (CloseReason.INTERNAL, ErrorCode.INTERNAL_ERROR),
}


def _negative_ack(error: str, message: str) -> bytes:
    frame = {"op": "hello_ack", "ok": False, "error": error}
    if message:
        frame["message"] = message
    return to_json(frame)


def _second_hello(frame: Hello | Initialize) -> Malformed:
    operation = "hello" if isinstance(frame, Hello) else "initialize"
    return Malformed(
        frame.reply,
        ErrorBody(
            ErrorCode.PROTOCOL_ERROR,
            f"Unexpected {operation}: this connection has a session already",
            {"operation": operation},
        ),
    )
