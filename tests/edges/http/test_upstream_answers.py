"""HttpUpstream against a real server: answers, refusals and broken answers."""

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import pytest
import structlog
from yarl import URL

from exai_actors.core.calls import (
    ChatCall,
    Completion,
    FailureKind,
    LimitHolder,
    UpstreamFailure,
    Usage,
)
from exai_actors.edges.http.address import join_path
from exai_actors.edges.http.upstream import HttpUpstream
from exai_actors.errors import ConfigError
from exai_actors.ids import PermitId
from exai_actors.messages.provider import (
    ModelsListed,
    ModelsUnavailable,
    ProviderMessage,
    UpstreamEnded,
)
from exai_actors.testing.probe import Probe
from exai_actors.testing.scripted_replies import (
    CUT,
    RESET,
    Gate,
    Reasoning,
    Reply,
    Step,
    answer,
    body,
    failure,
    hang_up,
    html,
    socket_bytes,
)
from exai_actors.testing.scripted_upstream import ScriptedUpstream, refusing_base_url
from tests.edges.http.calling import KEY, Caller, caller_for, wait_for_response

SECRET_PROMPT = "a secret plan"


@pytest.mark.parametrize(
    ("status", "quoted"), [(418, False), (429, False), (500, False), (503, False), (400, True)]
)
async def test_only_the_client_sees_its_prompt_in_the_words_of_a_service(
    upstream: ScriptedUpstream, caller: Caller, status: int, quoted: bool
) -> None:
    upstream.then(failure(status, f"no {SECRET_PROMPT} today"))
    failed = await caller.start(SECRET_PROMPT).failure()
    assert (SECRET_PROMPT in failed.message) is quoted
    assert failed.message.startswith(f"answered HTTP {status}: no ")


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(api_key=KEY) as started:
        yield started


@pytest.fixture
async def caller(upstream: ScriptedUpstream) -> AsyncIterator[Caller]:
    async with caller_for(upstream.base_url) as ready:
        yield ready


