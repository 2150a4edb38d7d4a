"""HttpUpstream: aborting in every phase, pausing, timeouts, and exactly one end always."""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from exai_actors.core.calls import (
    Aborted,
    Completion,
    FailureKind,
    RelayCall,
    UpstreamFailure,
)
from exai_actors.edges.http.upstream import HttpUpstream
from exai_actors.messages.provider import ModelsUnavailable, ProviderMessage, UpstreamEnded
from exai_actors.messages.recipient import Offer
from exai_actors.testing.probe import Probe
from exai_actors.testing.scripted_replies import HANG, Gate, Reply, answer, body, hang
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.edges.http.calling import Caller, caller_for, wait_for_response
from tests.edges.http.test_relayed_call import Sink

FLOOD = answer(*["x" * 100_000] * 200)
"""More than the sockets and buffers between two processes hold."""


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as started:
        yield started


@pytest.fixture
async def caller(upstream: ScriptedUpstream) -> AsyncIterator[Caller]:
    async with caller_for(upstream.base_url) as ready:
        yield ready


class SkippingTime:
    """Moves the clock of the running loop forward, so that no test waits for a timeout."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self._skipped = 0.0
        loop.time = lambda: real() + self._skipped  # type: ignore[method-assign]

    def skip(self, seconds: float) -> None:
        self._skipped += seconds


@pytest.fixture
async def skipping() -> SkippingTime:
    return SkippingTime()


async def turns(count: int = 20) -> None:
    """Give the loop turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_abort_before_the_call_began_sends_nothing(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    started = caller.start()
    started.call.abort()
    assert await started.end() == Aborted()
    assert upstream.started == 0


async def test_an_abort_while_connecting_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        # Connections beyond the backlog are neither accepted nor refused.
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        async with caller_for(f"http://127.0.0.1:{port}/v1") as caller:
            started = caller.start()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            started.call.abort()
            assert await started.end() == Aborted()
        for one in waiting:
            one.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_abort_before_the_first_byte_closes_the_connection(
    upstream: ScriptedUpstream, caller: Caller, stream: bool
) -> None:
    upstream.then(hang())
    started = caller.start(stream=stream)
    await upstream.wait_for_started()
    started.call.abort()
    assert await started.end() == Aborted()
    await upstream.wait_for_disconnect()
    assert started.ends == [Aborted()]


EARLY_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
)


