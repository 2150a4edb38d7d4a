"""Data that has arrived wins over a timeout that is due, as after a stop of the whole process.

The tests write to the other end of the socket and move the clock in one step of the loop: when the
timer fires, the data is there and unread.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohappyeyeballs
import pytest

from exai_actors.core.calls import Completion, FailureKind, Usage
from exai_actors.edges.http import direct_client
from exai_actors.edges.http.upstream import MODELS_TIMEOUT_S
from exai_actors.messages.provider import ModelsListed, ProviderMessage
from exai_actors.testing.probe import Probe
from exai_actors.wire.openai.stream import FINISH_GRACE_S
from tests.edges.http.calling import StartedCall, caller_for
from tests.edges.http.test_upstream_ends import SkippingTime, accepted, turns

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def text(words: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % words.encode()


def thought(words: str) -> bytes:
    return b'data: {"choices":[{"delta":{"reasoning_content":"%b"}}]}\n\n' % words.encode()


@pytest.fixture
async def skipping() -> SkippingTime:
    return SkippingTime()


@asynccontextmanager
async def asked(*, stream: bool = True, **settings: Any) -> AsyncIterator[tuple[StartedCall, Any]]:
    """A started call, and the socket on which its request has arrived."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        async with caller_for(base_url, **settings) as caller:
            started = caller.start(stream=stream)
            with await accepted(listener) as connection:
                yield started, connection


async def answer_of(started: StartedCall) -> str:
    result = await started.end()
    assert isinstance(result, Completion), result
    return result.text


async def read_so_far(started: StartedCall, words: str) -> None:
    while "".join(started.pieces) != words:
        await started.piece()
    await turns(100)


@pytest.mark.parametrize("limit", ["first_byte_timeout_s", "total_timeout_s"])
@pytest.mark.parametrize("late_s", [0.001, 7.0, 100_000.0])
async def test_an_answer_that_arrived_while_nothing_was_read_is_complete(
    skipping: SkippingTime, limit: str, late_s: float
) -> None:
    settings: dict[str, Any] = {limit: 50.0}
    async with asked(**settings) as (started, connection):
        connection.send(STREAM + text("Hel") + text("lo") + FINISH + DONE)
        skipping.skip(50.0 + late_s)
        assert await answer_of(started) == "Hello"


@pytest.mark.parametrize(
    ("begun", "settings"),
    [
        (STREAM, {"first_byte_timeout_s": 50.0, "idle_timeout_s": 50.0}),
        (STREAM + ROLE, {"first_byte_timeout_s": 50.0, "idle_timeout_s": 50.0}),
        (STREAM + text("Hel"), {"idle_timeout_s": 50.0}),
        (STREAM + text("Hel"), {"total_timeout_s": 50.0}),
        (STREAM + text("Hel") + text("l")[:-5], {"idle_timeout_s": 50.0}),
    ],
)
async def test_a_rest_that_arrived_while_nothing_was_read_is_read(
    skipping: SkippingTime, begun: bytes, settings: dict[str, Any]
) -> None:
    async with asked(**settings) as (started, connection):
        connection.send(begun)
        await read_so_far(started, "Hel" if b"Hel" in begun else "")
        rest = (STREAM + text("Hel") + text("l") + text("o") + FINISH + DONE)[len(begun) :]
        if begun.endswith(ROLE):
            rest = text("Hel") + text("lo") + FINISH + DONE
        elif begun.endswith(text("Hel")):
            rest = text("lo") + FINISH + DONE
        connection.send(rest)
        skipping.skip(61.0)
        assert await answer_of(started) == "Hello"


