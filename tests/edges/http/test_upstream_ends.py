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

from exai_actors.core.calls import Aborted, Completion, FailureKind
from exai_actors.edges.http.call import HttpCall
from exai_actors.edges.http.upstream import HttpUpstream
from exai_actors.messages.provider import ModelsUnavailable, ProviderMessage, UpstreamEnded
from exai_actors.messages.recipient import Offer
from exai_actors.testing.probe import Probe
from exai_actors.testing.scripted_replies import HANG, Gate, Reply, answer, body, hang
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.edges.http.asking import Asked, Asker, asker_of, response_begun

FLOOD = answer(*["x" * 100_000] * 200)
"""More than sockets and buffers between two processes take when nobody reads."""


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as started:
        yield started


@pytest.fixture
async def asker(upstream: ScriptedUpstream) -> AsyncIterator[Asker]:
    async with asker_of(upstream.base_url) as ready:
        yield ready


class SkippingTime:
    """Lets the running loop's clock jump forward, so that no test waits for a timeout."""

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
    """Let the loop do what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


def task_of(asked: Asked) -> asyncio.Task[object]:
    assert isinstance(asked.call, HttpCall)
    return asked.call.task


async def test_an_abort_before_the_call_began_is_told_and_nothing_is_sent(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    asked = asker.ask()
    asked.call.abort()
    assert await asked.end() == Aborted()
    assert upstream.started == 0


async def test_an_abort_while_connecting_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        # Connections beyond the backlog are neither accepted nor refused.
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        async with asker_of(f"http://127.0.0.1:{port}/v1") as asker:
            asked = asker.ask()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asked.call.abort()
            assert await asked.end() == Aborted()
        for one in waiting:
            one.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_abort_before_the_first_byte_closes_the_connection(
    upstream: ScriptedUpstream, asker: Asker, stream: bool
) -> None:
    upstream.then(hang())
    asked = asker.ask(stream=stream)
    await upstream.wait_for_started()
    asked.call.abort()
    assert await asked.end() == Aborted()
    await upstream.wait_for_disconnect()
    assert asked.ends == [Aborted()]


EARLY_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
)


@pytest.mark.parametrize("answers_early", [False, True])
async def test_an_abort_while_the_request_is_still_being_sent_closes_the_connection(
    answers_early: bool,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asker_of(f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as asker:
            asked = asker.ask("x" * 50_000_000)
            with await accepted(listener) as connection:
                if answers_early:
                    connection.send(EARLY_ANSWER)
                    await asked.piece()
                await filled(connection)
                asked.call.abort()
                assert await asked.end() == Aborted()
                # Reading on this thread gives the loop no turn to send what it might still hold.
                connection.settimeout(5)
                received = 0
                while data := connection.recv(1 << 20):
                    received += len(data)
                assert 0 < received < 50_000_000


async def filled(connection: socket.socket) -> None:
    """Give the loop turns until nothing more arrives: everything between the two is full."""
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
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    upstream.then(answer("Hel", HANG))
    asked = asker.ask()
    assert await asked.piece() == "Hel"
    asked.call.abort()
    assert await asked.end() == Aborted()
    await upstream.wait_for_disconnect()


async def test_an_abort_of_a_paused_flood_closes_the_connection(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    upstream.then(FLOOD)
    asked = asker.ask()
    await asked.piece()
    asked.call.pause()
    asked.call.abort()
    assert await asked.end() == Aborted()
    await upstream.wait_for_disconnect()


class Witness(Probe[ProviderMessage]):
    """Looks at the server's side of the connection in the moment the end is told."""

    connection: socket.socket
    seen: bytes | None = None

    def tell(self, message: ProviderMessage, /) -> None:
        if isinstance(message, UpstreamEnded):
            self.seen = self.connection.recv(10)
        super().tell(message)