@pytest.mark.parametrize("answers_early", [False, True])
async def test_an_abort_while_the_request_is_being_sent_closes_the_connection(
    answers_early: bool,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with caller_for(f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as caller:
            started = caller.start("x" * 50_000_000)
            with await accepted(listener) as connection:
                if answers_early:
                    connection.send(EARLY_ANSWER)
                    await started.piece()
                await filled(connection)
                started.call.abort()
                assert await started.end() == Aborted()
                # Reading on this thread gives the loop no turn to send the rest.
                connection.settimeout(5)
                received = 0
                while data := connection.recv(1 << 20):
                    received += len(data)
                assert 0 < received < 50_000_000


async def filled(connection: socket.socket) -> None:
    """Give the loop turns until nothing more arrives: the buffers between the two are full."""
    waiting = -1
    while waiting != (waiting := readable(connection)):
        await turns(200)


def readable(connection: socket.socket) -> int:
    count = fcntl.ioctl(connection.fileno(), termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", count)[0])


async def accepted(listener: socket.socket) -> socket.socket:
    """The next connection, once something has arrived on it."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    connection, _ = await loop.sock_accept(listener)
    connection.setblocking(False)
    assert await loop.sock_recv(connection, 10)
    return connection


async def test_an_abort_in_the_middle_of_a_stream_closes_the_connection(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(answer("Hel", HANG))
    started = caller.start()
    assert await started.piece() == "Hel"
    started.call.abort()
    assert await started.end() == Aborted()
    await upstream.wait_for_disconnect()


async def test_an_abort_of_a_paused_flood_closes_the_connection(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(FLOOD)
    started = caller.start()
    await started.piece()
    started.call.pause()
    started.call.abort()
    assert await started.end() == Aborted()
    await upstream.wait_for_disconnect()


class Witness(Probe[ProviderMessage]):
    """Reads from the server's side of the connection when the end is reported."""

    connection: socket.socket
    seen: bytes | None = None

    def offer(self, message: ProviderMessage, /) -> Offer:
        if isinstance(message, UpstreamEnded):
            self.seen = self.connection.recv(10)
        return super().offer(message)


async def test_the_connection_is_closed_before_the_end_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with caller_for(f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as caller:
            witness = Witness()
            started = caller.start(probe=witness)
            with await accepted(listener) as connection:
                while len(connection.recv(65536)) == 65536:
                    pass
                witness.connection = connection
                started.call.abort()
                assert await started.end() == Aborted()
                assert witness.seen == b""


async def test_abort_pause_and_resume_may_be_repeated_and_come_late(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(answer("Hel", HANG))
    started = caller.start()
    await started.piece()
    for action in (started.call.pause, started.call.resume, started.call.abort) * 2:
        action()
    assert await started.end() == Aborted()
    for action in (started.call.pause, started.call.resume, started.call.abort) * 2:
        action()
    assert started.ends == [Aborted()]
    assert isinstance(caller.upstream, HttpUpstream)
    assert caller.upstream.in_flight == 0

    done = caller.start()
    assert isinstance(await done.end(), Completion)
    done.call.abort()
    assert len(done.ends) == 1


async def test_closing_the_upstream_ends_every_call_and_model_query(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(hang(), answer("Hel", HANG))
    upstream.models = hang()
    first, second, third = caller.start(), caller.start(), caller.start()
    question: Probe[ProviderMessage] = Probe()
    await upstream.wait_for_started(2)
    assert isinstance(caller.upstream, HttpUpstream)
    assert caller.upstream.in_flight == 3
    caller.upstream.ask_models(question)
    await upstream.wait_until(lambda: upstream.model_requests == 1, "a question for models")
    await caller.upstream.aclose()
    assert [len(started.ends) for started in (first, second, third)] == [1, 1, 1]
    assert isinstance(question.messages[0], ModelsUnavailable)
    await upstream.wait_until_idle()


async def test_a_closed_upstream_asks_nothing_more(caller: Caller) -> None:
    assert isinstance(caller.upstream, HttpUpstream)
    await caller.upstream.aclose()
    call = RelayCall(
        family="chat",
        path="chat/completions",
        body=b"{}",
        headers=(),
        model="m",
        stream=False,
        characters=1.0,
        sink=Sink(),
    )
    probe: Probe[ProviderMessage] = Probe()
    caller.upstream.ask(call, probe)
    (end,) = probe.messages
    assert isinstance(end, UpstreamEnded)
    assert isinstance(end.result, UpstreamFailure)
    assert "is stopping" in end.result.message


async def test_a_paused_call_stops_reading_so_that_the_service_blocks(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(FLOOD)
    started = caller.start()
    await started.piece()
    started.call.pause()
    # Another answer goes through meanwhile: the flood would have ended long before it.
    other = await caller.start("other", stream=False).end()
    assert isinstance(other, Completion)
    await settle(upstream)
    assert sum(map(len, started.pieces)) < 2_000_000
    assert upstream.requests[0].steps_done < len(FLOOD.steps)
    started.call.resume()
    result = await started.end()
    assert isinstance(result, Completion)
    assert len(result.text) == 20_000_000
    assert "".join(started.pieces) == result.text


async def settle(upstream: ScriptedUpstream) -> None:
    """Give the loop turns until the upstream makes no progress any more."""
    before = -1
    while before != (before := upstream.requests[0].steps_done):
        await turns(200)


@pytest.mark.parametrize(
    ("reply", "options", "said"),
    [
        (hang(), {"first_byte_timeout_s": 50}, "sent nothing within 50 s"),
        (answer(HANG), {"first_byte_timeout_s": 50, "idle_timeout_s": 9}, "sent no part of its"),
        (answer(HANG), {"first_byte_timeout_s": 9, "idle_timeout_s": 50}, "sent no part of its"),
        (answer("Hel", HANG), {"idle_timeout_s": 50}, "fell silent for 50 s in the middle"),
        (body("{", HANG), {"idle_timeout_s": 50}, "fell silent for 50 s in the middle"),
        (hang(), {"total_timeout_s": 50}, "took longer than 50 s in all"),
        (answer("Hel", HANG), {"total_timeout_s": 50}, "took longer than 50 s in all"),
    ],
)
async def test_each_timeout_closes_the_connection_and_is_named(
    upstream: ScriptedUpstream,
    skipping: SkippingTime,
    reply: Reply,
    options: dict[str, Any],
    said: str,
) -> None:
    gate = Gate()
    upstream.then(replace(reply, before=(*reply.before[:-1], gate, *reply.before[-1:])))
    async with caller_for(upstream.base_url, **options) as caller:
        started = caller.start()
        await gate.reached()
        gate.open()
        if not reply.before:
            await wait_for_response(started)
        skipping.skip(49)
        await turns()
        assert started.ends == []
        skipping.skip(2)
        failed = await started.failure()
        assert failed.kind is FailureKind.TIMEOUT
        assert failed.message.startswith(said)
        await upstream.wait_for_disconnect()


async def test_a_connection_that_is_not_accepted_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        async with caller_for(f"http://127.0.0.1:{port}/v1", connect_timeout_s=0.05) as caller:
            failed = await caller.start().failure()
        for one in waiting:
            one.close()
    assert failed.kind is FailureKind.CONNECT
    assert "accepted no connection" in failed.message


async def test_a_stream_with_short_gaps_outlives_its_idle_timeout(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    gates = [Gate() for _ in range(5)]
    upstream.then(answer(*(step for gate in gates for step in ("x", gate))))
    started = caller.start()
    for gate in gates:
        await started.piece()
        skipping.skip(50)
        await turns()
        gate.open()
    assert isinstance(await started.end(), Completion)


async def test_a_resumed_call_times_out_when_it_falls_silent(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    upstream.then(answer("Hel", HANG))
    started = caller.start()
    await started.piece()
    started.call.pause()
    started.call.resume()
    skipping.skip(121)
    failed = await started.failure()
    assert (failed.kind, failed.text_sent) == (FailureKind.TIMEOUT, True)


async def test_a_pause_does_not_stop_the_total_timeout(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    upstream.then(answer("Hel", HANG))
    started = caller.start()
    await started.piece()
    started.call.pause()
    skipping.skip(1801)
    assert (await started.failure()).kind is FailureKind.TIMEOUT


async def test_listing_models_times_out(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    upstream.models = hang()
    probe: Probe[ProviderMessage] = Probe()
    caller.upstream.ask_models(probe)
    await upstream.wait_until(lambda: upstream.model_requests == 1, "a question for models")
    skipping.skip(31)
    assert (await probe.expect(ModelsUnavailable)).failure.kind is FailureKind.TIMEOUT


async def test_a_fault_in_the_result_of_a_timeout_is_the_end_of_the_call(
    upstream: ScriptedUpstream,
    caller: Caller,
    skipping: SkippingTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("exai_actors.edges.http.call.classify_response", explode)
    upstream.then(body('{"error', HANG, status=429))
    started = caller.start()
    await wait_for_response(started)
    skipping.skip(6)
    failed = await started.failure()
    assert failed.kind is FailureKind.BROKEN
    assert "RuntimeError" in failed.message


async def test_silence_after_done_does_not_delay_the_answer(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'
    upstream.then(answer(event, HANG))
    started = caller.start()
    assert await started.piece() == "x"
    skipping.skip(1)
    result = await started.end()
    assert isinstance(result, Completion)
    assert result.text == "x"
    await upstream.wait_for_disconnect()


async def test_a_refusal_whose_body_never_ends_is_reported_soon(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    upstream.then(body('{"error', HANG, status=429, headers={"Retry-After": "7"}))
    started = caller.start()
    await wait_for_response(started)
    skipping.skip(6)
    failed = await started.failure()
    assert (failed.kind, failed.retry_after) == (FailureKind.RATE_LIMITED, 7.0)
    await upstream.wait_for_disconnect()


async def test_a_refusal_is_read_up_to_a_limit(upstream: ScriptedUpstream, caller: Caller) -> None:
    upstream.then(body('{"error": "', "x" * 300_000, HANG, status=400))
    started = caller.start()
    await upstream.wait_for_steps(2)
    await turns(2000)
    assert started.ends
    assert (await started.failure()).status == 400


async def test_concurrent_calls_get_their_own_answers(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    calls = [caller.start(f"nonce {number}", stream=number % 2 == 0) for number in range(50)]
    results = [await started.end() for started in calls]
    texts = [result.text for result in results if isinstance(result, Completion)]
    assert texts == [f"echo: nonce {number}" for number in range(50)]
    assert [len(started.ends) for started in calls] == [1] * 50
