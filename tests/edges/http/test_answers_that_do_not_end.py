"""A complete answer is reported soon, however its body ends or does not end."""

from collections.abc import AsyncIterator

import pytest

from exai_actors.core.calls import Completion, FailureKind, Usage
from exai_actors.testing.scripted_replies import CUT, HANG, RESET, Gate, Step, answer, body
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from exai_actors.wire.openai.stream import FINISH_GRACE_S
from tests.edges.http.calling import Caller, StartedCall, caller_for
from tests.edges.http.test_upstream_ends import SkippingTime, turns

FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
TEXT_AND_FINISH = b'data: {"choices":[{"delta":{"content":"lo"},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'
WHOLE = b'{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}'


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as started:
        yield started


@pytest.fixture
async def caller(upstream: ScriptedUpstream) -> AsyncIterator[Caller]:
    async with caller_for(upstream.base_url) as ready:
        yield ready


@pytest.fixture
async def skipping() -> SkippingTime:
    return SkippingTime()


def left_open(*steps: Step) -> tuple[Step, ...]:
    return ("Hel", "lo", *steps, HANG)


async def completion_of(started: StartedCall) -> Completion:
    result = await started.end()
    assert isinstance(result, Completion), result
    return result


async def ended_by_now(started: StartedCall) -> Completion:
    """The completion, which may take turns of the loop but no time."""
    for _ in range(100):
        await turns()
    assert started.ends
    return await completion_of(started)


async def reads_everything(started: StartedCall) -> None:
    while "".join(started.pieces) != "Hello":
        await started.piece()
    # The rest of the same write may be read one turn of the loop later.
    for _ in range(100):
        await turns()


@pytest.mark.parametrize(
    "steps",
    [
        left_open(FINISH),
        ("Hel", TEXT_AND_FINISH, HANG),
        left_open(FINISH, b": keepalive\n\n"),
        left_open(FINISH, b"data: null\n\n"),
        left_open(FINISH, b"event: ping\ndata: 12:00\n\n"),
        left_open(FINISH, FINISH),
    ],
)
async def test_a_finish_reason_completes_an_answer_whose_stream_stays_open(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime, steps: tuple[Step, ...]
) -> None:
    upstream.then(answer(*steps))
    started = caller.start()
    await reads_everything(started)
    assert started.ends == []
    skipping.skip(FINISH_GRACE_S + 0.1)
    assert (await ended_by_now(started)).text == "Hello"
    await upstream.wait_for_disconnect()


