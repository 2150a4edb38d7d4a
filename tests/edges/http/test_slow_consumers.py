"""A slow consumer keeps no permit: its call is read to its end, or cut off after a while."""

from __future__ import annotations

import pytest

from exai_actors.core.calls import Aborted, Completion, FailureKind
from exai_actors.edges.http import call as http_call
from exai_actors.messages.provider import UpstreamEnded
from tests.edges.http.calling import StartedCall
from tests.edges.http.test_late_timers import (
    DONE,
    FINISH,
    STREAM,
    answer_of,
    asked,
    read_so_far,
    text,
)
from tests.edges.http.test_upstream_ends import SkippingTime, turns


@pytest.fixture
async def skipping() -> SkippingTime:
    return SkippingTime()


def stalled_s(started: StartedCall) -> float:
    (end,) = [each for each in started.probe.messages if isinstance(each, UpstreamEnded)]
    return end.stalled_s


async def test_a_paused_call_ends_when_the_service_has_finished() -> None:
    async with asked() as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        started.call.pause()
        connection.send(text("two ") + text("three "))
        await turns(100)
        assert started.pieces == ["one "]
        connection.send(text("four") + FINISH + DONE)
        assert await answer_of(started) == "one two three four"
        assert started.pieces == ["one ", "two three four"]
        assert stalled_s(started) == 0.0


async def test_a_call_that_was_paused_from_the_start_ends_too() -> None:
    async with asked() as (started, connection):
        started.call.pause()
        connection.send(STREAM + text("Hel") + text("lo") + FINISH + DONE)
        assert await answer_of(started) == "Hello"
        assert started.pieces == ["Hello"]


async def test_text_that_was_held_back_is_passed_on_when_the_pause_ends() -> None:
    async with asked() as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        started.call.pause()
        connection.send(text("two "))
        await turns(100)
        connection.send(text("three "))
        await turns(100)
        started.call.resume()
        assert started.pieces == ["one ", "two three "]
        started.call.resume()
        connection.send(text("four") + FINISH + DONE)
        assert await answer_of(started) == "one two three four"
        assert "".join(started.pieces) == "one two three four"


async def test_a_paused_service_that_falls_silent_times_out(skipping: SkippingTime) -> None:
    async with asked() as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        started.call.pause()
        skipping.skip(121.0)
        assert (await started.failure()).kind is FailureKind.TIMEOUT


async def test_a_call_that_stalls_too_long_is_cut_off(
    skipping: SkippingTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_call, "HELD_BACK_CHARS", 10)
    async with asked(stall_timeout_s=10.0) as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        started.call.pause()
        connection.send(text("more than ten characters"))
        await turns(100)
        skipping.skip(9.0)
        await turns(100)
        assert started.ends == []
        skipping.skip(2.0)
        result = await started.end()
        assert isinstance(result, Aborted)
        assert "reads its answer too slowly" in result.because
        assert stalled_s(started) >= 10.0


async def test_stalls_add_up(skipping: SkippingTime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_call, "HELD_BACK_CHARS", 10)
    async with asked(stall_timeout_s=10.0) as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        for _ in range(2):
            started.call.pause()
            connection.send(text("more than ten characters"))
            await turns(100)
            skipping.skip(4.0)
            await turns(100)
            started.call.resume()
            await turns(100)
        assert started.pieces == ["one ", *["more than ten characters"] * 2]
        started.call.pause()
        connection.send(text("more than ten characters"))
        await turns(100)
        skipping.skip(3.0)
        assert isinstance(await started.end(), Aborted)


async def test_a_call_that_stalls_is_not_silent(
    skipping: SkippingTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_call, "HELD_BACK_CHARS", 10)
    async with asked(stall_timeout_s=1000.0) as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        started.call.pause()
        connection.send(text("more than ten characters"))
        await turns(100)
        skipping.skip(500.0)
        await turns(100)
        started.call.resume()
        connection.send(FINISH + DONE)
        assert await answer_of(started) == "one more than ten characters"
        assert stalled_s(started) >= 500.0


async def test_a_complete_answer_is_not_lost_in_a_stall(
    skipping: SkippingTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_call, "HELD_BACK_CHARS", 10)
    async with asked(stall_timeout_s=10.0) as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        started.call.pause()
        connection.send(text("more than ten characters") + FINISH)
        await turns(100)
        skipping.skip(11.0)
        result = await started.end()
        assert isinstance(result, Completion)
        assert result.text == "one more than ten characters" == "".join(started.pieces)


async def test_a_stalled_call_can_be_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_call, "HELD_BACK_CHARS", 10)
    async with asked() as (started, connection):
        started.call.pause()
        connection.send(STREAM + text("more than ten characters"))
        await turns(100)
        started.call.abort()
        assert await started.end() == Aborted()
        assert started.pieces == []
