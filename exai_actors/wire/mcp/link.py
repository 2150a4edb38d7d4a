"""Calls the tools of a broker over one of its connections, in its JSON-RPC dialect.

The connection may be lost and found again: calls without an answer are then sent once more, under
the same ``idempotency_key``, so that one that has ended meanwhile does not run twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.json_encoding import to_json
from exai_actors.wire.mcp import messages

MAX_SENDS = 2
"""How often a call is sent: once, and once more after the connection was lost."""


class CallEnd(msgspec.Struct, frozen=True):
    """The end of a call: the broker's ``result`` of ``tools/call``, or an error."""

    result: dict[str, Any] | None = None
    error: ErrorBody | None = None


class Call:
    """A call at the broker. ``ended`` is called exactly once, ``moved`` whenever its state changes.

    While it waits, ``position`` counts from 1 in the provider's queue, and ``reason`` says which
    limit it waits for.
    """

    __slots__ = (
        "arguments",
        "began_at",
        "ended",
        "estimate_s",
        "key",
        "moved",
        "position",
        "reason",
        "sends",
        "tool",
        "trace",
    )

    def __init__(
        self, key: int, tool: str, arguments: dict[str, Any], began_at: float, trace: dict[str, str]
    ) -> None:
        self.key = key
        self.tool = tool
        self.arguments = arguments
        self.began_at = began_at
        self.trace = trace
        self.ended: Callable[[CallEnd], None] = _ignore
        self.moved: Callable[[], None] = _do_nothing
        self.sends = 0
        self.position: int | None = None
        self.estimate_s: float | None = None
        self.reason: dict[str, Any] | None = None

    @property
    def model(self) -> str:
        return str(self.arguments.get("model") or "")


class Line(Protocol):
    """Sends frames to the broker; lets them wait, or drops them, while there is no connection."""

    def send(self, frame: bytes, /) -> None: ...


class _Frame(msgspec.Struct, gc=False):
    op: str | None = None
    ok: bool | None = None
    error: Any = None
    message: str = ""
    id: Any = None
    method: str | None = None
    params: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Frame).decode


class BrokerLink:
    """The calls of one client, and the state of its connection to the broker.

    ``session_id`` is a name that cannot be guessed, so that it needs no secret to be resumed.
    ``on_ready`` and ``on_refused`` are called with each answer to the hello.
    """

    def __init__(self, line: Line, session_id: str, token: str | None) -> None:
        self.on_ready: Callable[[], None] = _do_nothing
        self.on_refused: Callable[[str, str], None] = lambda _word, _message: None
        self.is_ready = False
        self._line = line
        self._session_id = session_id
        self._token = token
        self._calls: dict[int, Call] = {}
        self._next = 1

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls without an answer, the oldest first."""
        return tuple(self._calls.values())

    def call(self, tool: str, arguments: dict[str, Any], now: float, trace: dict[str, str]) -> Call:
        """Begin a call; set its callbacks before the next frame is received."""
        call = Call(self._next, tool, arguments, now, trace)
        self._next += 1
        self._calls[call.key] = call
        if self.is_ready:
            self._send(call)
        return call

    def cancel(self, call: Call) -> None:
        """Forget a call, which gets no end any more, and cancel it at the broker."""
        if self._calls.pop(call.key, None) is not None and self.is_ready and call.sends:
            params = {"requestId": call.key}
            self._line.send(messages.notification("notifications/cancelled", params))

    def opened(self) -> None:
        """There is a new connection: introduce this client."""
        hello: dict[str, Any] = {"op": "hello", "session_id": self._session_id}
        if self._token:
            hello["token"] = self._token
        self._line.send(to_json(hello))

    def received(self, data: bytes) -> None:
        """Handle a frame of the broker; one that is none of its frames is ignored."""
        try:
            frame = _decode(data)
        except msgspec.DecodeError:
            return
        if frame.op == "hello_ack":
            self._hello_answered(frame)
        elif frame.method == "notifications/progress":
            self._progress(frame.params or {})
        elif type(frame.id) is int and (call := self._calls.get(frame.id)) is not None:
            del self._calls[frame.id]
            call.ended(_end_of(frame))

    def lost(self) -> None:
        """The connection is gone; ``opened`` may follow."""
        self.is_ready = False
        for call in self.calls:
            if call.sends >= MAX_SENDS:
                text = "the connection to the broker was lost twice while this request ran"
                self.fail(call, ErrorBody(ErrorCode.SERVICE_UNAVAILABLE, text))

    def fail(self, call: Call, error: ErrorBody) -> None:
        """End a call without the broker's answer."""
        if self._calls.pop(call.key, None) is not None:
            call.ended(CallEnd(error=error))

    def fail_all(self, error: ErrorBody) -> None:
        for call in self.calls:
            self.fail(call, error)

    def _hello_answered(self, frame: _Frame) -> None:
        if not frame.ok:
            self.on_refused(str(frame.error), frame.message)
            return
        self.is_ready = True
        for call in self.calls:
            self._send(call)
        self.on_ready()

    def _send(self, call: Call) -> None:
        call.sends += 1
        params = {
            "name": call.tool,
            "arguments": call.arguments,
            "idempotency_key": f"{self._session_id}-{call.key}",
            "_meta": {"progressToken": call.key, **call.trace},
        }
        self._line.send(messages.request(call.key, "tools/call", params))

    def _progress(self, params: dict[str, Any]) -> None:
        token = params.get("progressToken")
        call = self._calls.get(token) if type(token) is int else None
        if call is None:
            return
        meta = messages.object_in(params, "_meta")
        position, estimate_s = meta.get("position"), meta.get("estimate_s")
        call.position = position if type(position) is int else None
        call.estimate_s = float(estimate_s) if isinstance(estimate_s, int | float) else None
        call.reason = messages.object_in(meta, "waits_for") or None
        call.moved()


def _end_of(frame: _Frame) -> CallEnd:
    if frame.result is not None:
        return CallEnd(result=frame.result)
    error = frame.error if type(frame.error) is dict else {}
    data = messages.object_in(error, "data")
    details = {key: value for key, value in data.items() if key != "code"}
    try:
        code = ErrorCode(str(data.get("code")))
    except ValueError:
        code = ErrorCode.INTERNAL_ERROR
    return CallEnd(error=ErrorBody(code, str(error.get("message", "")), details or None))


def _ignore(_: CallEnd) -> None: ...


def _do_nothing() -> None: ...