async def test_the_connection_is_closed_by_the_time_the_end_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asker_of(f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as asker:
            witness = Witness()
            asked = asker.ask(probe=witness)
            with await accepted(listener) as connection:
                while len(connection.recv(65536)) == 65536:
                    pass
                witness.connection = connection
                asked.call.abort()
                assert await asked.end() == Aborted()
                assert witness.seen == b""


async def test_abort_pause_and_resume_are_harmless_when_repeated_and_after_the_end(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    upstream.then(answer("Hel", HANG))
    asked = asker.ask()
    await asked.piece()
    for action in (asked.call.pause, asked.call.resume, asked.call.abort) * 2:
        action()
    assert await asked.end() == Aborted()
    for action in (asked.call.pause, asked.call.resume, asked.call.abort) * 2:
        action()
    assert asked.ends == [Aborted()]
    assert isinstance(asker.upstream, HttpUpstream)
    assert asker.upstream.in_flight == 0

    done = asker.ask()
    assert isinstance(await done.end(), Completion)
    done.call.abort()
    assert len(done.ends) == 1


async def test_a_call_whose_task_is_cancelled_by_others_tells_its_end(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    upstream.then(hang())
    asked = asker.ask()
    await upstream.wait_for_started()
    task_of(asked).cancel()
    assert await asked.end() == Aborted()


async def test_closing_the_upstream_ends_every_call_and_question(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    upstream.then(hang(), answer("Hel", HANG))
    upstream.models = hang()
    first, second, third = asker.ask(), asker.ask(), asker.ask()
    question: Probe[ProviderMessage] = Probe()
    await upstream.wait_for_started(2)
    assert isinstance(asker.upstream, HttpUpstream)
    assert asker.upstream.in_flight == 3
    asker.upstream.ask_models(question)
    await upstream.wait_until(lambda: upstream.model_requests == 1, "a question for models")
    await asker.upstream.aclose()
    assert [len(asked.ends) for asked in (first, second, third)] == [1, 1, 1]
    assert isinstance(question.messages[0], ModelsUnavailable)
    await upstream.wait_until_idle()


async def test_a_paused_call_stops_reading_and_the_service_feels_it(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    upstream.then(FLOOD)
    asked = asker.ask()
    await asked.piece()
    asked.call.pause()
    told = len(asked.pieces)
    # Another answer goes through meanwhile: the flood would have ended long before it.
    other = await asker.ask("other", stream=False).end()
    assert isinstance(other, Completion)
    await settle(upstream)
    assert len(asked.pieces) == told
    assert upstream.requests[0].steps_done < len(FLOOD.steps)
    asked.call.resume()
    result = await asked.end()
    assert isinstance(result, Completion)
    assert len(result.text) == 20_000_000
    assert "".join(asked.pieces) == result.text


async def settle(upstream: ScriptedUpstream) -> None:
    """Give the loop turns until the upstream has made no progress in a whole run of them."""
    before = -1
    while before != (before := upstream.requests[0].steps_done):
        await turns(200)


async def test_a_full_recipient_gets_all_text_in_order_once_it_has_room(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    gates = [Gate() for _ in range(3)]
    upstream.then(answer("a", gates[0], "b", gates[1], "c", gates[2], "d"))
    probe: Probe[ProviderMessage] = Probe(answer=Offer.FULL)
    asked = asker.ask(probe=probe)
    await gates[0].reached()
    for gate in gates:
        gate.open()
    await upstream.wait_for_completed()
    assert asked.pieces == []
    probe.answer = Offer.ACCEPTED
    result = await asked.end()
    assert isinstance(result, Completion)
    assert result.text == "abcd"
    # What arrived while the first piece was refused is told as one.
    assert asked.pieces == ["a", "bcd"]


async def test_a_recipient_that_is_gone_aborts_the_call(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    upstream.then(answer("Hel", HANG))
    asked = asker.ask(probe=Probe(answer=Offer.CLOSED))
    await upstream.wait_for_disconnect()
    await asyncio.wait([task_of(asked)])


@pytest.mark.parametrize(
    ("reply", "options", "said"),
    [
        (hang(), {"first_byte_timeout_s": 50}, "sent nothing within 50 s"),
        (answer(HANG), {"idle_timeout_s": 50}, "fell silent for 50 s in the middle"),
        (body("{", HANG), {"idle_timeout_s": 50}, "fell silent for 50 s in the middle"),
        (hang(), {"total_timeout_s": 50}, "took longer than 50 s in all"),
        (answer("Hel", HANG), {"total_timeout_s": 50}, "took longer than 50 s in all"),
    ],
)
async def test_each_timeout_closes_the_connection_and_says_which_it_was(
    upstream: ScriptedUpstream,
    skipping: SkippingTime,
    reply: Reply,
    options: dict[str, Any],
    said: str,
) -> None:
    gate = Gate()
    upstream.then(replace(reply, before=(*reply.before[:-1], gate, *reply.before[-1:])))
    async with asker_of(upstream.base_url, **options) as asker:
        asked = asker.ask()
        await gate.reached()
        gate.open()
        if not reply.before:
            await response_begun(asked)
        skipping.skip(49)
        await turns()
        assert asked.ends == []
        skipping.skip(2)
        told = await asked.failure()
        assert told.kind is FailureKind.TIMEOUT
        assert told.message.startswith(said)
        await upstream.wait_for_disconnect()


async def test_a_connection_that_is_not_accepted_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        async with asker_of(f"http://127.0.0.1:{port}/v1", connect_timeout_s=0.05) as asker:
            told = await asker.ask().failure()
        for one in waiting:
            one.close()
    assert told.kind is FailureKind.CONNECT
    assert "accepted no connection" in told.message


async def test_a_stream_that_keeps_talking_outlives_its_idle_timeout(
    upstream: ScriptedUpstream, asker: Asker, skipping: SkippingTime
) -> None:
    gates = [Gate() for _ in range(5)]
    upstream.then(answer(*(step for gate in gates for step in ("x", gate))))
    asked = asker.ask()
    for gate in gates:
        await asked.piece()
        skipping.skip(50)
        await turns()
        gate.open()
    assert isinstance(await asked.end(), Completion)


async def test_idle_time_does_not_pass_while_a_call_is_paused(
    upstream: ScriptedUpstream, asker: Asker, skipping: SkippingTime
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", gate, "lo"))
    asked = asker.ask()
    await asked.piece()
    asked.call.pause()
    skipping.skip(300)
    await turns()
    asked.call.resume()
    await turns()
    assert asked.ends == []
    gate.open()
    assert isinstance(await asked.end(), Completion)


async def test_silence_after_a_resume_counts_again(
    upstream: ScriptedUpstream, asker: Asker, skipping: SkippingTime
) -> None:
    upstream.then(answer("Hel", HANG))
    asked = asker.ask()
    await asked.piece()
    asked.call.pause()
    asked.call.resume()
    skipping.skip(61)
    told = await asked.failure()
    assert (told.kind, told.text_sent) == (FailureKind.TIMEOUT, True)


async def test_total_time_passes_even_while_a_call_is_paused(
    upstream: ScriptedUpstream, asker: Asker, skipping: SkippingTime
) -> None:
    upstream.then(answer("Hel", HANG))
    asked = asker.ask()
    await asked.piece()
    asked.call.pause()
    skipping.skip(601)
    assert (await asked.failure()).kind is FailureKind.TIMEOUT


async def test_models_that_take_too_long_are_unavailable(
    upstream: ScriptedUpstream, asker: Asker, skipping: SkippingTime
) -> None:
    upstream.models = hang()
    probe: Probe[ProviderMessage] = Probe()
    asker.upstream.ask_models(probe)
    await upstream.wait_until(lambda: upstream.model_requests == 1, "a question for models")
    skipping.skip(31)
    assert (await probe.expect(ModelsUnavailable)).failure.kind is FailureKind.TIMEOUT


async def test_a_service_that_stays_silent_after_done_does_not_hold_the_answer_back(
    upstream: ScriptedUpstream, asker: Asker, skipping: SkippingTime
) -> None:
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'
    upstream.then(answer(event, HANG))
    asked = asker.ask()
    assert await asked.piece() == "x"
    skipping.skip(1)
    result = await asked.end()
    assert isinstance(result, Completion)
    assert result.text == "x"
    await upstream.wait_for_disconnect()


async def test_a_refusal_whose_body_never_ends_is_told_soon(
    upstream: ScriptedUpstream, asker: Asker, skipping: SkippingTime
) -> None:
    upstream.then(body('{"error', HANG, status=429, headers={"Retry-After": "7"}))
    asked = asker.ask()
    await response_begun(asked)
    skipping.skip(6)
    told = await asked.failure()
    assert (told.kind, told.retry_after) == (FailureKind.RATE_LIMITED, 7.0)
    await upstream.wait_for_disconnect()


async def test_each_of_many_calls_at_once_gets_its_own_answer(
    upstream: ScriptedUpstream, asker: Asker
) -> None:
    calls = [asker.ask(f"nonce {number}", stream=number % 2 == 0) for number in range(50)]
    results = [await asked.end() for asked in calls]
    texts = [result.text for result in results if isinstance(result, Completion)]
    assert texts == [f"echo: nonce {number}" for number in range(50)]
    assert [len(asked.ends) for asked in calls] == [1] * 50