async def test_usage_that_follows_a_finish_reason_later_is_read(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", "lo", FINISH, gate, USAGE, HANG))
    started = caller.start()
    await reads_everything(started)
    skipping.skip(1.0)
    gate.open()
    for _ in range(100):
        await turns()
    skipping.skip(FINISH_GRACE_S)
    assert (await ended_by_now(started)).usage == Usage(3, 5)


async def test_keepalives_do_not_extend_the_grace(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", "lo", FINISH, gate, b": keepalive\n\n", HANG))
    started = caller.start()
    await reads_everything(started)
    skipping.skip(FINISH_GRACE_S - 0.5)
    gate.open()
    for _ in range(100):
        await turns()
    skipping.skip(0.6)
    assert (await ended_by_now(started)).text == "Hello"


async def test_text_after_a_finish_reason_takes_its_time(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", TEXT_AND_FINISH, TEXT_AND_FINISH, gate, "!", FINISH))
    started = caller.start()
    while "".join(started.pieces) != "Hellolo":
        await started.piece()
    skipping.skip(30)
    await turns()
    assert started.ends == []
    gate.open()
    assert (await completion_of(started)).text == "Hellolo!"


async def test_each_text_after_a_finish_reason_begins_the_idle_time_again(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    first, second = Gate(), Gate()
    upstream.then(answer("Hel", TEXT_AND_FINISH, TEXT_AND_FINISH, first, "!", second, "?", FINISH))
    started = caller.start()
    for gate, words in ((first, "Hellolo"), (second, "Hellolo!")):
        while "".join(started.pieces) != words:
            await started.piece()
        skipping.skip(100)
        await turns(400)
        assert started.ends == []
        gate.open()
    assert (await completion_of(started)).text == "Hellolo!?"


@pytest.mark.parametrize("ending", [CUT, RESET])
async def test_a_connection_that_breaks_after_the_finish_reason_loses_nothing(
    upstream: ScriptedUpstream, caller: Caller, ending: Step
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", "lo", FINISH, gate, ending))
    started = caller.start()
    await reads_everything(started)
    gate.open()
    assert (await completion_of(started)).text == "Hello"


async def test_an_answer_that_finished_just_before_the_total_timeout_is_complete(
    upstream: ScriptedUpstream, skipping: SkippingTime
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", "lo", gate, FINISH, HANG))
    async with caller_for(upstream.base_url, total_timeout_s=50, idle_timeout_s=50) as caller:
        started = caller.start()
        await reads_everything(started)
        skipping.skip(49)
        gate.open()
        for _ in range(100):
            await turns()
        skipping.skip(FINISH_GRACE_S)
        assert (await ended_by_now(started)).text == "Hello"


async def test_usage_may_follow_although_the_total_time_is_over(
    upstream: ScriptedUpstream, skipping: SkippingTime
) -> None:
    finish, usage = Gate(), Gate()
    upstream.then(answer("Hel", "lo", finish, FINISH, usage, USAGE, HANG))
    async with caller_for(upstream.base_url, total_timeout_s=50) as caller:
        started = caller.start()
        await reads_everything(started)
        skipping.skip(49.9)
        finish.open()
        await usage.reached()
        await turns(400)
        skipping.skip(0.2)
        await turns(400)
        assert started.ends == []
        usage.open()
        await upstream.wait_for_steps(6)
        await turns(400)
        skipping.skip(FINISH_GRACE_S)
        assert (await ended_by_now(started)).usage == Usage(3, 5)


async def test_an_error_ends_a_call_whose_stream_stays_open(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(answer("Hel", b'data: {"error":{"message":"worker died"}}\n\n', HANG))
    started = caller.start()
    await upstream.wait_for_steps(2)
    await turns(2000)
    assert started.ends
    assert "worker died" in (await started.failure()).message


async def test_the_last_event_may_lack_its_end(upstream: ScriptedUpstream, caller: Caller) -> None:
    event = b'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}'
    upstream.then(body(event, content_type="text/event-stream"))
    started = caller.start()
    assert (await completion_of(started)).text == "Hello"
    assert started.pieces == ["Hello"]


@pytest.mark.parametrize("length", [None, 1000])
async def test_a_body_whose_json_is_whole_need_not_end(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime, length: int | None
) -> None:
    gate = Gate()
    headers = None if length is None else {"Content-Length": str(length)}
    upstream.then(body(WHOLE[:20], gate, WHOLE[20:], HANG, headers=headers))
    started = caller.start(stream=False)
    await gate.reached()
    gate.open()
    for _ in range(200):
        await turns()
    skipping.skip(FINISH_GRACE_S + 0.1)
    assert (await ended_by_now(started)).text == "Hello"


async def test_a_whole_body_is_read_before_a_short_idle_timeout(
    upstream: ScriptedUpstream, skipping: SkippingTime
) -> None:
    upstream.then(body(WHOLE, HANG))
    async with caller_for(upstream.base_url, idle_timeout_s=1.0) as caller:
        started = caller.start(stream=False)
        await upstream.wait_for_steps(1)
        for _ in range(200):
            await turns()
        skipping.skip(0.6)
        assert (await ended_by_now(started)).text == "Hello"


async def test_an_answer_that_ended_is_complete_although_the_total_time_ends_before_its_body(
    upstream: ScriptedUpstream, skipping: SkippingTime
) -> None:
    gate = Gate()
    done = b"data: [DONE]\n\n"
    upstream.then(answer("Hel", "lo", gate, FINISH + done, HANG, done=False))
    async with caller_for(upstream.base_url, total_timeout_s=50) as caller:
        started = caller.start()
        await reads_everything(started)
        skipping.skip(49.8)
        gate.open()
        await upstream.wait_for_steps(4)
        for _ in range(20):
            await turns()
        skipping.skip(0.21)
        assert (await completion_of(started)).text == "Hello"


async def test_a_pause_does_not_keep_a_complete_answer_from_ending(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    upstream.then(answer(*left_open(FINISH)))
    started = caller.start()
    await reads_everything(started)
    started.call.pause()
    skipping.skip(FINISH_GRACE_S + 0.1)
    assert (await ended_by_now(started)).text == "Hello"


async def test_a_resume_after_the_finish_reason_does_not_extend_the_grace(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    upstream.then(answer(*left_open(FINISH)))
    started = caller.start()
    await reads_everything(started)
    started.call.pause()
    started.call.resume()
    skipping.skip(FINISH_GRACE_S + 0.1)
    assert (await ended_by_now(started)).text == "Hello"


async def test_a_body_with_an_object_that_ends_in_its_middle_is_awaited(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    gate = Gate()
    at = WHOLE.index(b"}") + 1
    upstream.then(body(WHOLE[:at], gate, WHOLE[at:]))
    started = caller.start(stream=False)
    await gate.reached()
    for _ in range(100):
        await turns()
    skipping.skip(FINISH_GRACE_S + 0.1)
    await turns()
    assert started.ends == []
    gate.open()
    assert (await completion_of(started)).text == "Hello"


async def test_silence_before_a_finish_reason_is_still_a_timeout(
    upstream: ScriptedUpstream, caller: Caller, skipping: SkippingTime
) -> None:
    upstream.then(answer("Hel", "lo", HANG))
    started = caller.start()
    await reads_everything(started)
    skipping.skip(121)
    assert (await started.failure()).kind is FailureKind.TIMEOUT
