"""One chat completion over HTTP, from its request to the one message that reports its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from math import inf

import msgspec
import structlog

from exai_actors.core.calls import (
    Aborted,
    ChatCall,
    Completion,
    FailureKind,
    UpstreamFailure,
    UpstreamResult,
)
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.alarms import Alarms
from exai_actors.edges.http.client import Headers, HttpClient, HttpExchange, Target
from exai_actors.edges.http.errors import (
    BROKE_OFF,
    connect_timeout_failure,
    log_unexpected,
    unexpected_failure,
)
from exai_actors.edges.http.portions import PORTION_BYTES, Portions
from exai_actors.edges.http.service import HttpService
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage, UpstreamEnded
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import PieceSink
from exai_actors.runtime import AfterReading
from exai_actors.wire.openai.completions import (
    encode_request,
    is_event_stream,
    parse_completion,
)
from exai_actors.wire.openai.content_coding import BadCoding, Inflater, is_compressed
from exai_actors.wire.openai.error_fields import parse_error_body
from exai_actors.wire.openai.errors import classify_response
from exai_actors.wire.openai.rate_headers import clock_of, hold_s
from exai_actors.wire.openai.redaction import without_quotations
from exai_actors.wire.openai.request_form import (
    MAY_BE_ABOUT_THE_FORM,
    USUAL_FORM,
    adapted_form,
)
from exai_actors.wire.openai.stream import FINISH_GRACE_S, StreamReader

MAX_ERROR_BODY_BYTES = 1 << 16
_OK = 200
# How long the body of an answer may take to end after [DONE], so that its connection can be reused.
DRAIN_BODY_S = 0.25
# How long the body of a refusal may take; status and headers already say that it is one.
ERROR_BODY_S = 5.0
# How often a timeout waits for data that had arrived before it and is still being read.
MAX_LOOKS = 100
_NOTHING_READ = -inf
# Failures that hold nothing, and whose words are not logged.
_FOR_THE_CLIENT_ONLY = frozenset(
    {FailureKind.REJECTED, FailureKind.MALFORMED, FailureKind.TOO_LARGE}
)

log = structlog.get_logger()


class _Phase(Enum):
    """The part of the response that comes next."""

    HEAD = auto()
    REFUSAL = auto()
    BEGINNING = auto()
    EVENTS = auto()
    PLAIN = auto()
    REST = auto()
    """After [DONE]: of no interest but for the end of the body."""
    NOTHING = auto()
    """The result is known, and the connection is being closed."""
    OVER = auto()


_PAUSED = (_Phase.BEGINNING, _Phase.EVENTS, _Phase.PLAIN)
_ENDING = (_Phase.NOTHING, _Phase.OVER)


def _ignore(_: bytes) -> None:
    """Take data that is of no interest. No method: an ended call must not refer to itself."""


class HttpCall:
    """Implements ``ports.UpstreamCall`` and ``client.Receiver``, without a task.

    The call is in ``alarms`` until just before its end is reported. ``has_response``: the head of
    the response has arrived. ``has_begun``: so has a piece of the answer or of its reasoning.

    When a timeout is due, data that has arrived and is still to be read comes first, however late
    the timer is: it may be late because nothing was read.

    During a pause the service is not read, and no time counts but the total, unless the answer is
    complete: then only the end of its body is left.
    """

    __slots__ = (
        "_alarms",
        "_body",
        "_body_bytes",
        "_call",
        "_connect_due",
        "_due",
        "_exchange",
        "_failure_after_portions",
        "_finished_at",
        "_first_piece_at",
        "_form",
        "_headers",
        "_hold_s",
        "_idle_s",
        "_is_connected",
        "_is_paused",
        "_look_in_progress",
        "_loop",
        "_next_turn",
        "_now",
        "_phase",
        "_portions",
        "_reader",
        "_result_if_aborted",
        "_service",
        "_silent_at",
        "_sink",
        "_status",
        "_streams",
        "_take",
        "_text_sent",
        "_total_due",
        "has_begun",
        "has_response",
        "permit",
        "reply_to",
    )

    def __init__(
        self,
        service: HttpService,
        alarms: Alarms[HttpCall],
        permit: PermitId,
        call: ChatCall,
        reply_to: Recipient[ProviderMessage],
        *,
        sink: PieceSink | None = None,
    ) -> None:
        self._service = service
        self._alarms = alarms
        # Only a call that streams has one.
        self._sink = sink if call.stream else None
        self.permit = permit
        self._call = call
        self.reply_to = reply_to
        self._form = service.forms.of(call.model)
        self._streams = self._form.streams and (
            call.stream or service.settings.ask_for_stream == "always"
        )
        self._exchange: HttpExchange | None = None
        self._phase = _Phase.HEAD
        self._take: Callable[[bytes], None] = _ignore
        self._portions: Portions | None = None
        self._next_turn: asyncio.Handle | None = None
        self._failure_after_portions: UpstreamFailure | None = None
        self._is_connected = self._is_paused = False
        self.has_response = False
        self.has_begun = False
        self._first_piece_at: float | None = None
        self._text_sent = False
        self._hold_s: float | None = None
        # When the stream's latest finish reason was read; then no timeout fails the call.
        self._finished_at: float | None = None
        self._reader: StreamReader | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        # When a plain body that may be whole has been silent for too long, if it is not.
        self._silent_at = -inf
        self._result_if_aborted: UpstreamResult = Aborted()
        self._loop = asyncio.get_running_loop()
        settings = service.settings
        now = self._loop.time()
        self._connect_due = now + settings.connect_timeout_s
        self._total_due = now + settings.total_timeout_s
        self._idle_s = settings.idle_timeout_s
        self._due: float | None = now + settings.first_byte_timeout_s
        self._look_in_progress: AfterReading | None = None

    def begin(
        self,
        client: HttpClient,
        target: Target,
        *,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> None:
        """Send the request; ``fresh``: on a connection that was not used before."""
        self._alarms.add(self, self.next_due())
        try:
            body = encode_request(self._call, self._form, stream=self._streams)
            self._exchange = client.start(target, body, self, fresh=fresh, trace=trace)
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)

    # As ports.UpstreamCall.

    def abort(self) -> None:
        self._give_up(self._result_if_aborted)

    def pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            if self._waits_for_resume():
                self._stop_reading()

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if self._due is None:
                self._restart_timeout()
            if self._portions is not None and self._portions.may_have_more:
                if self._next_turn is None:
                    self._take_portion_in_turn()
            elif self._exchange is not None:
                self._exchange.resume()

    # As client.Receiver.

    def connected(self) -> None:
        self._is_connected = True

    def head(self, status: int, headers: Headers, /) -> None:
        self.has_response = True
        self._status, self._headers = status, headers
        coding = headers.get("Content-Encoding")
        if coding is not None and is_compressed(coding):
            self._portions = Portions(Inflater(coding))
        if 200 <= status <= 299:
            self._note_rates(headers)
            self._enter(_Phase.BEGINNING, self._take_beginning)
            self._restart_timeout()
        else:
            self._enter(_Phase.REFUSAL, self._take_refusal)
            self._set_due(self._loop.time() + ERROR_BODY_S)
        if self._waits_for_resume():
            self._stop_reading()

    def whole(self, status: int, headers: Headers, body: bytes, /) -> bool:
        # The most frequent response; the steps of ``head``, ``data`` and ``ended`` do the same.
        if (
            status != _OK
            or body[:1] != b"{"
            or len(body) > self._service.settings.max_answer_bytes
            or self._is_paused
            or "Content-Encoding" in headers
        ):
            return False
        self._status, self._headers = status, headers
        self._phase = _Phase.PLAIN
        self._exchange = None
        try:
            self._note_rates(headers)
            self._report(self._plain_answer(body))
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)
        return True

    def data(self, data: bytes, /) -> None:
        try:
            if self._portions is None:
                self._take(data)
            else:
                self._portions.add(data)
                self._take_next_portion()
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)

    def ended(self) -> None:
        try:
            self._finish_body()
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)

    def failed(self, failure: UpstreamFailure | Aborted, /) -> None:
        self._exchange = None
        try:
            if isinstance(failure, Aborted):
                self._report(self._result_if_aborted, is_cut_off=self._is_connected)
            elif self._portions is not None and self._portions.may_have_more:
                # The data that has arrived comes before the break.
                self._failure_after_portions = failure
            else:
                # The client closes the connection of a response that breaks a rule.
                is_cut_off = self._is_connected and failure.kind is FailureKind.MALFORMED
                self._report(self._result_of_broken_body(failure), is_cut_off=is_cut_off)
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)

    def _note_rates(self, headers: Headers) -> None:
        self._now = clock_of(headers.get("Date"), now=time.time())
        self._hold_s = hold_s(headers, now=self._now, answered=True)

    # The body.

    def _enter(self, phase: _Phase, take: Callable[[bytes], None]) -> None:
        self._phase, self._take = phase, take

    def _take_next_portion(self) -> None:
        """Take a portion, and the next in another turn; read nothing more before the last."""
        portions = self._portions
        if (
            portions is None
            or self._next_turn is not None
            or self._phase in _ENDING
            or self._waits_for_resume()
        ):
            return
        try:
            portion = portions.take()
        except BadCoding as error:
            failure = UpstreamFailure(FailureKind.MALFORMED, f"answered with {error}")
            self._give_up(self._result_of_broken_body(failure))
            return
        if portion:
            self._take(portion)
        if portion and portions.may_have_more:
            if self._exchange is not None:
                self._exchange.pause()
            self._next_turn = self._loop.call_soon(self._take_portion_in_turn)
            return
        if not portions.is_compressed:
            self._portions = None
        if self._failure_after_portions is not None:
            self._report(self._result_of_broken_body(self._failure_after_portions))
        elif self._exchange is not None and not self._waits_for_resume():
            self._exchange.resume()

    def _take_portion_in_turn(self) -> None:
        self._next_turn = None
        try:
            self._take_next_portion()
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
            self._fail_unexpectedly(error)

    def _waits_for_resume(self) -> bool:
        """Whether the pause concerns the phase of the call."""
        return self._is_paused and self._finished_at is None and self._phase in _PAUSED

    def _take_beginning(self, data: bytes) -> None:
        """Take the first data: the body decides its type."""
        if is_event_stream(self._headers.get("Content-Type", ""), data):
            service = self._service
            self._reader = StreamReader(
                self._call.model,
                service.settings.max_answer_bytes,
                now=self._now,
                redactor=service.redactor,
            )
            self._enter(_Phase.EVENTS, self._take_events)
        else:
            self._enter(_Phase.PLAIN, self._take_plain)
        self._take(data)

    def _take_events(self, data: bytes) -> None:
        if len(data) > PORTION_BYTES and self._portions is None:
            self._portions = Portions()
            self._portions.add(data)
            self._take_next_portion()
            return
        reader = self._reader
        assert reader is not None
        text = reader.feed(data)
        if reader.new_reasoning:
            self._write_in_order(reader)
        elif text and self._sink is not None:
            self._text_sent = True
            self._sink.write(text)
        if reader.expects_more:
            if self.has_begun and not self._is_paused and self._finished_at is None:
                # As _restart_timeout, which was called before: the time only becomes later.
                self._due = self._loop.time() + self._idle_s
            else:
                self._note_beginning(reader)
                self._restart_timeout()
            return
        self._note_beginning(reader)
        if reader.ended:
            self._end_of_events(reader)
        else:
            # A whole answer may end without the end of its body.
            if self._finished_at is None or not reader.finished:
                self._finished_at = self._loop.time()
            allowed = FINISH_GRACE_S if reader.finished else self._idle_s
            self._set_due(self._finished_at + allowed)
            self._read_in_spite_of_pause()

    def _note_beginning(self, reader: StreamReader) -> None:
        if reader.has_begun and not self.has_begun:
            self.has_begun = True
            self._first_piece_at = time.monotonic()

    def _end_of_events(self, reader: StreamReader) -> None:
        if reader.failure is not None:
            self._enter(_Phase.NOTHING, _ignore)
            self._result_if_aborted = reader.failure
            if self._exchange is not None:
                # Not now: if the body ends with this data, the service has finished the call.
                self._loop.call_soon(self._exchange.abort)
            return
        # Read on for a moment: if the body ends, its connection can be used again.
        self._enter(_Phase.REST, _ignore)
        self._finished_at = self._loop.time()
        self._set_due(self._finished_at + DRAIN_BODY_S)
        self._read_in_spite_of_pause()

    def _take_plain(self, data: bytes) -> None:
        """Take a part of a body that is one JSON document."""
        if data:
            self._body.append(data)
            self._body_bytes += len(data)
        limit = self._service.settings.max_answer_bytes
        if self._body_bytes > limit:
            message = f"sent an answer larger than {limit} bytes"
            self._give_up(UpstreamFailure(FailureKind.TOO_LARGE, message, status=self._status))
            return
        if not self.has_begun:
            self.has_begun = not data.isspace()
        self._restart_timeout()
        if self._may_be_whole() and self._due is not None:
            # Its end need not come: some services leave the connection open, or break it.
            settings = self._service.settings
            grace_s = min(FINISH_GRACE_S, settings.idle_timeout_s / 2)
            self._silent_at = self._due
            self._set_due(min(self._due, self._loop.time() + grace_s))

    def _may_be_whole(self) -> bool:
        return bool(self._body) and self._body[-1][-16:].rstrip()[-1:] == b"}"

    def _is_whole(self) -> bool:
        """Whether the JSON of a plain body is complete."""
        return self._may_be_whole() and parse_error_body(b"".join(self._body)) is not None

    def _take_refusal(self, data: bytes) -> None:
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes >= MAX_ERROR_BODY_BYTES:
            self._give_up(self._refusal())

    def _finish_body(self) -> None:
        """Report the result of a body that has ended."""
        self._exchange = None
        if self._portions is not None and self._portions.is_cut_off:
            failure = UpstreamFailure(FailureKind.TRUNCATED, BROKE_OFF)
            self._report(self._result_of_broken_body(failure))
            return
        if self._phase is _Phase.BEGINNING:
            self._take_beginning(b"")
        match self._phase:
            case _Phase.REFUSAL:
                self._report(self._refusal())
            case _Phase.PLAIN:
                self._report(self._plain_answer(b"".join(self._body)))
            case _Phase.NOTHING:
                self._report(self._result_if_aborted)
            case _:
                assert self._reader is not None
                if not self._reader.ended:
                    self._reader.end_of_body()
                    self._write_in_order(self._reader)
                self._report(self._reader.finish())

    def _result_of_broken_body(self, failure: UpstreamFailure) -> UpstreamResult:
        if self._phase is _Phase.NOTHING:
            return self._result_if_aborted
        if self._phase is _Phase.REFUSAL:
            return self._refusal()
        if self._phase is _Phase.PLAIN and self._is_whole():
            return self._plain_answer(b"".join(self._body))
        # The answer is complete, however its stream ends.
        return self._finished_answer() or failure

    def _finished_answer(self) -> UpstreamResult | None:
        """The answer of a stream that is complete, if nothing more comes."""
        reader = self._reader
        return reader.finish() if reader is not None and reader.complete else None

    def _plain_answer(self, data: bytes) -> UpstreamResult:
        if data.lstrip()[:1] in (b"", b"<"):
            return self._classify(data)
        result = parse_completion(
            data, self._call.model, now=self._now, redactor=self._service.redactor
        )
        if isinstance(result, UpstreamFailure):
            return self._adapted(result, 400, data)
        if result.reasoning:
            self._write_reasoning(result.reasoning)
        if result.text:
            self._write(result.text)
        return result

    def _refusal(self) -> UpstreamFailure:
        return self._classify(b"".join(self._body)[:MAX_ERROR_BODY_BYTES])

    def _write(self, text: str) -> None:
        if self._sink is not None:
            self._text_sent = True
            self._sink.write(text)

    def _write_reasoning(self, text: str) -> None:
        if self._sink is not None and self._sink.write_reasoning(text):
            self._text_sent = True

    def _write_in_order(self, reader: StreamReader) -> None:
        for run in reader.in_order():
            if run.is_reasoning:
                self._write_reasoning(run.text)
            else:
                self._write(run.text)

    def _stop_reading(self) -> None:
        self._due = None
        if self._exchange is not None:
            self._exchange.pause()

    def _read_in_spite_of_pause(self) -> None:
        """Only the end of the body is left."""
        if self._is_paused and self._exchange is not None and self._portions is None:
            self._exchange.resume()

    # The end.

    def _give_up(self, result: UpstreamResult) -> None:
        """Close the connection, and report the result then."""
        if self._phase in _ENDING:
            return
        self._enter(_Phase.NOTHING, _ignore)
        self._result_if_aborted = result
        if self._exchange is not None:
            self._exchange.abort()
        else:
            # It has ended already, or was never begun.
            self._loop.call_soon(partial(self._report, result))

    def _fail_unexpectedly(self, error: Exception) -> None:
        self._give_up(self._unexpected(error))

    def _unexpected(self, error: Exception) -> UpstreamFailure:
        self._loop.call_soon(partial(log_unexpected, error, self._service))
        return unexpected_failure(error)

    def _report(self, result: UpstreamResult, *, is_cut_off: bool = False) -> None:
        if self._phase is _Phase.OVER:
            return
        if isinstance(result, UpstreamFailure):
            result = self._discreet(result)
        self._enter(_Phase.OVER, _ignore)
        self._exchange = None
        if self._look_in_progress is not None:
            self._look_in_progress.cancel()
        self._alarms.discard(self)
        if isinstance(result, Completion):
            is_cut_off = False
            if self._form is not USUAL_FORM:
                self._service.forms.answered(self._call.model)
        ended_at = time.monotonic()
        # A provider that has ended left the call to its next incarnation, which finds it ended.
        self.reply_to.offer(
            UpstreamEnded(
                self.permit, result, self._hold_s, is_cut_off, ended_at, self._first_piece_at
            )
        )

    def _discreet(self, failure: UpstreamFailure) -> UpstreamFailure:
        """The failure, with no words of the request where others than its client see them.

        They are in the cause of a hold and of an open circuit, and in the log.
        """
        message = failure.message
        if failure.kind not in _FOR_THE_CLIENT_ONLY or not failure.recognised:
            try:
                words = (each.content for each in self._call.messages)
                message = without_quotations(message, words)
            except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
                failure = self._unexpected(error)
                message = failure.message
        return msgspec.structs.replace(failure, message=message, text_sent=self._text_sent)

    def _classify(self, body: bytes) -> UpstreamFailure:
        failure = classify_response(
            self._status,
            self._headers,
            body,
            now=time.time(),
            model=self._call.model,
            redactor=self._service.redactor,
        )
        return self._adapted(failure, self._status, body)

    def _adapted(self, failure: UpstreamFailure, status: int, body: bytes) -> UpstreamFailure:
        """The failure; to be sent again if the service wants the request in another form."""
        if failure.kind not in MAY_BE_ABOUT_THE_FORM:
            return failure
        service, model = self._service, self._call.model
        form = adapted_form(
            self._form,
            status,
            body,
            streamed=self._streams,
            limits_tokens=self._call.max_tokens is not None,
        )
        if form is None:
            service.forms.refused(model)
            return failure
        service.forms.learn(model, form)
        log.info(
            "upstream.form_changed",
            provider=service.name,
            model=model,
            streams=form.streams,
            includes_usage=form.includes_usage,
            max_tokens_name=form.max_tokens_name,
        )
        return msgspec.structs.replace(failure, resend=True, recognised=True)

    # The timeouts.

    def _restart_timeout(self) -> None:
        """Expect the next data within the time that is allowed for it, counted from now."""
        if self._finished_at is not None or self._waits_for_resume():
            return
        allowed = self._idle_s if self.has_begun else self._allowed_before_answer()
        self._set_due(self._loop.time() + allowed)

    def _allowed_before_answer(self) -> float:
        """How long the service may be silent before the first piece of its answer."""
        settings = self._service.settings
        first_s = settings.first_byte_timeout_s
        return max(first_s, settings.idle_timeout_s) if self.has_response else first_s

    def _set_due(self, due: float) -> None:
        self._due = due
        self._alarms.ring_at(due)

    def next_due(self) -> float:
        if self._look_in_progress is not None or self._phase in _ENDING:
            return inf
        if self._due is None:
            return self._total_due
        if self._finished_at is not None:
            return self._due
        if self._is_connected:
            return min(self._due, self._total_due)
        return min(self._due, self._total_due, self._connect_due)

    def look(self) -> None:
        """Let data that has arrived be read before the call may time out."""
        self._look_again(MAX_LOOKS)

    def _look_again(self, looks_left: int) -> None:
        due, self._due = self._due, None if self._due is None else _NOTHING_READ
        self._look_in_progress = AfterReading(
            self._loop, partial(self._has_looked, due, looks_left)
        )

    def _has_looked(self, due: float | None, looks_left: int) -> None:
        self._look_in_progress = None
        has_read = self._due != _NOTHING_READ and self._due is not None
        if self._due == _NOTHING_READ:
            self._due = due
        now, next_due = self._loop.time(), self.next_due()
        if now < next_due:
            self._alarms.ring_at(next_due)
        elif has_read and looks_left:
            self._look_again(looks_left - 1)
        else:
            try:
                self._time_out(now)
            except Exception as error:  # noqa: BLE001 - whatever a bug raises, the call has one end
                self._fail_unexpectedly(error)

    def _time_out(self, now: float) -> None:
        if self._finished_at is not None and self._due is not None:
            assert self._reader is not None
            self._give_up(self._reader.finish())
        elif self._phase is _Phase.REFUSAL:
            self._give_up(self._refusal())
        elif self._phase is _Phase.PLAIN and self._is_whole():
            self._give_up(self._plain_answer(b"".join(self._body)))
        elif self._phase is _Phase.PLAIN and now < min(self._silent_at, self._total_due):
            self._set_due(self._silent_at)
        else:
            self._give_up(self._timeout_failure(now))

    def _timeout_failure(self, now: float) -> UpstreamFailure:
        settings = self._service.settings
        if not self._is_connected and now >= self._connect_due:
            return connect_timeout_failure(self._service)
        if now >= self._total_due:
            message = f"took longer than {settings.total_timeout_s:g} s in all"
        elif self.has_begun:
            message = f"fell silent for {settings.idle_timeout_s:g} s in the middle of its answer"
        elif self.has_response:
            message = f"sent no part of its answer for {self._allowed_before_answer():g} s"
        else:
            message = f"sent nothing within {settings.first_byte_timeout_s:g} s"
        return UpstreamFailure(FailureKind.TIMEOUT, message)
