"""Response heads as gateways send them: large ones, interim responses, and what breaks HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf

import pytest
from multidict import CIMultiDict
from yarl import URL

from exai_actors.core.calls import ChatCall, ChatMessage, Completion, FailureKind
from exai_actors.edges.http.alarms import Alarms
from exai_actors.edges.http.call import HttpCall
from exai_actors.edges.http.client import HttpExchange, Receiver, Target
from exai_actors.edges.http.portions import PORTION_BYTES
from exai_actors.edges.http.response_head import MAX_INTERIM_RESPONSES
from exai_actors.edges.http.service import HttpService
from exai_actors.edges.http.settings import HttpSettings
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage, UpstreamEnded
from exai_actors.testing.probe import Probe
from exai_actors.wire.openai import stream
from exai_actors.wire.openai.redaction import NO_SECRET
from tests.edges.http.calling import Caller, StartedCall, caller_for

ANSWER = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    length = b"Content-Length: %d" % len(ANSWER)
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, length, b"", b""])


@asynccontextmanager
async def service(answer: Answer | bytes) -> AsyncIterator[Caller]:
    """Answers each request with these bytes, or by this function, and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"\r\n\r\n" not in await reader.read(1 << 16):
            pass
        try:
            if callable(answer):
                await answer(reader, writer)
            else:
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with caller_for(f"http://127.0.0.1:{port}/v1") as caller:
            yield caller


async def ends(started: StartedCall) -> str:
    result = await started.end()
    return result.text if isinstance(result, Completion) else result.message  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-Policy: " + b"a" * 9000],
        [b"X-Policy: " + b"a" * 60_000],
        [b"X-%d: y" % number for number in range(200)],
        [b"X-%d: y" % number for number in range(900)],
        [b"Set-Cookie: session%d=%b; Path=/" % (number, b"z" * 3000) for number in range(50)],
        [b"X-" + b"n" * 9000 + b": y"],
        [b"X-Trace:"],
        [b"X-Text: caf\xc3\xa9 \xff"],
        [b"Link: <a>", b"Link: <b>", b"link: <c>"],
    ],
)
async def test_an_answer_with_odd_headers_is_read(lines: list[bytes]) -> None:
    async with service(head(*lines) + ANSWER) as caller:
        assert await ends(caller.start(stream=False)) == "x"


async def test_a_long_reason_phrase_and_line_ends_without_cr_are_read() -> None:
    async with service(head(status=b"200 " + b"fine " * 3000).replace(b"\r\n", b"\n") + ANSWER) as (
        caller
    ):
        assert await ends(caller.start(stream=False)) == "x"


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-Policy: " + b"a" * 100_000],
        [b"X-%d: y" % number for number in range(5000)],
    ],
)
async def test_a_head_beyond_every_measure_is_refused_by_its_rule(lines: list[bytes]) -> None:
    async with service(head(*lines) + ANSWER) as caller:
        failed = await caller.start(stream=False).failure()
    assert failed.kind is FailureKind.MALFORMED
    assert failed.message.startswith("sent a response that breaks the rules of HTTP")
    assert len(failed.message) < 500


async def test_the_message_about_what_is_not_http_quotes_no_answer() -> None:
    events = b'data: {"choices":[{"index":0,"delta":{"content":"secret"}}]}\n\n'
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    async with service(short + events) as caller:
        failed = await caller.start(stream=False).failure()
    assert "secret" not in failed.message


INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"


@pytest.mark.parametrize("count", [1, 2, MAX_INTERIM_RESPONSES])
async def test_some_interim_responses_may_precede_an_answer(count: int) -> None:
    async with service(INTERIM * count + head() + ANSWER) as caller:
        assert await ends(caller.start(stream=False)) == "x"


async def test_one_more_interim_response_is_too_many() -> None:
    async with service(INTERIM * (MAX_INTERIM_RESPONSES + 1) + head() + ANSWER) as caller:
        assert "8 interim responses" in await ends(caller.start(stream=False))


@pytest.mark.parametrize(
    "interim",
    [INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n"],
)
async def test_endless_interim_responses_end_the_call(interim: bytes) -> None:
    written = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while True:
            writer.write(interim * 100)
            written += 100 * len(interim)
            await writer.drain()

    async with service(flood) as caller:
        failed = await caller.start(stream=False).failure()
    assert failed.kind is FailureKind.MALFORMED
    assert "8 interim responses" in failed.message
    # All that the buffers of the kernel take, and no more.
    assert written < 16_000_000


FLOODS = {
    "comments": b":\n\n",
    "long comments": b": " + b"x" * 200 + b"\n\n",
    "blank lines": b"\n",
    "nulls": b"data: null\n\n",
    "pings": b"event: ping\ndata: {}\n\n",
    "fields that nobody knows": b"retry: 5\n",
    "empty data": b"data:\n\n",
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_an_endless_stream_without_an_answer_is_ended(
    flood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_PASSED_OVER", 1_000)

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            writer.write(FLOODS[flood] * 10_000)
            await writer.drain()

    async with service(send) as caller:
        failed = await caller.start().failure()
    assert failed.kind is FailureKind.MALFORMED
    assert "no part of an answer" in failed.message


class OneRead:
    """Implements ``client.HttpClient`` and its exchange; the body arrives in one read."""

    shortest_connect_s = inf

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._is_paused = False
        self._receiver: Receiver | None = None

    def start(self, target: Target, body: bytes, receiver: Receiver, **_: object) -> HttpExchange:
        self._receiver = receiver
        receiver.connected()
        asyncio.get_running_loop().call_soon(self._deliver)
        return self

    def _deliver(self) -> None:
        assert self._receiver is not None
        self._receiver.head(200, CIMultiDict({"Content-Type": "text/event-stream"}))
        self._receiver.data(self._data)
        assert self._is_paused

    def abort(self) -> None:
        raise AssertionError("a complete answer is not aborted")

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        assert self._receiver is not None
        self._receiver.ended()

    async def aclose(self) -> None: ...


class CountsTurns:
    """Implements ``ports.PieceSink``; notes how many turns another task has had before each."""

    def __init__(self) -> None:
        self.turns = 0
        self.seen: list[int] = []

    async def count(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)

    def write(self, _: str, /) -> None:
        self.seen.append(self.turns)

    def write_reasoning(self, _: str, /) -> bool:
        return False


async def test_other_tasks_run_between_the_portions_of_a_large_read() -> None:
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    data = event * 20_000 + b"data: [DONE]\n\n"

    service = HttpService("kimi", NO_SECRET, "http://service.example/v1", HttpSettings())
    probe: Probe[ProviderMessage] = Probe()
    pieces = CountsTurns()
    counting = asyncio.create_task(pieces.count())
    call = ChatCall("m", (ChatMessage("user", "hi"),), stream=True)
    alarms: Alarms[HttpCall] = Alarms()
    target = Target("POST", URL("http://service.example/v1"), {})
    HttpCall(service, alarms, PermitId(1), call, probe, sink=pieces).begin(OneRead(data), target)
    ended = await probe.expect_eventually(UpstreamEnded)
    counting.cancel()
    alarms.close()
    assert isinstance(ended.result, Completion)
    assert len(ended.result.text) == 20_000
    assert len(set(pieces.seen)) == len(pieces.seen) == -(-len(data) // PORTION_BYTES)
