"""Responses whose framing is odd: the answer is read, and no byte of it gets into another call.

Each one arrives in one piece, with its head apart, and a byte at a time.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from exai_actors.core.calls import Completion, FailureKind
from exai_actors.edges.http.response_head import MAX_HELD_HEAD_BYTES
from exai_actors.messages.provider import UpstreamEnded
from tests.edges.http.calling import Caller, caller_for

HTTP = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EVENTS = b"Content-Type: text/event-stream\r\n"


def plain(text: bytes) -> bytes:
    return b'{"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}]}' % text


def events(text: bytes) -> bytes:
    delta = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":"stop"}]}\n\n'
    return delta % text + b"data: [DONE]\n\n"


def chunks(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


END = b"0\r\n\r\n"
ANSWER = plain(b"first")
SIZE = len(ANSWER)
LENGTH = b"Content-Length: %d\r\n" % SIZE
STREAM = events(b"first")
MAX_ANSWER_BYTES = 1000

READ = {
    "text behind the length": HTTP + LENGTH + b"\r\n" + ANSWER + b"junk",
    "a page behind the length": HTTP + LENGTH + b"\r\n" + ANSWER + b"<html>oops</html>",
    "zeros behind the length": HTTP + LENGTH + b"\r\n" + ANSWER + bytes(500),
    "blanks behind the length": HTTP + LENGTH + b"\r\n" + ANSWER + b"   ",
    "line ends behind the length": HTTP + LENGTH + b"\r\n" + ANSWER + b"\r\n\r\n",
    "a chunk's end behind the length": HTTP + LENGTH + b"\r\n" + ANSWER + END,
    "another response behind it": (HTTP + LENGTH + b"\r\n" + ANSWER)
    + (HTTP + LENGTH + b"\r\n" + plain(b"wrong")),
    "half a response behind it": (HTTP + LENGTH + b"\r\n" + ANSWER) + HTTP[:12],
    "a stream with a length and more": (
        HTTP + EVENTS + b"Content-Length: %d\r\n\r\n" % len(STREAM) + STREAM + b": bye\n\n"
    ),
    "text behind HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + ANSWER + b"junk",
    "text behind bare line feeds": (
        (HTTP + LENGTH + b"\r\n").replace(b"\r", b"") + ANSWER + b"junk"
    ),
    "text behind the last chunk": HTTP + CHUNKED + b"\r\n" + chunks(ANSWER) + END + b"junk",
    "two last chunks": HTTP + CHUNKED + b"\r\n" + chunks(ANSWER) + END + END,
    "text behind a stream": HTTP + CHUNKED + EVENTS + b"\r\n" + chunks(STREAM) + END + b"junk",
    "a stream that ends in a broken chunk": (
        HTTP + CHUNKED + EVENTS + b"\r\n" + chunks(STREAM) + b"zz\r\n"
    ),
    "a long stream that ends in a broken chunk": (
        HTTP + CHUNKED + EVENTS + b"\r\n" + chunks(b": wait\n" * 9000 + STREAM) + b"zz\r\n"
    ),
    "a body that ends in a broken chunk": HTTP + CHUNKED + b"\r\n" + chunks(ANSWER) + b"zz\r\n",
    "a broken trailer": HTTP + CHUNKED + b"\r\n" + chunks(ANSWER) + b"0\r\nno colon\r\n\r\n",
    "an interim response, and text behind the length": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + HTTP + LENGTH + b"\r\n" + ANSWER + b"junk"
    ),
    "two lengths": HTTP + LENGTH * 2 + b"\r\n" + ANSWER,
    "three lengths": HTTP + LENGTH * 3 + b"\r\n" + ANSWER,
    "two lengths apart": HTTP + LENGTH + b"Server: x\r\n" + LENGTH.lower() + b"\r\n" + ANSWER,
    "a list of lengths": HTTP + b"Content-Length: %d, %d\r\n\r\n" % (SIZE, SIZE) + ANSWER,
    "a list without a blank": HTTP + b"Content-Length: %d,%d\r\n\r\n" % (SIZE, SIZE) + ANSWER,
    "a list and a length": (
        HTTP + LENGTH + b"Content-Length: %d, %d\r\n\r\n" % (SIZE, SIZE) + ANSWER
    ),
    "two spellings of a length": HTTP + LENGTH + b"Content-Length: 0%d\r\n\r\n" % SIZE + ANSWER,
    "two lengths behind hints": (
        b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + HTTP + LENGTH * 2 + b"\r\n" + ANSWER
    ),
    "two lengths and text behind them": HTTP + LENGTH * 2 + b"\r\n" + ANSWER + b"junk",
    "a length behind chunked": HTTP + CHUNKED + b"Content-Length: 5\r\n\r\n" + chunks(ANSWER) + END,
    "a length before chunked": HTTP + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n"
    + chunks(ANSWER) + END,
    "the right length and chunked": HTTP + LENGTH + CHUNKED + b"\r\n" + chunks(ANSWER) + END,
    "two lengths and chunked": HTTP + LENGTH * 2 + CHUNKED + b"\r\n" + chunks(ANSWER) + END,
    "chunked twice": HTTP + CHUNKED * 2 + b"\r\n" + chunks(ANSWER) + END,
    "identity and a length": HTTP + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + ANSWER,
    "HTTP/2 in the status line": b"HTTP/2 200\r\n" + LENGTH + b"\r\n" + ANSWER,
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n" + LENGTH + b"\r\n" + ANSWER,
    "http in lower case": b"http/1.1 200 ok\r\n" + LENGTH + b"\r\n" + ANSWER,
    "two blanks before the status": b"HTTP/1.1  200 OK\r\n" + LENGTH + b"\r\n" + ANSWER,
    "a status alone": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + ANSWER,
    "a line end before the head": b"\r\n" + HTTP + LENGTH + b"\r\n" + ANSWER,
}  # fmt: skip


def in_one_piece(response: bytes) -> Iterator[bytes]:
    yield response


def with_the_head_apart(response: bytes) -> Iterator[bytes]:
    start = max(response.find(plain(b"")[:10]), response.find(b"\r\n\r\n") + 4)
    yield response[:start]
    yield response[start:]


def byte_by_byte(response: bytes) -> Iterator[bytes]:
    for start in range(len(response)):
        yield response[start : start + 1]


Cut = Callable[[bytes], Iterator[bytes]]
CUTS = (in_one_piece, with_the_head_apart, byte_by_byte)


@asynccontextmanager
async def service(first: bytes, cut: Cut, **settings: int) -> AsyncIterator[Caller]:
    """Answers the first request with these bytes, and each later one with "second"."""
    answers = 0
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        if (task := asyncio.current_task()) is not None:
            tasks.append(task)
        second = plain(b"second")
        usual = HTTP + b"Content-Length: %d\r\n\r\n" % len(second) + second
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                await reader.readexactly(size)
                answers += 1
                for piece in cut(first) if answers == 1 else [usual]:
                    if writer.is_closing():
                        break
                    writer.write(piece)
                    # The call reads on the same loop: it gets each piece apart.
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with caller_for(f"http://127.0.0.1:{port}/v1", **settings) as caller:
            yield caller
        await asyncio.gather(*tasks)


async def text_of(caller: Caller) -> str:
    result = await caller.start(stream=False).end()
    assert isinstance(result, Completion), result
    return result.text


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", READ)
async def test_an_answer_is_read_whatever_its_framing(name: str, cut: Cut) -> None:
    response = READ[name]
    if cut is byte_by_byte and len(response) > 2000:
        cut = with_the_head_apart
    async with service(response, cut) as caller:
        assert await text_of(caller) == "first"
        assert await text_of(caller) == "second"
        assert await text_of(caller) == "second"


def with_length(body: bytes, *headers: bytes) -> bytes:
    lines = [b"Content-Length: %d" % len(body), *headers]
    return HTTP + b"\r\n".join(lines) + b"\r\n\r\n" + body


NO_TOKENS = (
    b"x-ratelimit-limit-tokens: 1000",
    b"x-ratelimit-remaining-tokens: 0",
    b"x-ratelimit-reset-tokens: 90s",
)
AT_ONCE = {
    "an answer": with_length(ANSWER),
    "an answer behind a blank": with_length(b" " + ANSWER),
    "an answer as text": with_length(ANSWER, b"Content-Type: text/plain"),
    "an answer named a stream": with_length(ANSWER, b"Content-Type: text/event-stream"),
    "an answer in a chunk": HTTP + CHUNKED + b"\r\n" + chunks(ANSWER) + END,
    "the last tokens": with_length(ANSWER, *NO_TOKENS),
    "the last tokens until an instant": with_length(
        ANSWER,
        b"Date: Mon, 01 Jan 2024 00:00:00 GMT",
        *NO_TOKENS[:2],
        b"x-ratelimit-reset-tokens: 2024-01-01T00:01:00Z",
    ),
    "a plain answer in gzip": with_length(gzip.compress(ANSWER), b"Content-Encoding: gzip"),
    "a plain answer named gzip": with_length(ANSWER, b"Content-Encoding: gzip"),
    "no coding": with_length(ANSWER, b"Content-Encoding: identity"),
    "the last on its connection": with_length(ANSWER, b"Connection: close"),
    "a stream": with_length(STREAM, b"Content-Type: text/event-stream"),
    "nothing": with_length(b""),
    "a page": with_length(b"<html>oops</html>"),
    "half an answer": with_length(ANSWER[:-1]),
    "no answer": with_length(b'{"object":"pong"}'),
    "an error": with_length(b'{"error":{"message":"rate limit reached","code":429}}'),
    "an answer of another kind": with_length(b'{"choices":[{"text":"first"}]}', *NO_TOKENS),
    "another success": with_length(ANSWER).replace(b"200 OK", b"201 Made"),
    "a refusal": with_length(b'{"error":{"message":"no"}}').replace(b"200 OK", b"400 Bad"),
    "an answer that is too large": with_length(plain(b"a" * MAX_ANSWER_BYTES)),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", AT_ONCE)
async def test_a_response_that_comes_at_once_has_the_result_of_one_in_parts(
    name: str, stream: bool
) -> None:
    seen = []
    for cut in (in_one_piece, with_the_head_apart):
        async with service(AT_ONCE[name], cut, max_answer_bytes=MAX_ANSWER_BYTES) as caller:
            started = caller.start(stream=stream)
            await started.end()
            (ended,) = started.probe.messages
            assert isinstance(ended, UpstreamEnded)
            seen.append((ended.result, ended.hold_s, ended.cut_off, started.pieces))
            assert await text_of(caller) == "second"
    assert seen[0] == seen[1]


async def test_a_bug_in_reading_a_response_that_came_at_once_costs_one_call_and_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object, **__: object) -> object:
        raise RuntimeError("planted")

    loop_faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: loop_faults.append(fault))
    async with service(with_length(ANSWER), in_one_piece) as caller:
        with monkeypatch.context() as patch:
            patch.setattr("exai_actors.edges.http.call.parse_completion", explode)
            failed = await caller.start(stream=False).failure()
        assert failed.kind is FailureKind.BROKEN
        assert await text_of(caller) == "second"
    assert loop_faults == []


REFUSED = {
    "two different lengths": (LENGTH + b"Content-Length: 5\r\n", "Content-Length"),
    "a list of different lengths": (b"Content-Length: %d, 5\r\n" % SIZE, "Content-Length"),
    "a signed length": (b"Content-Length: +%d\r\n" % SIZE, "Content-Length"),
    "a length that is a word": (b"Content-Length: all\r\n", "Content-Length"),
    "a word beside a length": (LENGTH + b"Content-Length: all\r\n", "Content-Length"),
    "chunked without chunks": (CHUNKED + LENGTH, "chunk size"),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", REFUSED)
async def test_framing_that_contradicts_itself_is_refused_by_its_rule(name: str, cut: Cut) -> None:
    headers, rule = REFUSED[name]
    async with service(HTTP + headers + b"\r\n" + ANSWER, cut) as caller:
        failed = await caller.start(stream=False).failure()
        assert failed.kind is FailureKind.MALFORMED
        assert failed.message.startswith("sent a response that breaks the rules of HTTP: ")
        assert rule in failed.message
        assert await text_of(caller) == "second"


@pytest.mark.parametrize("cut", CUTS)
async def test_a_refusal_with_odd_framing_keeps_its_meaning(cut: Cut) -> None:
    body = b'{"error":{"message":"slow down"}}'
    length = b"Content-Length: %d\r\n" % len(body)
    refusal = b"HTTP/1.1 429 Wait\r\nRetry-After: 7\r\n" + length * 2 + b"\r\n" + body + b"junk"
    async with service(refusal, cut) as caller:
        failed = await caller.start(stream=False).failure()
        assert failed.kind is FailureKind.RATE_LIMITED
        assert failed.retry_after == 7


async def test_a_head_that_does_not_end_is_not_held_for_ever() -> None:
    line = b"X-Padding: " + b"a" * 1000 + b"\r\n"
    endless = HTTP + line * (2 * MAX_HELD_HEAD_BYTES // len(line) + 1000)
    async with service(endless, in_one_piece) as caller:
        failed = await caller.start(stream=False).failure()
        assert failed.kind is FailureKind.MALFORMED