async def test_a_stream_sends_each_piece_and_then_the_whole_answer(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    first, second = Gate(), Gate()
    upstream.then(answer(Reasoning("hm"), "Hel", first, "lo", second))
    started = caller.start(stream=True)
    assert await started.piece() == "Hel"
    first.open()
    assert await started.piece() == "lo"
    second.open()
    assert await started.end() == Completion("Hello", "scripted-model", "stop", Usage(3, 5), "hm")
    assert started.pieces == ["Hel", "lo"]


async def test_reasoning_is_passed_on_between_the_pieces_in_the_order_of_arrival(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    gate = Gate()
    upstream.then(answer(Reasoning("let me "), Reasoning("think"), gate, "4", Reasoning("?"), "2"))
    started = caller.start(wants_reasoning=True)
    while "".join(started.pieces).replace(")(", "") != "(let me think)":
        await started.piece()
    gate.open()
    result = await started.end()
    assert isinstance(result, Completion)
    assert (result.text, result.reasoning) == ("42", "let me think?")
    assert "".join(started.pieces).replace(")(", "") == "(let me think)4(?)2"


async def test_the_reasoning_of_an_answer_in_one_piece_precedes_it(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(answer(Reasoning("hm"), "42", always_streams=False))
    started = caller.start(wants_reasoning=True)
    await started.end()
    assert started.pieces == ["(hm)", "42"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_an_answer_has_begun_with_its_reasoning_if_that_is_wanted(
    upstream: ScriptedUpstream, caller: Caller, wanted: bool
) -> None:
    upstream.then(answer(Reasoning("hm"), CUT))
    failed = await caller.start(wants_reasoning=wanted).failure()
    assert failed.text_sent is wanted


async def test_pieces_that_arrive_together_are_one_chunk(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    event = b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n'
    upstream.then(answer(b"".join(event % number for number in range(5))))
    started = caller.start()
    await started.end()
    assert started.pieces == ["01234"]


async def test_an_answer_without_streaming_sends_no_chunks(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    started = caller.start("nonce 17", stream=False)
    assert await started.end() == Completion(
        "echo: nonce 17", "scripted-model", "stop", Usage(3, 5)
    )
    assert started.pieces == []
    seen = upstream.requests[0]
    assert seen.body["messages"] == [{"role": "user", "content": "nonce 17"}]
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert seen.stream


async def test_a_client_that_wants_no_stream_may_keep_the_service_from_sending_one(
    upstream: ScriptedUpstream,
) -> None:
    async with caller_for(upstream.base_url, ask_for_stream="when_asked") as caller:
        for stream in (False, True):
            assert isinstance(await caller.start(stream=stream).end(), Completion)
    assert [seen.stream for seen in upstream.requests] == [False, True]


async def test_a_plain_call_whose_answer_breaks_off_is_truncated(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(answer("Hel", finish_reason=None, done=False))
    failed = await caller.start(stream=False).failure()
    assert (failed.kind, failed.text_sent) == (FailureKind.TRUNCATED, False)


async def test_a_stream_request_answered_with_json_is_understood(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(answer("Hel", "lo", always_streams=False))
    started = caller.start(stream=True)
    result = await started.end()
    assert isinstance(result, Completion)
    assert (started.pieces, result.text) == (["Hello"], "Hello")


async def test_a_plain_request_answered_with_a_stream_is_understood(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(answer("Hel", "lo", always_streams=True))
    started = caller.start(stream=False)
    result = await started.end()
    assert isinstance(result, Completion)
    assert (started.pieces, result.text) == ([], "Hello")


async def test_a_stream_without_its_content_type_is_understood(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    event = 'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    upstream.then(body(event, content_type="application/octet-stream"))
    started = caller.start()
    await started.end()
    assert started.pieces == ["x"]


async def test_no_key_sends_no_authorization() -> None:
    async with ScriptedUpstream() as upstream:
        keyless = HttpUpstream(name="local", base_url=upstream.base_url + "/", api_key=None)
        await Caller(keyless).start().end()
        await keyless.aclose()
        assert "Authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (html(), FailureKind.MALFORMED, "answered HTTP 200 with a web page"),
        (failure(401, f"no such key: {KEY}"), FailureKind.UNAUTHORIZED, "HTTP 401: no such key"),
        (failure(404, "no such model"), FailureKind.MODEL_NOT_FOUND, "HTTP 404: no such model"),
        (html(status=404), FailureKind.NOT_FOUND, "check base_url"),
        (failure(429, "slow down"), FailureKind.RATE_LIMITED, "HTTP 429: slow down"),
        (failure(429, "pay", code="insufficient_quota"), FailureKind.QUOTA, "HTTP 429: pay"),
        (failure(400, "bad"), FailureKind.REJECTED, "HTTP 400: bad"),
        (failure(500, "boom"), FailureKind.SERVER_ERROR, "HTTP 500: boom"),
        (failure(503, "busy"), FailureKind.OVERLOADED, "HTTP 503: busy"),
        (body("", status=500), FailureKind.SERVER_ERROR, "HTTP 500 with an empty body"),
        (body(""), FailureKind.MALFORMED, "HTTP 200 with an empty body"),
        (body("no JSON"), FailureKind.MALFORMED, "text that is not JSON"),
        (body('{"error": "out of memory"}'), FailureKind.SERVER_ERROR, "out of memory"),
        (
            body("", status=307, headers={"Location": "http://127.0.0.1:1/steal"}),
            FailureKind.REJECTED,
            "a redirect to http://127.0.0.1:1/steal",
        ),
        (hang_up(), FailureKind.TRUNCATED, "closed the connection without answering"),
        (Reply(before=(RESET,)), FailureKind.TRUNCATED, "lost the connection"),
        (answer("Hel", CUT, "lo"), FailureKind.TRUNCATED, "broke off"),
        (answer("Hel", RESET, "lo"), FailureKind.TRUNCATED, ""),
        (socket_bytes("SSH-2.0-OpenSSH_9.2\r\n"), FailureKind.MALFORMED, "not HTTP"),
        (
            socket_bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
            FailureKind.TRUNCATED,
            "broke off",
        ),
        (
            body(b"no gzip", headers={"Content-Encoding": "gzip"}),
            FailureKind.MALFORMED,
            "a body whose compression is broken",
        ),
        (
            body(b"x", headers={"Content-Encoding": "br"}),
            FailureKind.MALFORMED,
            "a body in a compression that was not requested",
        ),
    ],
)
async def test_every_failure_is_reported_once_with_its_kind_and_cause(
    upstream: ScriptedUpstream,
    caller: Caller,
    reply: Reply,
    kind: FailureKind,
    said: str,
    stream: bool,
) -> None:
    upstream.then(reply)
    started = caller.start(stream=stream)
    failed = await started.failure()
    assert failed.kind is kind
    assert said in failed.message
    assert len(started.ends) == 1
    # The upstream still works.
    assert isinstance(await caller.start("again", stream=stream).end(), Completion)


async def test_a_refused_connection_names_the_address() -> None:
    with refusing_base_url() as base_url:
        async with caller_for(base_url) as caller:
            failed = await caller.start().failure()
    assert failed.kind is FailureKind.CONNECT
    assert failed.message.startswith(f"cannot be reached at {base_url} (Connect")


async def test_an_unknown_host_is_named() -> None:
    async with caller_for("http://does-not-exist.invalid/v1") as caller:
        failed = await caller.start().failure()
    assert failed.kind is FailureKind.CONNECT
    assert "does-not-exist.invalid" in failed.message


async def test_plain_http_behind_an_https_address_is_explained(upstream: ScriptedUpstream) -> None:
    async with caller_for(upstream.base_url.replace("http:", "https:")) as caller:
        failed = await caller.start().failure()
    assert failed.kind is FailureKind.CONNECT
    assert "base_url must begin with http://" in failed.message


async def test_a_refusal_has_its_status_and_retry_after(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(failure(429, headers={"Retry-After": "7"}))
    failed = await caller.start().failure()
    assert (failed.status, failed.retry_after, failed.text_sent) == (429, 7.0, False)


async def test_instants_are_compared_with_the_clock_of_the_service(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    ahead = time.time() + 3600
    date, again = (formatdate(at, usegmt=True) for at in (ahead, ahead + 5))
    upstream.then(failure(429, headers={"Date": date, "Retry-After": again}))
    assert (await caller.start().failure()).retry_after == 5.0
    headers = {
        "Date": date,
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": str(int(ahead) + 7),
    }
    upstream.then(answer("hello", headers=headers))
    started = caller.start()
    await started.end()
    (ended,) = (each for each in started.probe.messages if isinstance(each, UpstreamEnded))
    assert ended.hold_s == pytest.approx(7.0, abs=1.0)


async def test_a_limit_of_0_beside_an_answer_is_no_limit(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    headers = {
        "x-ratelimit-limit-tokens": "0",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1h",
    }
    upstream.then(answer("hello", headers=headers))
    started = caller.start()
    await started.end()
    (ended,) = (each for each in started.probe.messages if isinstance(each, UpstreamEnded))
    assert ended.hold_s is None


async def test_a_refusal_that_names_the_asked_model_is_that_models(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(failure(429, "the organization has used up its rate limit of scripted-model"))
    failed = await caller.start().failure()
    assert failed.holder is LimitHolder.MODEL


HEAD_OF_429 = b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        (b'Content-Length: 100\r\n\r\n{"error": {"mess',),
        (b'Content-Length: 100\r\n\r\n{"error": {"mess', RESET),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
        (b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nxyz",),
        (b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",),
    ],
)
async def test_a_refusal_with_an_unreadable_body_is_still_a_refusal(
    upstream: ScriptedUpstream, caller: Caller, rest: tuple[Step, ...]
) -> None:
    gate = Gate()
    upstream.then(socket_bytes(HEAD_OF_429, rest[0], gate, *rest[1:]))
    started = caller.start()
    await wait_for_response(started)
    gate.open()
    failed = await started.failure()
    assert (failed.kind, failed.status, failed.retry_after) == (FailureKind.RATE_LIMITED, 429, 7.0)


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        ((CUT,), FailureKind.TRUNCATED),
        ((b"data: {oops\n\n",), FailureKind.MALFORMED),
        ((b'data: {"error": {"message": "boom"}}\n\n',), FailureKind.SERVER_ERROR),
    ],
)
async def test_a_stream_that_fails_after_text_reports_that_text_was_sent(
    upstream: ScriptedUpstream, caller: Caller, rest: tuple[object, ...], kind: FailureKind
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", gate, *rest))  # type: ignore[arg-type]
    started = caller.start()
    assert await started.piece() == "Hel"
    gate.open()
    failed = await started.failure()
    assert (failed.kind, failed.text_sent) == (kind, True)


async def test_a_stream_that_ends_without_finishing_is_truncated(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(answer("Hel", finish_reason=None, done=False))
    assert (await caller.start().failure()).kind is FailureKind.TRUNCATED


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_of_ten_megabytes_arrives_whole(
    upstream: ScriptedUpstream, caller: Caller, stream: bool
) -> None:
    piece = "żółć " * 20_000
    upstream.then(answer(*[piece] * 60))
    started = caller.start(stream=stream)
    result = await started.end()
    assert isinstance(result, Completion)
    assert result.text == piece * 60
    assert len(result.text.encode()) > 10_000_000
    assert "".join(started.pieces) == (result.text if stream else "")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_over_the_limit_is_cut_off(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.then(answer(*["x" * 10_000] * 100))
    async with caller_for(upstream.base_url, max_answer_bytes=50_000) as caller:
        failed = await caller.start(stream=stream).failure()
        assert failed.kind is FailureKind.TOO_LARGE
        assert "50000 bytes" in failed.message
        assert isinstance(await caller.start(stream=stream).end(), Completion)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_an_unrequested_compression_is_undone(
    upstream: ScriptedUpstream,
    caller: Caller,
    coding: str,
    compress: Callable[[bytes], bytes],
    stream: bool,
) -> None:
    events = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\ndata: [DONE]\n\n'
    packed = compress(events)
    upstream.then(body(packed[:20], packed[20:], headers={"Content-Encoding": coding}))
    result = await caller.start(stream=stream).end()
    assert isinstance(result, Completion)
    assert result.text == "Hello"
    assert isinstance(await caller.start("again").end(), Completion)
    assert upstream.connections == 1


async def test_a_decompression_bomb_is_cut_off(upstream: ScriptedUpstream) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    upstream.then(body(bomb, headers={"Content-Encoding": "gzip"}))
    async with caller_for(upstream.base_url, max_answer_bytes=100_000) as caller:
        assert (await caller.start(stream=False).failure()).kind is FailureKind.TOO_LARGE


async def test_a_prompt_of_megabytes_is_sent_whole(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(lambda seen: answer(str(len(seen.prompt))))
    result = await caller.start("x" * 3_000_000).end()
    assert isinstance(result, Completion)
    assert result.text == "3000000"


async def test_stream_options_are_left_out_after_the_service_refused_them(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(failure(400, "Unrecognized request argument supplied: stream_options"))
    assert (await caller.start().failure()).resend
    assert isinstance(await caller.start().end(), Completion)
    assert isinstance(await caller.start().end(), Completion)
    started = ["stream_options" in seen.body for seen in upstream.requests]
    assert started == [True, False, False]


async def test_the_models_are_listed(upstream: ScriptedUpstream, caller: Caller) -> None:
    upstream.models = ("b", "a")
    probe: Probe[ProviderMessage] = Probe()
    caller.upstream.ask_models(probe)
    assert (await probe.expect(ModelsListed)).models == ("b", "a")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (failure(401, f"key {KEY}"), FailureKind.UNAUTHORIZED),
        (html(), FailureKind.MALFORMED),
        (body("{}"), FailureKind.MALFORMED),
        (hang_up(), FailureKind.TRUNCATED),
        (body(b"[" + b" " * 5_000_000), FailureKind.TOO_LARGE),
    ],
)
async def test_a_failure_to_list_models_is_reported_once(
    upstream: ScriptedUpstream, caller: Caller, reply: Reply, kind: FailureKind
) -> None:
    upstream.models = reply
    probe: Probe[ProviderMessage] = Probe()
    caller.upstream.ask_models(probe)
    failed = await probe.expect(ModelsUnavailable)
    assert failed.failure.kind is kind
    assert KEY not in failed.failure.message
    assert len(probe.messages) == 1


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("api.moonshot.ai/v1", "must be an http:// or https:// address"),
        ("ftp://host/v1", "must be an http:// or https:// address"),
        ("http://", "must be an http:// or https:// address"),
        ("http://user:word@host/v1", "must not hold user or password"),
        ("http://[::1/v1", "is no URL"),
    ],
)
def test_a_base_url_that_cannot_work_is_refused(base_url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        HttpUpstream(name="kimi", base_url=base_url, api_key=None)


@pytest.mark.parametrize("key", ["sk-line\n", " sk-space", "sk-ż", "sk-\x00"])
def test_a_key_that_no_header_can_hold_is_refused_unquoted(key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        HttpUpstream(name="kimi", base_url="http://127.0.0.1/v1", api_key=key)
    assert key.strip() not in str(refused.value)


@pytest.mark.parametrize("tail", ["", "/", "//"])
def test_the_escapes_in_the_path_of_the_base_url_are_kept(tail: str) -> None:
    below = join_path(URL(f"https://gateway.example/a%2Fb%20c/v1{tail}"), "chat/completions")
    assert below.raw_path == "/a%2Fb%20c/v1/chat/completions"


async def test_the_query_of_the_base_url_is_kept() -> None:
    async with ScriptedUpstream() as upstream, caller_for(upstream.base_url + "?v=1") as caller:
        assert isinstance(await caller.start().end(), Completion)
        assert upstream.requests[0].path == "/v1/chat/completions?v=1"


async def test_headers_and_query_of_the_provider_are_sent() -> None:
    settings: dict[str, Any] = {
        "api_key_header": "api-key",
        "headers": {"user-agent": "desk/1", "X-Team": "blue"},
        "query": {"api-version": "2024-10-21", "a b": "c&d"},
    }
    async with (
        ScriptedUpstream() as upstream,
        caller_for(upstream.base_url, **settings) as caller,
    ):
        for _ in range(2):
            assert isinstance(await caller.start().end(), Completion)
        seen = upstream.requests[1]
    assert seen.path == "/v1/chat/completions?api-version=2024-10-21&a+b=c%26d"
    assert (seen.headers["api-key"], seen.headers["X-Team"]) == (KEY, "blue")
    assert seen.headers["User-Agent"] == "desk/1"
    assert "Authorization" not in seen.headers


async def test_an_unexpected_error_is_reported_and_logged_without_the_key(
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object, **__: object) -> bytes:
        raise RuntimeError(f"surprise {KEY}")

    monkeypatch.setattr("exai_actors.edges.http.call.encode_request", explode)
    with structlog.testing.capture_logs() as logs:
        failed = await caller.start().failure()
    assert failed.kind is FailureKind.BROKEN
    assert "RuntimeError" in failed.message
    [entry] = [each for each in logs if each["event"] == "upstream.unexpected_error"]
    assert "surprise [secret]" in entry["trace"]
    assert KEY not in repr(logs)


async def test_the_end_is_reported_even_if_the_words_of_the_request_cannot_be_hidden(
    upstream: ScriptedUpstream, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> str:
        raise RuntimeError("surprise")

    monkeypatch.setattr("exai_actors.edges.http.call.without_quotations", explode)
    upstream.then(failure(500, "no"))
    failed = await caller.start().failure()
    assert failed.kind is FailureKind.BROKEN
    assert "RuntimeError" in failed.message


async def test_the_end_is_reported_even_if_logging_fails(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> bytes:
        raise RuntimeError("surprise")

    monkeypatch.setattr("exai_actors.edges.http.call.encode_request", explode)
    monkeypatch.setattr("exai_actors.edges.http.call.log_unexpected", explode)
    assert (await caller.start().failure()).kind is FailureKind.BROKEN


async def test_an_unexpected_error_while_listing_models_is_reported_and_logged(
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError(f"surprise {KEY}")

    monkeypatch.setattr("exai_actors.edges.http.upstream.parse_models", explode)
    probe: Probe[ProviderMessage] = Probe()
    with structlog.testing.capture_logs() as logs:
        caller.upstream.ask_models(probe)
        assert (await probe.expect(ModelsUnavailable)).failure.kind is FailureKind.BROKEN
        # The log follows the report.
        await asyncio.sleep(0)
    [entry] = [each for each in logs if each["event"] == "upstream.unexpected_error"]
    assert "surprise [secret]" in entry["trace"]


async def test_a_closed_upstream_ends_every_call_immediately(caller: Caller) -> None:
    await caller.upstream.aclose()
    probe: Probe[ProviderMessage] = Probe()
    caller.upstream.start(PermitId(9), ChatCall("m", ()), probe).abort()
    (ended,) = probe.messages
    assert isinstance(ended, UpstreamEnded)
    assert isinstance(ended.result, UpstreamFailure)
    caller.upstream.ask_models(probe)
    failed = await probe.expect_eventually(ModelsUnavailable)
    assert isinstance(failed.failure, UpstreamFailure)
    assert len(probe.messages) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_the_end_of_an_answer_reports_a_limit_that_is_used_up(
    upstream: ScriptedUpstream, caller: Caller, stream: bool
) -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m5s"}
    upstream.then(answer("hi", headers=headers), answer("hi"))
    for hold_s in (65.0, None):
        started = caller.start(stream=stream)
        assert isinstance(await started.end(), Completion)
        (ended,) = (each for each in started.probe.messages if isinstance(each, UpstreamEnded))
        assert ended.hold_s == hold_s


@pytest.mark.parametrize("first", [Reasoning("hm"), "one"])
async def test_the_end_of_a_stream_tells_when_its_first_piece_came(
    upstream: ScriptedUpstream, caller: Caller, first: str | Reasoning
) -> None:
    upstream.then(answer(before := Gate(), first, "two", behind := Gate(), "three"))
    started = caller.start()
    await before.reached()
    opened_at = time.monotonic()
    before.open()
    await behind.reached()
    await started.piece()
    came_by = time.monotonic()
    behind.open()
    ended = await started.probe.expect(UpstreamEnded)
    assert ended.first_piece_at is not None
    assert opened_at <= ended.first_piece_at <= came_by


async def test_the_end_of_an_answer_in_one_piece_tells_of_no_first_piece(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(body('{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}'))
    started = caller.start()
    assert (await started.probe.expect(UpstreamEnded)).first_piece_at is None
