"""A paused call is not read, and loses nothing."""

from __future__ import annotations

import pytest

from exai_actors.core.calls import Aborted, FailureKind
from exai_actors.wire.openai.stream import StreamReader
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


async def test_a_paused_call_is_not_read() -> None:
    async with asked() as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        started.call.pause()
        # One read may be under way already.
        connection.send(text("two "))
        await turns(100)
        connection.send(text("three "))
        await turns(100)
        assert started.pieces in (["one "], ["one ", "two "])
        started.call.resume()
        started.call.resume()
        connection.send(text("four") + FINISH + DONE)
        assert await answer_of(started) == "one two three four" == "".join(started.pieces)


async def test_a_call_that_was_paused_from_the_start_is_read_after_the_pause() -> None:
    async with asked() as (started, connection):
        started.call.pause()
        connection.send(STREAM + text("Hel") + text("lo") + FINISH + DONE)
        await turns(100)
        assert started.pieces == []
        assert started.ends == []
        started.call.resume()
        assert await answer_of(started) == "Hello" == "".join(started.pieces)


async def test_a_fault_in_what_waited_for_the_end_of_a_pause_ends_the_call_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object) -> str:
        raise RuntimeError("surprise")

    async with asked() as (started, connection):
        connection.send(STREAM + text("one ") * 4_000)
        while not started.pieces:
            await turns(1)
        started.call.pause()
        await turns(100)
        monkeypatch.setattr(StreamReader, "feed", explode)
        # The provider resumes its calls: an error would end it, and all of them.
        started.call.resume()
        failed = await started.failure()
    assert (failed.kind, failed.text_sent) == (FailureKind.BROKEN, True)


async def test_a_pause_does_not_count_as_silence(skipping: SkippingTime) -> None:
    async with asked() as (started, connection):
        connection.send(STREAM + text("one "))
        await read_so_far(started, "one ")
        started.call.pause()
        connection.send(text("two "))
        await turns(100)
        skipping.skip(500.0)
        await turns(100)
        assert started.ends == []
        started.call.resume()
        connection.send(FINISH + DONE)
        assert await answer_of(started) == "one two "


async def test_a_complete_answer_ends_in_spite_of_a_pause() -> None:
    async with asked() as (started, connection):
        connection.send(STREAM + text("one "))
        connection.send(text("two") + FINISH)
        await read_so_far(started, "one two")
        started.call.pause()
        connection.send(DONE)
        assert await answer_of(started) == "one two" == "".join(started.pieces)


async def test_a_paused_call_can_be_aborted() -> None:
    async with asked() as (started, connection):
        started.call.pause()
        connection.send(STREAM + text("one"))
        await turns(100)
        started.call.abort()
        assert await started.end() == Aborted()
        assert started.pieces == []
