"""The writer of one stream: what it holds back, and what it asks its session for."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.actors.connection import piece_writer
from exai_actors.actors.connection.pending_calls import PendingCalls
from exai_actors.actors.connection.piece_writer import PieceWriter
from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.core.calls import Outcome, ToolResult
from exai_actors.ids import ConnectionId, RequestKey
from exai_actors.messages.session_requests import ReaderFull, ReaderReady, SessionRequest
from exai_actors.testing.clock import ManualClock
from exai_actors.testing.outbox_probe import OutboxProbe
from exai_actors.testing.probe import Probe
from exai_actors.wire.clients.frames import CheckedCall
from tests.wire.clients.wire_client import call

CONNECTION, REQUEST = ConnectionId("conn-1"), RequestKey("a")


class Stream:
    """A call of one client that wants a stream."""

    def __init__(self, **more: Any) -> None:
        self.outbox = OutboxProbe()
        self.session: Probe[SessionRequest] = Probe()
        self.calls = PendingCalls(CONNECTION, self.outbox, ConnectionSettings(), ManualClock())
        self.calls.outlet.session = self.session
        frame = {"op": "call_tool", "request_id": "a", "name": "chat", "stream": True} | more
        checked = call(frame | {"arguments": {"prompt": "hi"}}).check()
        assert isinstance(checked, CheckedCall)
        pending = self.calls.add(REQUEST, checked)
        assert pending is not None
        self.pending = pending

    @property
    def writer(self) -> PieceWriter:
        assert self.pending.writer is not None
        return self.pending.writer

    def chunks(self) -> list[tuple[int, str]]:
        frames = self.outbox.take()
        return [(each["sequence"], each["chunk"]) for each in frames if "chunk" in each]


@pytest.fixture(autouse=True)
def ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_writer, "HELD_BACK_CHARS", 10)


@pytest.mark.parametrize("more", [{"stream": False}, {"request_id": None}])
def test_a_client_that_wants_no_pieces_has_no_writer(more: dict[str, Any]) -> None:
    assert Stream(**more).pending.writer is None


def test_a_piece_does_not_wait_for_the_end_of_its_turn() -> None:
    stream = Stream()
    stream.writer.write("Hello")
    assert stream.chunks() == [(0, "Hello")]
    assert stream.outbox.sent_now == 1


def test_pieces_of_several_streams_wait_for_the_one_write_of_their_turn() -> None:
    stream = Stream()
    other = RequestKey("b")
    stream.calls.add(other, stream.pending.call)
    stream.writer.write("one")
    assert stream.outbox.sent_now == 0
    stream.calls.finish(other, Outcome("completed", ToolResult(("other",))))
    stream.writer.write("two")
    assert stream.outbox.sent_now == 1
    assert stream.chunks() == [(0, "one"), (1, "two")]


def test_a_pause_is_asked_for_once_and_ends_once() -> None:
    stream = Stream()
    stream.outbox.is_above_high_mark = True
    stream.writer.write("1234567890")
    assert stream.session.messages == []
    stream.writer.write("1")
    stream.writer.write("2")
    assert stream.session.messages == [ReaderFull(REQUEST, CONNECTION)]
    stream.outbox.is_above_high_mark = False
    stream.calls.release()
    stream.calls.release()
    assert stream.session.messages[1:] == [ReaderReady(REQUEST, CONNECTION)]
    assert stream.chunks() == [(0, "123456789012")]


def test_what_is_held_back_counts_until_it_is_sent_or_dropped() -> None:
    stream = Stream()
    stream.outbox.is_above_high_mark = True
    stream.writer.write("12345")
    stream.writer.write("67")
    assert stream.outbox.held_back == 7
    stream.calls.release()
    assert stream.outbox.held_back == 0
    stream.writer.write("12345")
    stream.calls.close()
    stream.calls.close()
    assert stream.outbox.held_back == 0


def test_reasoning_is_for_clients_that_asked_for_it() -> None:
    stream = Stream()
    assert not stream.writer.write_reasoning("hm")
    stream.writer.write("42")
    assert stream.chunks() == [(0, "42")]


def test_pieces_of_one_kind_that_follow_each_other_are_held_back_as_one() -> None:
    stream = Stream(stream_reasoning=True)
    assert stream.writer.write_reasoning("hm")
    stream.outbox.is_above_high_mark = True
    for text in ("let ", "me"):
        stream.writer.write_reasoning(text)
    for text in ("4", "2"):
        stream.writer.write(text)
    stream.writer.write_reasoning("!")
    stream.outbox.is_above_high_mark = False
    stream.calls.release()
    frames = stream.outbox.take()
    assert [(each["op"], each["sequence"], each["chunk"]) for each in frames] == [
        ("reasoning_chunk", 0, "hm"),
        ("reasoning_chunk", 1, "let me"),
        ("stream_chunk", 2, "42"),
        ("reasoning_chunk", 3, "!"),
    ]


def test_a_pause_is_asked_for_before_too_many_frames_are_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(piece_writer, "HELD_BACK_RUNS", 3)
    stream = Stream(stream_reasoning=True)
    stream.outbox.is_above_high_mark = True
    for _ in range(2):
        stream.writer.write("a")
        stream.writer.write_reasoning("b")
        stream.writer.write_reasoning("b")
    assert stream.session.messages == [ReaderFull(REQUEST, CONNECTION)]


def test_reasoning_after_the_outcome_is_ignored() -> None:
    stream = Stream(stream_reasoning=True)
    stream.calls.finish(REQUEST, Outcome("completed", ToolResult(("one",))))
    stream.outbox.take()
    stream.writer.write_reasoning("late")
    assert stream.outbox.take() == []


def test_without_a_session_there_is_nothing_to_ask() -> None:
    stream = Stream()
    stream.calls.outlet.session = None
    stream.outbox.is_above_high_mark = True
    stream.writer.write("many characters")
    stream.calls.release()
    assert stream.chunks() == [(0, "many characters")]
    assert stream.session.messages == []


@pytest.mark.parametrize("held", [False, True])
def test_a_piece_after_the_outcome_is_ignored(held: bool) -> None:
    stream = Stream()
    stream.writer.write("one")
    stream.calls.finish(REQUEST, Outcome("completed", ToolResult(("one",))))
    stream.outbox.take()
    stream.outbox.is_above_high_mark = held
    stream.writer.write("many characters")
    stream.writer.release()
    assert stream.outbox.take() == []
    assert stream.session.messages == []


def test_a_connection_that_ends_takes_no_more_pieces() -> None:
    stream = Stream()
    stream.calls.close()
    stream.writer.write("late")
    assert stream.outbox.take() == []
