"""The calls of one connection that have no answer yet, and the frames that answer them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from exai_actors.actors.connection.piece_writer import Outlet, PieceWriter
from exai_actors.actors.connection.relayed_text import RelayedText
from exai_actors.core import error_bodies
from exai_actors.core.calls import Outcome
from exai_actors.core.relay import RelayRequest
from exai_actors.core.tools.table import LocalRequest
from exai_actors.core.wait_reasons import WaitReason, facts
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId, RequestKey
from exai_actors.messages.connection import RequestAccepted, RequestQueued
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.frames import CheckedCall, ReplyTo

if TYPE_CHECKING:
    from exai_actors.actors.connection.settings import ConnectionSettings
    from exai_actors.ports import Clock, Outbox

MAX_REPEATS = 8
"""Further frames with the id of a call in flight that each get its outcome."""


class PendingCall(msgspec.Struct, gc=False, eq=False):
    """A call without an answer.

    ``replies`` are for its frame and for further ones with the same id, which get the same outcome.
    ``accepted`` notes that this was reported, which happens once, even if the call is re-routed.
    ``reason`` is that of its wait, as far as it is known. ``returned``: its session has failed
    before it sent the call to a provider. ``writer`` takes the pieces of its answer, if its client
    wants them, and ``relayed`` those of a response that is relayed.
    """

    call: CheckedCall
    replies: tuple[ReplyTo, ...]
    writer: PieceWriter | None = None
    relayed: RelayedText | None = None
    accepted: bool = False
    position: int | None = None
    estimate_s: float | None = None
    reason: WaitReason | None = None
    returned: bool = False


class PendingCalls:
    """Encodes the session's messages about requests as frames for the client.

    Messages about requests that are not here are ignored: these have been answered.
    """

    __slots__ = (
        "_clock",
        "_compat_text",
        "_envelope",
        "_outbox",
        "_pending",
        "_timeout_s",
        "outlet",
    )

    def __init__(
        self,
        connection_id: ConnectionId,
        outbox: Outbox,
        settings: ConnectionSettings,
        clock: Clock,
    ) -> None:
        self.outlet = Outlet(connection_id, outbox)
        self._outbox = outbox
        self._compat_text = settings.compat_text
        self._envelope = settings.envelope
        self._timeout_s = settings.call_timeout_s
        self._clock = clock
        self._pending: dict[RequestKey, PendingCall] = {}

    def __contains__(self, request: RequestKey | None) -> bool:
        return request in self._pending

    def __len__(self) -> int:
        return len(self._pending)

    def called(self, name: RequestKey) -> tuple[RequestKey, ...]:
        """The calls with this name or other id. Takes time in proportion to the calls here."""
        return tuple(
            request
            for request, pending in self._pending.items()
            if request == name or pending.call.other_id == name
        )

    def add(self, request: RequestKey, call: CheckedCall) -> PendingCall | None:
        """Add a call; None if it has the id of one that is here, which it may ``join``."""
        if request in self._pending:
            return None
        pending = PendingCall(call, (call.reply,))
        arguments, streams = call.arguments, call.options.stream
        if streams is None:
            streams = arguments.stream
        if streams:
            reply, wall = call.reply, self._clock.wall
            frame = encode.piece_frame(reply, wall)
            if frame is not None:
                reasoning = None
                if call.options.stream_reasoning:
                    reasoning = encode.reasoning_frame(reply, wall)
                pending.writer = PieceWriter(self.outlet, request, frame, reasoning)
        if type(arguments) is RelayRequest:
            pending.relayed = RelayedText(pending.writer)
            arguments.pipe.add(pending.relayed)
        self._pending[request] = pending
        return pending

    def join(self, request: RequestKey, call: CheckedCall) -> ErrorBody | None:
        """Answer the repeat of a call that is here, or let it wait with it; return the error if it
        is to be refused.
        """
        pending, reply = self._pending[request], call.reply
        if call.arguments != pending.call.arguments:
            return error_bodies.id_reused()
        if reply.acks:
            note = "duplicate request; still processing"
            self._send(encode.progress(reply, pending.call.tool, self._clock.wall(), note=note))
        elif len(pending.replies) <= MAX_REPEATS:
            pending.replies += (reply,)
        else:
            return error_bodies.repeated_too_often()
        return None

    def refuse(self, request: RequestKey | None, reply: ReplyTo, error: ErrorBody) -> None:
        """Answer a frame that starts no call."""
        if request in self._pending and reply.dialect == "op":
            # It must not look like the end of the call in flight with the same id.
            reply = reply.aside()
        self._outbox.send(encode.error(reply, error))

    def accepted(self, message: RequestAccepted, now: float) -> None:
        """Report, once, that the call was accepted, and how long it may take in all."""
        pending = self._pending.get(message.request)
        if pending is not None:
            pending.reason = message.reason
            if not pending.accepted:
                self._accept(pending, now)

    def queued(self, message: RequestQueued, now: float) -> None:
        """Report the place in the queue."""
        pending = self._pending.get(message.request)
        if pending is not None:
            if not pending.accepted:
                self._accept(pending, now)
            pending.position = message.position
            pending.estimate_s = message.estimate_s
            pending.reason = message.reason
            self._progress(pending, now)

    def granted(self, request: RequestKey) -> None:
        """Report that the call runs, if it has waited."""
        pending = self._pending.get(request)
        if pending is not None:
            if not pending.accepted:
                self._accept(pending)
            if pending.position is not None or pending.reason is not None:
                waited = pending.position is not None
                pending.position = pending.estimate_s = pending.reason = None
                if waited:
                    self._progress(pending, note="running")

    def finish(self, request: RequestKey, outcome: Outcome) -> None:
        """Send the outcome as the answer to each frame of the call."""
        pending = self._pending.pop(request, None)
        if pending is None:
            return
        call, result, writer = pending.call, outcome.result, pending.writer
        if pending.relayed is not None:
            outcome = _with_response(outcome, pending.relayed)
            result = outcome.result
        if writer is not None:
            if result is not None:
                writer.release()
                if writer.sent:
                    frame = encode.stream_complete(call.reply, writer.sent, self._clock.wall())
                    self._send(frame)
            writer.close()
        for reply in pending.replies:
            if result is not None:
                frame = encode.result(reply, result, call.tool, self._compat_text, self._envelope)
            else:
                assert outcome.error is not None
                frame = encode.error(reply, outcome.error)
            self._outbox.send(frame)

    def finish_all(self, outcome: Outcome) -> None:
        """Send the same outcome for all calls."""
        for request in tuple(self._pending):
            self.finish(request, outcome)

    def returned(self, request: RequestKey) -> None:
        """Note that a call may be sent to the session's next incarnation."""
        pending = self._pending.get(request)
        if pending is not None:
            pending.returned = True

    def finish_sent(self, outcome: Outcome) -> None:
        """Send the same outcome for all calls but the returned ones."""
        for request, pending in tuple(self._pending.items()):
            if not pending.returned:
                self.finish(request, outcome)

    def take_returned(self) -> list[tuple[RequestKey, PendingCall]]:
        """The returned calls, in the order of their arrival; they count as sent from now on."""
        taken = []
        for request, pending in self._pending.items():
            if pending.returned:
                pending.returned = False
                taken.append((request, pending))
        return taken

    def release(self) -> None:
        """Send the text that was held back."""
        for pending in self._pending.values():
            if pending.writer is not None:
                pending.writer.release()

    def close(self) -> None:
        """Take no more pieces."""
        for pending in self._pending.values():
            if pending.writer is not None:
                pending.writer.close()

    def heartbeat(self, now: float) -> None:
        """Report for each call that it is alive, with its place and reason if it waits."""
        for pending in self._pending.values():
            self._progress(pending, now)

    def _accept(self, pending: PendingCall, now: float = 0.0) -> None:
        pending.accepted = True
        call = pending.call
        waits_for = None if pending.reason is None else facts(pending.reason, now)
        frame = encode.accepted(call.reply, call.tool, self._clock.wall(), waits_for)
        if frame is not None:
            self._outbox.send(frame)
            arguments, timeout_s = call.arguments, self._timeout_s
            if not isinstance(arguments, LocalRequest):
                timeout_s = arguments.time_allowed(call.options, timeout_s)
            self._send(encode.acknowledged(call.reply, call.tool, timeout_s))

    def _progress(self, pending: PendingCall, now: float = 0.0, note: str | None = None) -> None:
        self._send(
            encode.progress(
                pending.call.reply,
                pending.call.tool,
                self._clock.wall(),
                note=note,
                position=pending.position,
                estimate_s=pending.estimate_s,
                waits_for=None if pending.reason is None else facts(pending.reason, now),
            )
        )

    def _send(self, frame: bytes | None) -> None:
        if frame is not None:
            self._outbox.send(frame)


def _with_response(outcome: Outcome, relayed: RelayedText) -> Outcome:
    """The outcome of a relayed request with the service's response, as far as it is not sent."""
    response, result, error = outcome.response, outcome.result, outcome.error
    if result is not None:
        text = relayed.take()
        if not relayed.has_begun:
            # The repeat of a request that has ended.
            if response is None:
                return Outcome("refused", error=error_bodies.repeated_too_late())
            text = response.body.decode("utf-8", "replace")
        return replace(outcome, result=replace(result, outputs=(text,)))
    if error is not None and response is not None:
        body = response.body.decode("utf-8", "replace")
        details = {**(error.details or {}), "response": {"status": response.status, "body": body}}
        return replace(outcome, error=replace(error, details=details))
    return outcome
