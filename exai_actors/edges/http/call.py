"""One chat completion over HTTP, from request to the one message that ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from aiohttp import hdrs

from exai_actors.core.calls import (
    Aborted,
    ChatCall,
    Completion,
    FailureKind,
    UpstreamFailure,
    UpstreamResult,
)
from exai_actors.edges.http.errors import TRANSPORT_ERRORS, broken, failure_of, log_broken
from exai_actors.edges.http.exchange import Body, Response
from exai_actors.edges.http.service import HttpService
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage, UpstreamChunk, UpstreamEnded
from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.wire.openai.completions import (
    encode_request,
    is_event_stream,
    parse_completion,
)
from exai_actors.wire.openai.errors import classify_response
from exai_actors.wire.openai.rate_headers import hold_s, service_clock
from exai_actors.wire.openai.stream import StreamReader

ERROR_BODY_BYTES = 1 << 16
# How long an answer that has said [DONE] may take to end its body, so that its connection can be
# used again.
ENDING_S = 0.25
# How long the words of a refusal are waited for once its head has come.
REFUSAL_S = 5.0
FIRST_RETRY_S = 0.001
MAX_RETRY_S = 0.05


class HttpCall:
    """Fulfils ``ports.UpstreamCall``. The call runs as ``task`` from its making on.

    ``on_end`` is called with it just before the end is told. ``answering`` says whether the head
    of the response has come.
    """

    __slots__ = (
        "_call",
        "_due",
        "_hold_s",
        "_loop",
        "_on_end",
        "_resumed",
        "_service",
        "_text_sent",
        "_timer",
        "_total_due",
        "_unfinished",
        "_verdict",
        "answering",
        "permit",
        "reply_to",
        "task",
    )

    def __init__(
        self,
        service: HttpService,
        permit: PermitId,
        call: ChatCall,
        reply_to: Recipient[ProviderMessage],
        on_end: Callable[[HttpCall], object],
    ) -> None:
        self._service = service
        self.permit = permit
        self._call = call
        self.reply_to = reply_to
        self._on_end = on_end
        self.answering = False
        self._text_sent = False
        self._unfinished = False
        self._hold_s: float | None = None
        self._verdict: UpstreamResult = Aborted()
        self._resumed: asyncio.Event | None = None
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._total_due = now + service.total_timeout_s
        self._due: float | None = now + service.first_byte_timeout_s
        self._timer = self._loop.call_at(min(self._due, self._total_due), self._look_at_clock)
        self.task = self._loop.create_task(self._run())
        # A task's callback also runs when the task was cancelled before it began, and only after
        # the loop has closed a connection that the task dropped.
        self.task.add_done_callback(self._tell_end)

    def abort(self) -> None:
        self._timer.cancel()
        self.task.cancel()

    def pause(self) -> None:
        if self._resumed is None:
            self._resumed = asyncio.Event()
            self._due = None

    def resume(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None
            self._expect_more()

    def _tell_end(self, task: asyncio.Task[UpstreamResult]) -> None:
        self._timer.cancel()
        self._on_end(self)
        error = None
        if task.cancelled():
            result = self._verdict
        elif error := task.exception():
            result = broken(error)
        else:
            result = task.result()
        if self._text_sent and isinstance(result, UpstreamFailure):
            result = msgspec.structs.replace(result, text_sent=True)
        cut_off = self._unfinished and not isinstance(result, Completion)
        self.reply_to.tell(UpstreamEnded(self.permit, result, self._hold_s, cut_off))
        if error is not None:
            log_broken(error, self._service)

    async def _run(self) -> UpstreamResult:
        service = self._service
        try:
            asked_usage = self._call.stream and service.includes_usage
            result = await self._exchange(asked_usage)
            if asked_usage and _refuses_usage(result):
                service.includes_usage = False
                result = await self._exchange(False)
            return result
        except TRANSPORT_ERRORS as error:
            # The connection failed or the service closed it: it has finished with the call.
            self._unfinished = False
            return failure_of(error, service)

    async def _exchange(self, include_usage: bool) -> UpstreamResult:
        service = self._service
        body = encode_request(self._call, include_usage=include_usage)
        self.answering = False
        self._expect_more()
        self._unfinished = True
        response = await service.ask(body)
        try:
            self.answering = True
            return await self._read(response)
        finally:
            self._unfinished = not response.content.at_eof()
            response.hang_up()

    async def _read(self, response: Response) -> UpstreamResult:
        service = self._service
        if not 200 <= response.status <= 299:
            return self._classified(response, await self._words_of_refusal(response.content))
        now = service_clock(response.headers, now=time.time())
        self._hold_s = hold_s(response.headers, now=now, answered=True)
        first = await self._next(response.content)
        if is_event_stream(response.headers.get(hdrs.CONTENT_TYPE, ""), first):
            return await self._read_stream(response.content, first, now)
        data, whole = await self._collect(response.content, first, service.max_answer_bytes)
        if not whole:
            return UpstreamFailure(
                FailureKind.TOO_LARGE,
                f"sent an answer larger than {service.max_answer_bytes} bytes",
                status=response.status,
            )
        if data.lstrip()[:1] in (b"", b"<"):
            return self._classified(response, data)
        result = parse_completion(data, self._call.model, now=now, redactor=service.redactor)
        if self._call.stream and isinstance(result, Completion) and result.text:
            await self._hand_on(result.text)
        return result

    async def _read_stream(self, content: Body, data: bytes, now: float) -> UpstreamResult:
        service = self._service
        reader = StreamReader(
            self._call.model, service.max_answer_bytes, now=now, redactor=service.redactor
        )
        while data:
            pieces = reader.feed(data)
            if pieces and self._call.stream:
                await self._hand_on("".join(pieces))
            if reader.ended:
                break
            data = await self._next(content)
        if reader.ended and reader.failure is None and not content.at_eof():
            await self._let_it_end(content)
        return reader.finish()

    async def _next(self, content: Body) -> bytes:
        """What has arrived, all of it at once; empty at the end of the body."""
        if self._resumed is not None:
            await self._resumed.wait()
        self._expect_more()
        return await content.readany()

    async def _collect(self, content: Body, first: bytes, limit: int) -> tuple[bytes, bool]:
        """The body up to the limit, and whether that was all of it."""
        portions = [first]
        size = len(first)
        while size <= limit and (data := await self._next(content)):
            portions.append(data)
            size += len(data)
        return b"".join(portions)[:limit], size <= limit

    async def _words_of_refusal(self, content: Body) -> bytes:
        """As far as they can be read: status and headers have said already that it is one."""
        words = b""
        with suppress(*TRANSPORT_ERRORS):
            async with asyncio.timeout(REFUSAL_S):
                while len(words) < ERROR_BODY_BYTES and (data := await self._next(content)):
                    words += data
        return words[:ERROR_BODY_BYTES]

    async def _let_it_end(self, content: Body) -> None:
        try:
            async with asyncio.timeout(ENDING_S):
                while not content.at_eof():
                    await content.readany()
        except TRANSPORT_ERRORS:
            # The answer is whole; only the connection cannot be used again.
            return

    async def _hand_on(self, text: str) -> None:
        """Tell the text; while the recipient is full or has paused us, read nothing more."""
        chunk = UpstreamChunk(self.permit, text)
        delay = FIRST_RETRY_S
        while True:
            if self._resumed is not None:
                await self._resumed.wait()
            match self.reply_to.offer(chunk):
                case Offer.ACCEPTED:
                    self._text_sent = True
                    return
                case Offer.CLOSED:
                    raise asyncio.CancelledError
                case Offer.FULL:
                    self._due = None
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, MAX_RETRY_S)

    def _classified(self, response: Response, body: bytes) -> UpstreamFailure:
        return classify_response(
            response.status,
            response.headers,
            body,
            now=time.time(),
            model=self._call.model,
            redactor=self._service.redactor,
        )

    def _expect_more(self) -> None:
        """Something must come within the time allowed for it, from now on."""
        service = self._service
        allowed = service.idle_timeout_s if self.answering else service.first_byte_timeout_s
        self._due = self._loop.time() + allowed
        if self._due < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due, self._look_at_clock)

    def _look_at_clock(self) -> None:
        # The timer is not moved with every read: it finds out when it fires.
        now = self._loop.time()
        due = self._total_due if self._due is None else min(self._due, self._total_due)
        if now < due:
            self._timer = self._loop.call_at(due, self._look_at_clock)
            return
        service = self._service
        if now >= self._total_due:
            told = f"took longer than {service.total_timeout_s:g} s in all"
        elif self.answering:
            told = f"fell silent for {service.idle_timeout_s:g} s in the middle of its answer"
        else:
            told = f"sent nothing within {service.first_byte_timeout_s:g} s"
        self._verdict = UpstreamFailure(FailureKind.TIMEOUT, told)
        self.task.cancel()


def _refuses_usage(result: UpstreamResult) -> bool:
    return (
        isinstance(result, UpstreamFailure)
        and result.kind is FailureKind.REJECTED
        and "stream_options" in result.message
    )