async def test_a_rest_of_many_reads_is_read_although_the_total_time_is_over(
    skipping: SkippingTime,
) -> None:
    async with asked(total_timeout_s=50.0) as (started, connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        connection.send(STREAM + text("Hel"))
        await read_so_far(started, "Hel")
        rest = text("x" * 1_500_000) + FINISH + DONE
        sent = connection.send(rest)
        skipping.skip(51.0)
        while sent < len(rest):
            # As fast as the broker reads: the loop never waits for it.
            await asyncio.sleep(0)
            try:
                sent += connection.send(rest[sent:])
            except BlockingIOError:
                continue
        assert await answer_of(started) == "Hel" + "x" * 1_500_000


async def test_a_service_that_sends_on_and_on_does_not_outlast_the_total_time(
    skipping: SkippingTime,
) -> None:
    async with asked(total_timeout_s=50.0) as (started, connection):
        connection.send(STREAM + text("Hel"))
        await read_so_far(started, "Hel")
        skipping.skip(51.0)
        while not started.ends:
            with suppress(ConnectionError):
                connection.send(text("on"))
            await asyncio.sleep(0)
        assert (await started.failure()).kind is FailureKind.TIMEOUT


async def test_what_arrives_only_after_the_look_is_too_late(skipping: SkippingTime) -> None:
    async with asked(idle_timeout_s=50.0) as (started, connection):
        connection.send(STREAM + text("Hel"))
        await read_so_far(started, "Hel")
        skipping.skip(51.0)
        failed = await started.failure()
        assert (failed.kind, failed.text_sent) == (FailureKind.TIMEOUT, True)
        connection.send(text("lo") + FINISH + DONE)


async def test_data_that_arrived_restarts_the_idle_time(skipping: SkippingTime) -> None:
    async with asked(idle_timeout_s=50.0) as (started, connection):
        connection.send(STREAM + text("Hel"))
        await read_so_far(started, "Hel")
        for _ in range(3):
            connection.send(b": still here\n\n")
            skipping.skip(51.0)
            await turns(100)
            assert started.ends == []
        skipping.skip(49.0)
        await turns(100)
        connection.send(text("lo") + FINISH + DONE)
        assert await answer_of(started) == "Hello"


async def test_usage_that_arrived_during_the_grace_is_read(skipping: SkippingTime) -> None:
    async with asked() as (started, connection):
        connection.send(STREAM + text("Hello") + FINISH)
        await read_so_far(started, "Hello")
        connection.send(USAGE)
        skipping.skip(FINISH_GRACE_S + 5)
        result = await started.end()
        assert isinstance(result, Completion)
        assert result.usage == Usage(3, 5)


async def test_the_words_of_a_refusal_that_arrived_late_are_read(skipping: SkippingTime) -> None:
    async with asked() as (started, connection):
        refusal = b'{"error":{"message":"the prompt is too long"}}'
        connection.send(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n" % len(refusal))
        await turns(100)
        connection.send(refusal)
        skipping.skip(30.0)
        failed = await started.failure()
        assert (failed.kind, failed.status) == (FailureKind.REJECTED, 400)
        assert "the prompt is too long" in failed.message


@pytest.mark.parametrize("cut_at", [0, 1, 30, WHOLE.index(b"}") + 1, len(WHOLE) - 1])
async def test_a_body_whose_rest_arrived_late_is_read(skipping: SkippingTime, cut_at: int) -> None:
    async with asked(stream=False) as (started, connection):
        connection.send(PLAIN % len(WHOLE) + WHOLE[:cut_at])
        await turns(100)
        connection.send(WHOLE[cut_at:])
        skipping.skip(500.0)
        assert await answer_of(started) == "Hello"


@pytest.mark.parametrize("late_s", [0.5, 400.0])
async def test_a_connection_that_was_made_while_nothing_was_read_is_used(
    skipping: SkippingTime, monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    waiting = asyncio.Event()
    connect: Callable[..., Awaitable[Any]] = aiohappyeyeballs.start_connection

    async def connect_when_accepted(*args: Any, **options: Any) -> Any:
        waiting.set()
        await asyncio.get_running_loop().sock_recv(ours, 1)
        return await connect(*args, **options)

    monkeypatch.setattr(direct_client, "start_connection", connect_when_accepted)
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        async with caller_for(base_url, connect_timeout_s=50.0) as caller:
            started = caller.start()
            await waiting.wait()
            await turns()
            theirs.send(b"!")
            skipping.skip(50.0 + late_s)
            with await accepted(listener) as connection:
                connection.send(STREAM + text("Hello") + FINISH + DONE)
                assert await answer_of(started) == "Hello"


async def test_a_list_of_models_that_arrived_late_is_read(skipping: SkippingTime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        async with caller_for(base_url) as caller:
            probe: Probe[ProviderMessage] = Probe()
            caller.upstream.ask_models(probe)
            with await accepted(listener) as connection:
                models = b'{"data":[{"id":"m"}]}'
                connection.send(PLAIN % len(models) + models)
                skipping.skip(MODELS_TIMEOUT_S + 5)
                assert (await probe.expect(ModelsListed)).models == ("m",)


async def test_reasoning_counts_as_the_beginning_of_the_answer(skipping: SkippingTime) -> None:
    async with asked(first_byte_timeout_s=500.0, idle_timeout_s=50.0) as (started, connection):
        connection.send(STREAM + ROLE)
        await turns(100)
        skipping.skip(400.0)
        await turns(100)
        assert started.ends == []
        connection.send(thought("hm"))
        await turns(100)
        skipping.skip(51.0)
        assert "fell silent for 50 s" in (await started.failure()).message


async def test_reasoning_keeps_a_call_alive(skipping: SkippingTime) -> None:
    async with asked(idle_timeout_s=50.0) as (started, connection):
        connection.send(STREAM + ROLE)
        for _ in range(20):
            connection.send(thought("hm"))
            await turns(100)
            skipping.skip(25.0)
            await turns(100)
        connection.send(text("Hello") + FINISH + DONE)
        result = await started.end()
        assert isinstance(result, Completion)
        assert (result.text, result.reasoning) == ("Hello", "hm" * 20)


async def test_blank_lines_keep_a_plain_call_alive_until_its_first_byte_timeout(
    skipping: SkippingTime,
) -> None:
    async with asked(stream=False, first_byte_timeout_s=90.0) as (started, connection):
        connection.send(PLAIN % (len(WHOLE) + 10))
        for _ in range(10):
            connection.send(b"\n")
            await turns(100)
            skipping.skip(80.0 if _ < 5 else 1.0)
            await turns(100)
        connection.send(WHOLE)
        assert await answer_of(started) == "Hello"


async def test_an_abort_during_the_look_ends_the_call_once(skipping: SkippingTime) -> None:
    async with asked(idle_timeout_s=50.0) as (started, connection):
        connection.send(STREAM + text("Hel"))
        await read_so_far(started, "Hel")
        skipping.skip(51.0)
        await turns(3)
        started.call.abort()
        await started.end()
        await turns(100)
        assert len(started.ends) == 1
