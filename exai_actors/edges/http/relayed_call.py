"""One request that is passed on to a service as it came, and its response passed back as it comes.

Nothing here changes a byte. A tap reads beside the response whether the answer is whole, and what
it has cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from math import inf

from msgspec.structs import replace

from exai_actors.core.calls import (
    Aborted,
    Completion,
    FailureKind,
    RelayCall,
    RelayedResponse,
    UpstreamFailure,
    UpstreamResult,
)
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.alarms import Alarms
from exai_actors.edges.http.client import Headers, HttpClient, HttpExchange, Target
from exai_actors.edges.http.errors import (
    connect_timeout_failure,
    log_unexpected,
    unexpected_failure,
)
from exai_actors.edges.http.service import HttpService
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage, UpstreamEnded
from exai_actors.messages.recipient import Recipient
from exai_actors.wire.http_api.taps import Tap
from exai_actors.wire.openai.completions import is_event_stream
from exai_actors.wire.openai.content_coding import BadCoding, Inflater, is_compressed
from exai_actors.wire.openai.errors import classify_error, classify_response
from exai_actors.wire.openai.rate_headers import clock_of, hold_s
from exai_actors.wire.openai.redaction import without_quotations

MAX_ERROR_BODY_BYTES = 1 << 16
# How long the body of a refusal may take; status and headers already say that it is one.
ERROR_BODY_S = 5.0
# How long a response may take to end after its answer is whole.
WHOLE_GRACE_S = 2.0
# The same where nothing can follow: the client may have left, and the permit must be free.
OVER_GRACE_S = 0.05
# An answer in one piece is passed on once it is whole, so that half of one can be tried again, or
# has a status of its own. A larger one is passed on as it comes.
HELD_BYTES = 1 << 20
_SHOWN = ("content-type", "content-encoding", "retry-after", "retry-after-ms", "x-should-retry")
_IDS = ("request-id", "x-request-id")
_FOR_THE_CLIENT_ONLY = frozenset(
    {FailureKind.REJECTED, FailureKind.MALFORMED, FailureKind.TOO_LARGE}
)


class RelayedCall:
    """Implements ``ports.UpstreamCall`` and ``client.Receiver``.

    The call is in ``alarms`` until just before its end is reported; ``on_end`` is called then.
    """

    __slots__ = (
        "_alarms",
        "_begun",
        "_body",
        "_call",
        "_due",
        "_ended",
        "_exchange",
        "_fields",
        "_first_piece_at",
        "_flows",
        "_has_body",
        "_headers",
        "_hold_s",
        "_idle_s",
        "_inflater",
        "_is_connected",
        "_is_given_up",
        "_is_stream",
        "_length",
        "_loop",
        "_on_end",
        "_packed",
        "_paused_at",
        "_result_if_aborted",
        "_service",
        "_sink_data",
        "_size",
        "_status",
        "_tap",
        "_told_whole",
        "_total_due",
        "permit",
        "reply_to",
    )

    def __init__(
        self,
        service: HttpService,
        alarms: Alarms[RelayedCall],
        client: HttpClient,
        target: Target,
        permit: PermitId,
        call: RelayCall,
        reply_to: Recipient[ProviderMessage],
        on_end: Callable[[RelayedCall], object],
        *,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> None:
        self._service = service
        self._alarms = alarms
        self.permit = permit
        self._call = call
        self.reply_to = reply_to
        self._on_end = on_end
        self._tap = Tap(call.family, needs_done=call.answers > 1)
        self._status = 0
        self._headers: Headers | None = None
        self._fields: tuple[tuple[str, str], ...] = ()
        self._length: int | None = None
        self._inflater: Inflater | None = None
        self._is_stream: bool | None = None
        self._is_connected = False
        self._has_body = False
        self._begun = False
        self._first_piece_at: float | None = None
        # Every further piece is one of a stream that needs no more than to be passed on.
        self._flows = False
        self._sink_data = call.sink.data
        self._idle_s = service.settings.idle_timeout_s
        self._told_whole = False
        self._body: list[bytes] = []
        self._packed: list[bytes] = []
        self._size = 0
        self._hold_s: float | None = None
        self._ended = False
        self._paused_at: float | None = None
        self._result_if_aborted: UpstreamResult | None = None
        # No timeout ends it any more: its connection is being closed.
        self._is_given_up = False
        self._loop = asyncio.get_running_loop()
        settings = service.settings
        now = self._loop.time()
        self._total_due = now + settings.total_timeout_s
        self._due = now + min(settings.connect_timeout_s, settings.first_byte_timeout_s)
        alarms.add(self, min(self._due, self._total_due))
        self._exchange: HttpExchange = client.start(
            target, call.body, self, fresh=fresh, trace=trace
        )

    # As an upstream call.

    def abort(self) -> None:
        if not self._ended:
            self._is_given_up = True
            self._exchange.abort()

    def pause(self) -> None:
        if self._paused_at is None and not self._ended:
            self._paused_at = self._loop.time()
            self._exchange.pause()

    def resume(self) -> None:
        if self._paused_at is not None and not self._ended:
            self._paused_at = None
            self._expect_data()
            self._alarms.ring_at(self.next_due())
            self._exchange.resume()

    # As a receiver.

    def connected(self) -> None:
        self._is_connected = True
        self._set_due(self._loop.time() + self._service.settings.first_byte_timeout_s)

    def head(self, status: int, headers: Headers, /) -> None:
        try:
            self._begin_response(status, headers)
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)

    def whole(self, status: int, headers: Headers, body: bytes, /) -> bool:
        most = min(HELD_BYTES, self._service.settings.max_answer_bytes)
        if self._ended or not 200 <= status <= 299 or len(body) > most:
            return False
        try:
            content_type = headers.get("Content-Type", "")
            if "Content-Encoding" in headers or is_event_stream(content_type, body):
                return False
            if not self._tap.body(body) or self._tap.error is not None:
                return False
            self._read_head(status, headers)
            self._length = len(body)
            self._pass_on(body)
            self._call.sink.whole()
            result: UpstreamResult = self._completion()
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            result = self._unexpected(error)
        self._end(result)
        return True

    def data(self, data: bytes, /) -> None:
        try:
            if not self._flows:
                self._take(data)
                return
            self._sink_data(data)
            tap = self._tap
            tap.stream(data)
            if not tap.is_whole:
                # Later than ``_take`` has set it, so the alarm rings in time without a call.
                self._due = self._loop.time() + self._idle_s
                return
            self._flows = False
            self._note_whole()
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)

    def ended(self) -> None:
        if self._ended:
            return
        try:
            result = self._result()
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            result = self._unexpected(error)
        self._end(result)

    def failed(self, failure: UpstreamFailure | Aborted, /) -> None:
        if self._ended:
            return
        try:
            result = self._result_of_broken_response(failure)
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            result = self._unexpected(error)
        # The client closes the connection of a response that breaks a rule.
        cut_off = isinstance(failure, Aborted) or failure.kind is FailureKind.MALFORMED
        self._end(result, cut_off=cut_off)

    # Internals.

    def _begin_response(self, status: int, headers: Headers) -> None:
        if not 200 <= status <= 299:
            self._status, self._headers = status, headers
            self._set_due(self._loop.time() + ERROR_BODY_S)
            return
        self._read_head(status, headers)
        coding = headers.get("Content-Encoding")
        if coding is not None and is_compressed(coding):
            self._inflater = Inflater(coding)
        length = headers.get("Content-Length", "")
        self._length = int(length) if length.isascii() and length.isdigit() else None
        settings = self._service.settings
        self._set_due(
            self._loop.time() + max(settings.first_byte_timeout_s, settings.idle_timeout_s)
        )

    def _read_head(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers
        now = clock_of(headers.get("Date"), now=time.time())
        self._hold_s = hold_s(headers, now=now, answered=True)
        self._fields = _shown(self._service.name, headers)

    def _take(self, data: bytes) -> None:
        if not data or self._ended:
            return
        if not 200 <= self._status <= 299:
            self._add_to_error(data)
            return
        self._has_body = True
        plain = data
        if self._inflater is not None:
            inflated = self._inflate(data)
            if inflated is None:
                return
            plain = inflated
        if self._is_stream is None:
            assert self._headers is not None
            content_type = self._headers.get("Content-Type", "")
            self._is_stream = is_event_stream(content_type, plain)
            if self._is_stream:
                self._first_piece_at = time.monotonic()
        if self._is_stream:
            self._pass_on(data)
            self._tap.stream(plain)
            self._flows = self._inflater is None and not self._tap.is_whole
            self._note_whole()
        else:
            self._hold(data, plain)
            self._expect_data()

    def _result(self) -> UpstreamResult:
        """That of a response that is complete."""
        if self._status == 0 or not 200 <= self._status <= 299:
            return self._refusal()
        if self._is_stream:
            self._tap.end_of_stream()
            return self._result_of_stream()
        return self._result_of_body()

    def _result_of_broken_response(self, failure: UpstreamFailure | Aborted) -> UpstreamResult:
        if self._tap.is_whole and self._is_stream:
            return self._result_of_stream()
        if isinstance(failure, Aborted):
            return failure if self._result_if_aborted is None else self._result_if_aborted
        if self._status and not 200 <= self._status <= 299:
            return self._refusal()
        return failure

    def _fail_unexpectedly(self, error: Exception) -> None:
        self._abort_with(self._unexpected(error))

    def _unexpected(self, error: Exception) -> UpstreamFailure:
        self._loop.call_soon(log_unexpected, error, self._service)
        return unexpected_failure(error)

    def _note_whole(self) -> None:
        if self._tap.is_whole and not self._told_whole:
            self._told_whole = True
            self._call.sink.whole()
        self._expect_data()

    def _pass_on(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._call.sink.head(self._status, self._fields, self._length)
        self._call.sink.data(data)

    def _hold(self, data: bytes, plain: bytes) -> None:
        """Collect an answer in one piece; the tap needs all of it."""
        self._body.append(plain)
        if plain is not data:
            self._packed.append(data)
        self._size += len(plain)
        limit = self._service.settings.max_answer_bytes
        if self._size > limit:
            self._abort_with(
                UpstreamFailure(FailureKind.TOO_LARGE, f"sent an answer larger than {limit} bytes")
            )
        elif self._begun:
            self._call.sink.data(data)
        elif self._size > HELD_BYTES and self._inflater is None:
            self._pass_on(b"".join(self._body))

    def _inflate(self, data: bytes) -> bytes | None:
        """The data as the tap reads it; a body that is compressed passes on as it is."""
        assert self._inflater is not None
        try:
            return self._unpacked(self._inflater, data)
        except BadCoding as error:
            self._abort_with(UpstreamFailure(FailureKind.MALFORMED, f"answered with {error}"))
            return None

    def _unpacked(self, inflater: Inflater, data: bytes) -> bytes:
        """The data behind what the inflater has had before. Raises BadCoding."""
        inflater.feed(data)
        found = []
        while portion := inflater.take():
            found.append(portion)
            if sum(map(len, found)) > self._service.settings.max_answer_bytes:
                raise BadCoding("a body that is too large when it is unpacked")
        return b"".join(found)

    def _result_of_stream(self) -> UpstreamResult:
        tap = self._tap
        if tap.error is not None:
            # The service has ended the answer itself, and the client reads that.
            self._call.sink.whole()
            failure = classify_error(
                tap.error, model=self._call.model, redactor=self._service.redactor
            )
            return replace(failure, text_sent=True)
        if not tap.is_whole:
            return UpstreamFailure(
                FailureKind.TRUNCATED, "broke off: the stream ended before the answer"
            )
        return self._completion()

    def _result_of_body(self) -> UpstreamResult:
        body, tap = b"".join(self._body), self._tap
        if not tap.body(body):
            assert self._headers is not None
            return classify_response(
                self._status,
                self._headers,
                body[:MAX_ERROR_BODY_BYTES],
                now=time.time(),
                model=self._call.model,
                redactor=self._service.redactor,
            )
        if tap.error is not None:
            return classify_error(
                tap.error,
                now=time.time(),
                model=self._call.model,
                redactor=self._service.redactor,
            )
        if not self._begun:
            passed = b"".join(self._packed) or body
            self._length = len(passed)
            self._pass_on(passed)
        self._call.sink.whole()
        return self._completion()

    def _completion(self) -> Completion:
        tap = self._tap
        return Completion(
            "", tap.model or self._call.model, tap.finish_reason or "stop", tap.counted()
        )

    def _add_to_error(self, data: bytes) -> None:
        self._body.append(data)
        self._size += len(data)
        if self._size > MAX_ERROR_BODY_BYTES:
            self._abort_with(self._refusal())

    def _refusal(self) -> UpstreamFailure:
        """The failure that the response is, with the response itself."""
        headers, body = self._headers, b"".join(self._body)
        if headers is None:
            return UpstreamFailure(FailureKind.TRUNCATED, "closed the connection without answering")
        coding = headers.get("Content-Encoding")
        read = body
        if coding is not None and is_compressed(coding):
            try:
                read = self._unpacked(Inflater(coding), body)
            except BadCoding:
                # The status says enough.
                read = b""
        failure = classify_response(
            self._status,
            headers,
            read[:MAX_ERROR_BODY_BYTES],
            now=time.time(),
            model=self._call.model,
            redactor=self._service.redactor,
        )
        if self._status < HTTPStatus.OK:
            # A protocol that nobody asked for: the client could not read on.
            return failure
        return replace(
            failure,
            response=RelayedResponse(self._status, _shown(self._service.name, headers), body),
        )

    def _discreet(self, failure: UpstreamFailure) -> UpstreamFailure:
        """The failure, with no words of the request where others than its client see them."""
        message = failure.message
        if failure.kind not in _FOR_THE_CLIENT_ONLY or not failure.recognised:
            try:
                words = (self._call.body.decode("utf-8", "replace"),)
                message = without_quotations(message, words)
            except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
                failure = self._unexpected(error)
                message = failure.message
        return replace(failure, message=message, text_sent=failure.text_sent or self._begun)

    def _abort_with(self, result: UpstreamResult) -> None:
        if self._result_if_aborted is None:
            self._flows = False
            self._result_if_aborted = result
            self._is_given_up = True
            self._exchange.abort()

    def _end(self, result: UpstreamResult, *, cut_off: bool = False) -> None:
        self._ended = True
        self._flows = False
        # It refers back to this object.
        del self._exchange
        self._alarms.discard(self)
        self._on_end(self)
        if isinstance(result, UpstreamFailure):
            result = self._discreet(result)
        cut_off = cut_off and self._is_connected and not isinstance(result, Completion)
        self._body.clear()
        self._packed.clear()
        ended_at = time.monotonic()
        self.reply_to.offer(
            UpstreamEnded(
                self.permit, result, self._hold_s, cut_off, ended_at, self._first_piece_at
            )
        )

    def _expect_data(self) -> None:
        if self._told_whole:
            grace_s = OVER_GRACE_S if self._tap.is_over else WHOLE_GRACE_S
            self._set_due(min(self._due, self._loop.time() + grace_s))
        elif self._has_body:
            self._set_due(self._loop.time() + self._service.settings.idle_timeout_s)

    def _set_due(self, due: float) -> None:
        self._due = due
        self._alarms.ring_at(due)

    # As one of the alarms' calls.

    def next_due(self) -> float:
        if self._is_given_up:
            return inf
        # While its reader is slow, the service is not the one that is late.
        return min(inf if self._paused_at is not None else self._due, self._total_due)

    def look(self) -> None:
        try:
            self._time_out(self._loop.time())
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)

    def _time_out(self, now: float) -> None:
        settings = self._service.settings
        if self._told_whole:
            self._abort_with(self._result_of_stream())
        elif self._status and not 200 <= self._status <= 299:
            self._abort_with(self._refusal())
        elif not self._is_connected:
            self._abort_with(connect_timeout_failure(self._service))
        elif now >= self._total_due:
            self._time_out_with(f"took longer than {settings.total_timeout_s:g} s in all")
        elif self._has_body:
            self._time_out_with(
                f"fell silent for {settings.idle_timeout_s:g} s in the middle of its answer"
            )
        else:
            self._time_out_with(f"sent nothing within {settings.first_byte_timeout_s:g} s")

    def _time_out_with(self, message: str) -> None:
        self._abort_with(UpstreamFailure(FailureKind.TIMEOUT, message))


def _shown(provider: str, headers: Headers) -> tuple[tuple[str, str], ...]:
    """The headers that a client may see. Those about limits describe the shared account."""
    found = [(name, _as_it_came(headers[name])) for name in _SHOWN if name in headers]
    found.append(("x-exai-provider", provider))
    own_id = next((headers[name] for name in _IDS if name in headers), None)
    if own_id is not None:
        found.append(("x-upstream-request-id", _as_it_came(own_id)))
    return tuple(found)


def _as_it_came(value: str) -> str:
    """The value of a header with a character for each byte, as the server writes it."""
    return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("latin-1")
