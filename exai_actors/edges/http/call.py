"""One chat completion over HTTP, from its request to the one message that reports its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf

import msgspec
import structlog
from aiohttp import hdrs

from exai_actors.core.calls import (
    Aborted,
    ChatCall,
    Completion,
    FailureKind,
    UpstreamFailure,
    UpstreamResult,
)
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.errors import (
    TRANSPORT_ERRORS,
    connect_timeout_failure,
    failure_of,
    log_unexpected,
    unexpected_failure,
)
from exai_actors.edges.http.exchange import Body, Progress, Response
from exai_actors.edges.http.patience import PatientTimeout
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
# How long the body of an answer may take to end after [DONE], so that its connection can be reused.
DRAIN_BODY_S = 0.25
# How long the body of a refusal may take; status and headers already say that it is one.
ERROR_BODY_S = 5.0
# A stream is read in portions of at most this size, and other tasks run between them.
PORTION_BYTES = 1 << 14
# How often a timeout waits for data that had arrived before it and is still being read.
MAX_LOOKS = 100
_NOTHING_READ = -inf
# Failures that hold nothing, and whose words are not logged.
_FOR_THE_CLIENT_ONLY = frozenset(
    {FailureKind.REJECTED, FailureKind.MALFORMED, FailureKind.TOO_LARGE}
)

log = structlog.get_logger()


class HttpCall:
    """Implements ``ports.UpstreamCall``. The call runs as ``task`` from its construction on.

    ``on_end`` is called just before the end is reported. ``fresh``: the call gets a connection of
    its own. ``trace`` goes with its request. ``is_connected``: it has one. ``has_response``: the
    head of the response has arrived. ``has_begun``: so has a piece of the answer or of its
    reasoning.

    All timeouts share one timer. When it is due, data that has arrived and is still to be read
    comes first, however late the timer is: it may be late because nothing was read.

    During a pause the service is not read, and no time counts but the total, unless the answer is
    complete: then only the end of its body is left.
    """

    __slots__ = (
        "_call",
        "_connect_due",
        "_due",
        "_finished_at",
        "_form",
        "_hold_s",
        "_loop",
        "_on_end",
        "_reader",
        "_result_if_cancelled",
        "_resumed",
        "_send",
        "_service",
        "_sink",
        "_streams",
        "_text_sent",
        "_timer",
        "_timer_at",
        "_total_due",
        "_unfinished",
        "fresh",
        "has_begun",
        "has_response",
        "is_connected",
        "permit",
        "reply_to",
        "task",
        "trace",
    )

    def __init__(
        self,
        service: HttpService,
        send: Callable[[bytes, Progress], Awaitable[Response]],
        permit: PermitId,
        call: ChatCall,
        reply_to: Recipient[ProviderMessage],
        on_end: Callable[[HttpCall], object],
        *,
        sink: PieceSink | None = None,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> None:
        self._service = service
        self._send = send
        # Only a call that streams has one.
        self._sink = sink if call.stream else None
        self.permit = permit
        self._call = call
        self.reply_to = reply_to
        self._on_end = on_end
        self.fresh = fresh
        self.trace = trace
        self._form = service.forms.of(call.model)
        self._streams = False
        self.is_connected = False
        self.has_response = False
        self.has_begun = False
        self._text_sent = False
        self._unfinished = False
        self._hold_s: float | None = None
        # When the stream's latest finish reason was read; then no timeout fails the call.
        self._finished_at: float | None = None
        self._reader: StreamReader | None = None
        self._result_if_cancelled: UpstreamResult = Aborted()
        self._resumed: asyncio.Event | None = None
        self._loop = asyncio.get_running_loop()
        settings = service.settings
        now = self._loop.time()
        self._connect_due = now + settings.connect_timeout_s
        self._total_due = now + settings.total_timeout_s
        self._due: float | None = now + settings.first_byte_timeout_s
        self._timer_at = min(self._connect_due, self._due, self._total_due)
        self._timer: asyncio.TimerHandle | AfterReading = self._loop.call_at(
            self._timer_at, self._check_timeouts
        )
        self.task = self._loop.create_task(self._run())
        # The callback of a task also runs if the task was cancelled before its first step, and it
        # runs after the loop has closed a connection that the task aborted.
        self.task.add_done_callback(self._report_end)

    def connected(self) -> None:
        self.is_connected = True

    def abort(self) -> None:
        self._timer.cancel()
        self.task.cancel()

    def pause(self) -> None:
        if self._resumed is None:
            self._resumed = asyncio.Event()

    def resume(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def _report_end(self, task: asyncio.Task[UpstreamResult]) -> None:
        self._timer.cancel()
        self._on_end(self)
        error = None
        if task.cancelled():
            result = self._result_if_cancelled
        elif error := task.exception():
            result = unexpected_failure(error)
        else:
            result = task.result()
        if isinstance(result, UpstreamFailure):
            result = self._discreet(result)
        cut_off = self._unfinished and self.is_connected and not isinstance(result, Completion)
        ended_at = time.monotonic()
        end = UpstreamEnded(self.permit, result, self._hold_s, cut_off, ended_at)
        # A provider that has ended left the call to its next incarnation, which finds it ended.
        self.reply_to.offer(end)
        if error is not None:
            log_unexpected(error, self._service)

    def _discreet(self, failure: UpstreamFailure) -> UpstreamFailure:
        """The failure, with no words of the request where others than its client see them.

        They are in the cause of a hold and of an open circuit, and in the log.
        """
        message = failure.message
        if failure.kind not in _FOR_THE_CLIENT_ONLY or not failure.recognised:
            message = without_quotations(message, (each.content for each in self._call.messages))
        return msgspec.structs.replace(failure, message=message, text_sent=self._text_sent)

    async def _run(self) -> UpstreamResult:
        service, call = self._service, self._call
        form = self._form
        self._streams = form.streams and (
            call.stream or service.settings.ask_for_stream == "always"
        )
        try:
            body = encode_request(call, form, stream=self._streams)
            self._unfinished = True
            response = await self._send(body, self)
            self.has_response = True
            try:
                result = await self._read(response)
            finally:
                self._unfinished = not response.content.at_eof()
                response.close()
        except TRANSPORT_ERRORS as error:
            # The connection failed or the service closed it: it has finished with the call.
            self._unfinished = False
            return failure_of(error, service)
        if form is not USUAL_FORM and isinstance(result, Completion):
            service.forms.answered(call.model)
        return result

    async def _read(self, response: Response) -> UpstreamResult:
        service = self._service
        if not 200 <= response.status <= 299:
            return self._classify(response, await self._read_error_body(response.content))
        now = clock_of(response.headers.get(hdrs.DATE), now=time.time())
        self._hold_s = hold_s(response.headers, now=now, answered=True)
        first = await self._next(response.content)
        if is_event_stream(response.headers.get(hdrs.CONTENT_TYPE, ""), first):
            return await self._read_stream(response.content, first, now)
        data, is_whole = await self._read_body(
            response.content, first, service.settings.max_answer_bytes
        )
        if not is_whole:
            return UpstreamFailure(
                FailureKind.TOO_LARGE,
                f"sent an answer larger than {service.settings.max_answer_bytes} bytes",
                status=response.status,
            )
        if data.lstrip()[:1] in (b"", b"<"):
            return self._classify(response, data)
        result = parse_completion(data, self._call.model, now=now, redactor=service.redactor)
        if isinstance(result, UpstreamFailure):
            return self._adapted(result, 400, data)
        if result.text:
            self._write(result.text)
        return result

    async def _read_stream(self, content: Body, data: bytes, now: float) -> UpstreamResult:
        service = self._service
        reader = StreamReader(
            self._call.model, service.settings.max_answer_bytes, now=now, redactor=service.redactor
        )
        self._reader = reader
        rest = b""
        while data:
            if len(data) > PORTION_BYTES:
                data, rest = data[:PORTION_BYTES], data[PORTION_BYTES:]
            pieces = reader.feed(data)
            if pieces:
                self._write("".join(pieces))
            if reader.ended:
                break
            if rest:
                data, rest = rest, b""
                if self._due is not None:
                    # A timeout that waits for data that had arrived sees that it is being read.
                    self._due = max(self._due, self._loop.time())
                await asyncio.sleep(0)
                continue
            if not self.has_begun:
                self.has_begun = reader.has_begun
            if reader.complete:
                data = await self._next_after_finish(content, reader)
            else:
                data = await self._next(content)
        if not reader.ended and content.at_eof():
            pieces = reader.end_of_body()
            if pieces:
                self._write("".join(pieces))
        elif reader.ended and reader.failure is None and not content.at_eof():
            await self._drain_body(content)
        return reader.finish()

    async def _next_after_finish(self, content: Body, reader: StreamReader) -> bytes:
        """As ``_next``, but a whole answer may end without the end of its body."""
        if self._finished_at is None or not reader.finished:
            self._finished_at = self._loop.time()
        allowed = FINISH_GRACE_S if reader.finished else self._service.settings.idle_timeout_s
        self._set_due(self._finished_at + allowed)
        # The answer is complete, however its stream ends.
        with suppress(*TRANSPORT_ERRORS):
            return await content.readany()
        return b""

    async def _next(self, content: Body) -> bytes:
        """Return the data that has arrived, after the pause if there is one; empty at the end."""
        while self._resumed is not None:
            self._due = None
            await self._resumed.wait()
        self._restart_timeout()
        return await content.readany()

    async def _read_body(self, content: Body, first: bytes, limit: int) -> tuple[bytes, bool]:
        """Read the body up to the limit; return it, and whether that was all of it.

        Once its JSON is whole, its end need not come: some services leave the connection open, or
        break it.
        """
        portions = [first]
        size = len(first)
        grace_s = min(FINISH_GRACE_S, self._service.settings.idle_timeout_s / 2)
        while size <= limit and not content.at_eof():
            if not self.has_begun:
                self.has_begun = not portions[-1].isspace()
            if portions[-1][-16:].rstrip()[-1:] != b"}":
                data = await self._next(content)
            else:
                try:
                    async with PatientTimeout(grace_s):
                        data = await self._next(content)
                except TRANSPORT_ERRORS:
                    if parse_error_body(b"".join(portions)) is not None:
                        break
                    data = await self._next(content)
            if not data:
                break
            portions.append(data)
            size += len(data)
        return b"".join(portions)[:limit], size <= limit

    async def _read_error_body(self, content: Body) -> bytes:
        """Read the body of a refusal as far as possible; a broken one does not change the rest."""
        body = b""
        with suppress(*TRANSPORT_ERRORS):
            async with PatientTimeout(ERROR_BODY_S):
                while len(body) < MAX_ERROR_BODY_BYTES and (data := await self._next(content)):
                    body += data
        return body[:MAX_ERROR_BODY_BYTES]

    async def _drain_body(self, content: Body) -> None:
        """Read on for a moment: if the body ends, its connection can be used again."""
        self._finished_at = self._loop.time()
        self._set_due(self._finished_at + DRAIN_BODY_S)
        with suppress(*TRANSPORT_ERRORS):
            while not content.at_eof():
                await content.readany()

    def _write(self, text: str) -> None:
        if self._sink is not None:
            self._text_sent = True
            self._sink.write(text)

    def _classify(self, response: Response, body: bytes) -> UpstreamFailure:
        failure = classify_response(
            response.status,
            response.headers,
            body,
            now=time.time(),
            model=self._call.model,
            redactor=self._service.redactor,
        )
        return self._adapted(failure, response.status, body)

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

    def _restart_timeout(self) -> None:
        """Expect the next data within the time that is allowed for it, counted from now."""
        if self._finished_at is not None:
            return
        idle_s = self._service.settings.idle_timeout_s
        allowed = idle_s if self.has_begun else self._allowed_before_answer()
        self._set_due(self._loop.time() + allowed)

    def _allowed_before_answer(self) -> float:
        """How long the service may be silent before the first piece of its answer."""
        settings = self._service.settings
        first_s = settings.first_byte_timeout_s
        return max(first_s, settings.idle_timeout_s) if self.has_response else first_s

    def _set_due(self, due: float) -> None:
        # Reading does not move the timer, which would cost more: whether something has arrived
        # shows when it fires.
        self._due = due
        if due < self._timer_at:
            self._timer.cancel()
            self._start_timer(due)

    def _start_timer(self, at: float) -> None:
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._check_timeouts)

    def _next_due(self) -> float:
        if self._due is None:
            return self._total_due
        if self._finished_at is not None:
            return self._due
        if self.is_connected:
            return min(self._due, self._total_due)
        return min(self._due, self._total_due, self._connect_due)

    def _check_timeouts(self) -> None:
        due = self._next_due()
        if self._loop.time() < due:
            self._start_timer(due)
        else:
            self._look(MAX_LOOKS)

    def _look(self, looks_left: int) -> None:
        """Let data that has arrived be read before the call may time out."""
        due, self._due = self._due, None if self._due is None else _NOTHING_READ
        self._timer_at = -inf
        self._timer = AfterReading(self._loop, partial(self._looked, due, looks_left))

    def _looked(self, due: float | None, looks_left: int) -> None:
        has_read = self._due != _NOTHING_READ and self._due is not None
        if self._due == _NOTHING_READ:
            self._due = due
        now, due = self._loop.time(), self._next_due()
        if now < due:
            self._start_timer(due)
        elif has_read and looks_left:
            self._look(looks_left - 1)
        else:
            self._time_out(now)

    def _time_out(self, now: float) -> None:
        settings = self._service.settings
        if self._finished_at is not None and self._due is not None:
            assert self._reader is not None
            self._result_if_cancelled = self._reader.finish()
        elif not self.is_connected and now >= self._connect_due:
            self._result_if_cancelled = connect_timeout_failure(self._service)
        else:
            if now >= self._total_due:
                message = f"took longer than {settings.total_timeout_s:g} s in all"
            elif self.has_begun:
                message = (
                    f"fell silent for {settings.idle_timeout_s:g} s in the middle of its answer"
                )
            elif self.has_response:
                message = f"sent no part of its answer for {self._allowed_before_answer():g} s"
            else:
                message = f"sent nothing within {settings.first_byte_timeout_s:g} s"
            self._result_if_cancelled = UpstreamFailure(FailureKind.TIMEOUT, message)
        self.task.cancel()
