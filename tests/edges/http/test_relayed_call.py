"""A relayed call on an HTTP client that the test plays: timeouts, limits and odd responses."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from exai_actors.core.calls import (
    Aborted,
    Completion,
    FailureKind,
    RelayCall,
    UpstreamFailure,
    UpstreamResult,
)
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http import relayed_call
from exai_actors.edges.http.alarms import Alarms
from exai_actors.edges.http.client import Receiver, Target
from exai_actors.edges.http.relayed_call import RelayedCall
from exai_actors.edges.http.service import HttpService
from exai_actors.edges.http.settings import HttpSettings
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage, UpstreamEnded
from exai_actors.testing.probe import Probe
from exai_actors.wire.openai.redaction import Redactor

STREAM = {"Content-Type": "text/event-stream"}
JSON = {"Content-Type": "application/json"}
PIECE = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


class Sink:
    def __init__(self) -> None:
        self.status = 0
        self.length: int | None = None
        self.body = b""
        self.is_whole = False

    def head(self, status: int, fields: tuple[tuple[str, str], ...], length: int | None, /) -> None:
        assert self.status == 0
        self.status, self.length = status, length
        self.fields = dict(fields)

    def data(self, data: bytes, /) -> None:
        assert self.status
        self.body += data

    def whole(self) -> None:
        self.is_whole = True


class Played:
    """Implements ``HttpClient`` and ``HttpExchange``; the test calls the receiver."""

    shortest_connect_s = 0.0

    def __init__(self) -> None:
        self.receiver: Receiver
        self.is_paused = False
        self.aborts = 0

    def start(
        self,
        _target: Target,
        _body: bytes,
        receiver: Receiver,
        *,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> Played:
        self.receiver = receiver
        return self

    def abort(self) -> None:
        self.aborts += 1
        asyncio.get_running_loop().call_soon(self.receiver.failed, Aborted())

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    async def aclose(self) -> None: ...


class Calling:
    """One call; ``settings`` are those of the service."""

    def __init__(self, *, answers: int = 1, **settings: Any) -> None:
        self.sink = Sink()
        self.client = Played()
        self.provider: Probe[ProviderMessage] = Probe("provider")
        service = HttpService(
            name="s",
            redactor=Redactor(""),
            base_url="http://s/v1",
            settings=HttpSettings(**settings),
        )
        call = RelayCall(
            family="chat",
            path="chat/completions",
            body=b'{"model":"m","secret":"the words of the request, which nobody else may see"}',
            headers=(),
            model="m",
            stream=True,
            characters=1.0,
            sink=self.sink,
            answers=answers,
        )
        target = Target("POST", URL("http://s/v1/chat/completions"), {})
        self.ended = 0
        self.began_at = time.monotonic()
        self.call = RelayedCall(
            service, Alarms(), self.client, target, PermitId(1), call, self.provider, self._count
        )
        self.service = self.client.receiver

    def _count(self, _: RelayedCall) -> None:
        self.ended += 1

    async def end(self) -> UpstreamEnded:
        end = await self.provider.expect(UpstreamEnded)
        assert self.ended == 1
        assert end.ended_at is not None, "handled later, it still counts from when it was seen"
        assert self.began_at <= end.ended_at <= time.monotonic()
        return end

    async def result(self) -> UpstreamResult:
        return (await self.end()).result

    async def failure(self, kind: FailureKind) -> UpstreamFailure:
        result = await self.result()
        assert isinstance(result, UpstreamFailure)
        assert result.kind is kind
        return result

    def begin(self, *pieces: bytes, status: int = 200, headers: dict[str, str] = STREAM) -> None:
        self.service.connected()
        self.service.head(status, CIMultiDict(headers))
        for piece in pieces:
            self.service.data(piece)


@pytest.mark.parametrize(
    ("settings", "phase", "words", "kind"),
    [
        ({"connect_timeout_s": 0.01}, "start", "accepted no connection", FailureKind.CONNECT),
        ({"first_byte_timeout_s": 0.01}, "connected", "sent nothing", FailureKind.TIMEOUT),
        (
            {"first_byte_timeout_s": 0.01, "idle_timeout_s": 0.01},
            "head",
            "sent nothing",
            FailureKind.TIMEOUT,
        ),
        (
            {"idle_timeout_s": 0.01, "first_byte_timeout_s": 9},
            "data",
            "fell silent",
            FailureKind.TIMEOUT,
        ),
        ({"total_timeout_s": 0.01}, "data", "took longer", FailureKind.TIMEOUT),
    ],
)
async def test_a_service_that_is_late_is_given_up(
    settings: dict[str, Any], phase: str, words: str, kind: FailureKind
) -> None:
    calling = Calling(**settings)
    if phase == "connected":
        calling.service.connected()
    if phase in {"head", "data"}:
        calling.begin(*([PIECE] if phase == "data" else []))
    end = await calling.end()
    assert isinstance(end.result, UpstreamFailure)
    assert (end.result.kind, end.result.text_sent) == (kind, phase == "data")
    assert words in end.result.message
    assert end.cut_off is (phase != "start")


async def test_an_answer_that_is_whole_needs_no_end_of_its_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relayed_call, "WHOLE_GRACE_S", 0.01)
    calling = Calling()
    calling.begin(PIECE, LAST)
    assert calling.sink.is_whole
    assert isinstance(await calling.result(), Completion)
    assert calling.client.aborts == 1


@pytest.mark.parametrize("pieces", [(LAST,), (PIECE, LAST)])
async def test_an_answer_that_is_whole_may_be_broken_off(pieces: tuple[bytes, ...]) -> None:
    calling = Calling()
    calling.begin(*pieces)
    calling.service.failed(UpstreamFailure(FailureKind.TRUNCATED, "broke off"))
    assert isinstance(await calling.result(), Completion)


async def test_an_abort_ends_a_call_once() -> None:
    calling = Calling()
    calling.begin(PIECE)
    calling.call.abort()
    end = await calling.end()
    assert (end.result, end.cut_off) == (Aborted(), True)
    for late in (calling.call.abort, calling.call.pause, calling.call.resume):
        late()
    calling.service.data(PIECE)
    calling.service.ended()
    calling.service.failed(Aborted())
    assert (calling.sink.body, calling.ended) == (PIECE, 1)


async def test_time_does_not_pass_for_a_service_while_the_reader_is_slow() -> None:
    calling = Calling(idle_timeout_s=0.02, first_byte_timeout_s=9.0)
    calling.begin(PIECE)
    calling.call.pause()
    calling.call.pause()
    paused = [calling.client.is_paused]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(calling.provider.expect(UpstreamEnded), 0.1)
    calling.call.resume()
    paused.append(calling.client.is_paused)
    assert paused == [True, False]
    assert "fell silent" in (await calling.failure(FailureKind.TIMEOUT)).message


async def test_a_large_answer_in_one_piece_is_passed_on_as_it_comes() -> None:
    calling = Calling()
    half = b'{"x":"' + b"y" * relayed_call.HELD_BYTES
    calling.begin(half, headers={**JSON, "Content-Length": str(len(half) + 12)})
    assert (calling.sink.body, calling.sink.length) == (half, len(half) + 12)
    calling.service.data(b'","choices":')
    calling.service.data(b"[]}")
    calling.service.ended()
    assert isinstance(await calling.result(), Completion)
    assert calling.sink.body == half + b'","choices":[]}'
    assert calling.sink.is_whole


async def test_half_of_a_large_answer_cannot_be_taken_back() -> None:
    calling = Calling()
    calling.begin(b'{"x":"' + b"y" * relayed_call.HELD_BYTES, headers=JSON)
    calling.service.failed(UpstreamFailure(FailureKind.TRUNCATED, "broke off"))
    assert (await calling.failure(FailureKind.TRUNCATED)).text_sent


async def test_an_answer_above_the_limit_is_given_up() -> None:
    calling = Calling(max_answer_bytes=100)
    calling.begin(b"{" + b" " * 100, headers=JSON)
    await calling.failure(FailureKind.TOO_LARGE)
    assert calling.sink.status == 0


@pytest.mark.parametrize(
    ("sent", "coding"),
    [
        (b"no gzip at all", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (gzip.compress(b" " * 10_000, mtime=0), "gzip"),
    ],
)
async def test_a_compression_that_cannot_be_read_is_malformed(sent: bytes, coding: str) -> None:
    calling = Calling(max_answer_bytes=1_000)
    calling.begin(sent, headers={**STREAM, "Content-Encoding": coding})
    await calling.failure(FailureKind.MALFORMED)


async def test_a_refusal_may_be_compressed_broken_off_or_endless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = gzip.compress(b'{"error":{"message":"slow down"}}')
    calling = Calling()
    calling.begin(packed, status=429, headers={**JSON, "Content-Encoding": "gzip"})
    calling.service.ended()
    failure = await calling.failure(FailureKind.RATE_LIMITED)
    assert "slow down" in failure.message
    assert failure.response is not None
    assert (failure.response.body, dict(failure.response.fields)["content-encoding"]) == (
        packed,
        "gzip",
    )
    calling = Calling()
    calling.begin(b'{"error":', status=500, headers=JSON)
    calling.service.failed(UpstreamFailure(FailureKind.TRUNCATED, "broke off"))
    assert (await calling.failure(FailureKind.SERVER_ERROR)).response is not None
    calling = Calling()
    calling.begin(b"x" * (relayed_call.MAX_ERROR_BODY_BYTES + 1), status=500, headers=JSON)
    await calling.failure(FailureKind.SERVER_ERROR)
    monkeypatch.setattr(relayed_call, "ERROR_BODY_S", 0.01)
    calling = Calling()
    calling.begin(b"x", status=503, headers=JSON)
    assert (await calling.failure(FailureKind.OVERLOADED)).status == 503


@pytest.mark.parametrize("ends", [True, False])
async def test_a_refusal_that_cannot_be_unpacked_is_one_all_the_same(
    ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relayed_call, "ERROR_BODY_S", 0.01)
    calling = Calling()
    headers = {**JSON, "Content-Encoding": "gzip"}
    calling.begin(b"no gzip at all", status=429, headers=headers)
    if ends:
        calling.service.ended()
    failure = await calling.failure(FailureKind.RATE_LIMITED)
    assert failure.response is not None
    assert failure.response.body == b"no gzip at all"


async def test_no_response_at_all_may_be_tried_again() -> None:
    calling = Calling()
    failure = UpstreamFailure(FailureKind.TRUNCATED, "closed the connection", resend=True)
    calling.service.failed(failure)
    assert (await calling.failure(FailureKind.TRUNCATED)).resend


async def test_a_failure_shows_no_words_of_the_request() -> None:
    calling = Calling()
    quoted = b'{"error":{"message":"bad: the words of the request, which nobody else may see"}}'
    calling.begin(quoted, status=500, headers=JSON)
    calling.service.ended()
    assert "nobody else" not in (await calling.failure(FailureKind.SERVER_ERROR)).message


async def test_the_headers_of_a_good_answer_hold_the_account() -> None:
    calling = Calling()
    limits = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "7s",
    }
    calling.begin(PIECE, LAST, headers={**STREAM, **limits, "request-id": "theirs"})
    calling.service.ended()
    assert (await calling.end()).hold_s == 7.0
    assert calling.sink.fields == {
        "content-type": "text/event-stream",
        "x-upstream-request-id": "theirs",
        "x-exai-provider": "s",
    }


@pytest.mark.parametrize(
    ("headers", "fails"),
    [(STREAM, "head"), (STREAM, "data"), (JSON, "head"), (JSON, "data"), (JSON, "whole")],
)
async def test_a_bug_in_the_reader_ends_its_call_once(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], fails: str
) -> None:
    def raise_an_error(*_: object) -> None:
        raise RuntimeError("a bug")

    calling = Calling()
    monkeypatch.setattr(calling.sink, fails, raise_an_error)
    calling.service.connected()
    calling.service.head(200, CIMultiDict(headers))
    body = PIECE + LAST + b"data: [DONE]\n\n" if headers is STREAM else b'{"choices":[{}]}'
    calling.service.data(body)
    if not calling.client.aborts:
        calling.service.ended()
    failure = await calling.failure(FailureKind.BROKEN)
    assert "RuntimeError inside the broker" in failure.message


@pytest.mark.parametrize("ends", ["ended", "broken off", "silent"])
async def test_a_bug_in_reading_a_refusal_ends_its_call_once(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    def raise_an_error(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(relayed_call, "classify_response", raise_an_error)
    monkeypatch.setattr(relayed_call, "ERROR_BODY_S", 0.01)
    calling = Calling()
    calling.service.connected()
    calling.service.head(500, CIMultiDict(JSON))
    if ends == "ended":
        calling.service.ended()
    elif ends == "broken off":
        calling.service.failed(UpstreamFailure(FailureKind.TRUNCATED, "broke off"))
    failure = await calling.failure(FailureKind.BROKEN)
    assert "RuntimeError inside the broker" in failure.message


@pytest.mark.parametrize("ends", ["ended", "failed"])
async def test_a_bug_in_hiding_words_ends_its_call_once(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    def raise_an_error(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(relayed_call, "without_quotations", raise_an_error)
    calling = Calling()
    calling.service.connected()
    if ends == "ended":
        calling.service.head(500, CIMultiDict(JSON))
        calling.service.ended()
    else:
        calling.service.failed(UpstreamFailure(FailureKind.TRUNCATED, "broke off"))
    failure = await calling.failure(FailureKind.BROKEN)
    assert "RuntimeError inside the broker" in failure.message


async def test_a_response_that_breaks_a_rule_is_cut_off() -> None:
    calling = Calling()
    calling.service.connected()
    calling.service.failed(UpstreamFailure(FailureKind.MALFORMED, "broke a rule"))
    assert (await calling.end()).cut_off


async def test_the_end_of_a_stream_tells_when_its_first_piece_came() -> None:
    calling = Calling()
    calling.begin()
    head_at = time.monotonic()
    calling.service.data(PIECE)
    came_by = time.monotonic()
    calling.service.data(LAST)
    calling.service.ended()
    first_piece_at = (await calling.end()).first_piece_at
    assert first_piece_at is not None
    assert head_at <= first_piece_at <= came_by


async def test_the_end_of_an_answer_in_one_piece_tells_of_no_first_piece() -> None:
    calling = Calling()
    calling.begin(b'{"choices": []}', headers={"Content-Type": "application/json"})
    calling.service.ended()
    assert (await calling.end()).first_piece_at is None
