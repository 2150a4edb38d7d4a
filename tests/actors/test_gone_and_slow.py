"""Clients that vanish, cancel or do not read: others are unaffected and the permit is released."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from exai_actors.actors.connection import piece_writer
from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.ids import SessionId
from exai_actors.messages.connection import (
    Admitted,
    BinaryReceived,
    Drain,
    OutboxHigh,
    OutboxLow,
    SocketClosed,
    TextReceived,
)
from exai_actors.messages.session_requests import SessionRequest
from exai_actors.ports import Peer
from exai_actors.testing.probe import Probe
from exai_actors.testing.tree import ManualTree


def test_a_client_gone_while_queued_leaves_the_queue() -> None:
    tree = ManualTree(limit=1)
    first, second = tree.client(), tree.client()
    first.call("a")
    second.call("b")
    assert tree.statistics().queued == 1
    second.vanish()
    assert tree.statistics().queued == 0
    tree.upstream.calls[0].complete()
    tree.settle()
    assert len(tree.upstream.calls) == 1


def test_answers_to_a_client_that_has_vanished_are_no_dead_letters() -> None:
    tree = ManualTree()
    client = tree.client()
    # More than an actor handles in a row: some of them are answered before it notices the end.
    for number in range(100):
        call = {"op": "call_tool", "request_id": str(number), "name": "version"}
        client.ref.tell(TextReceived(orjson.dumps(call)))
    client.ref.tell(SocketClosed(1006, ""))
    tree.settle()
    assert len(tree.system.dead_letters) == 0


@pytest.mark.parametrize("chunks", [0, 2])
def test_a_client_that_vanishes_frees_its_permit_when_its_call_has_ended(chunks: int) -> None:
    tree = ManualTree(limit=1)
    first, second = tree.client(), tree.client()
    first.call("a", stream=True)
    second.call("b")
    for _ in range(chunks):
        tree.upstream.calls[0].chunk("x")
    first.vanish()
    assert tree.upstream.calls[0].abort_asked
    assert len(tree.upstream.calls) == 1, "the permit is held until the call has really ended"
    tree.upstream.calls[0].close(cut_off=False)
    tree.settle()
    tree.upstream.calls[1].complete("for the second")
    assert second.received()[-1]["text"] == "for the second"


def test_requests_waiting_in_the_session_end_with_their_client() -> None:
    tree = ManualTree(limit=4)
    client = tree.client()
    client.call("first")
    tree.upstream.calls[0].complete()
    named = {"continuation_id": client.received()[-1]["continuation_id"]}
    client.call("a", arguments=named)
    client.call("b", arguments=named)
    client.vanish()
    tree.upstream.calls[1].close(cut_off=False)
    tree.settle()
    assert len(tree.upstream.calls) == 2
    assert tree.statistics().in_flight == 0


def test_a_repeat_after_a_lost_connection_is_a_new_call() -> None:
    tree = ManualTree(limit=2)
    client = tree.client("mine")
    client.call("a")
    client.vanish()
    again = tree.client("mine")
    again.call("a")
    tree.upstream.calls[1].complete("anew")
    assert again.received()[-1]["text"] == "anew"


def test_cancel_is_answered_and_so_is_the_cancelled_call() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    frames = client.send({"op": "cancel", "request_id": "a"})
    assert sorted(frame["op"] for frame in frames) == ["call_tool_res", "cancelled"]
    answer = next(frame for frame in frames if frame["op"] == "call_tool_res")
    assert answer["error"]["code"] == "CANCELLED"
    assert tree.upstream.calls[0].abort_asked
    tree.upstream.calls[0].close(cut_off=False)
    assert client.received() == []


def test_a_json_rpc_cancellation_aborts_the_call() -> None:
    tree = ManualTree()
    client = tree.client()
    call = {"name": "chat", "arguments": {"prompt": "x"}}
    client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call})
    client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
    assert tree.upstream.calls[0].abort_asked


def test_a_cancel_of_an_unknown_request_is_answered() -> None:
    tree = ManualTree()
    client = tree.client()
    (frame,) = client.send({"op": "cancel", "request_id": "nothing"})
    assert (frame["op"], frame["found"]) == ("cancelled", False)
    client.call("something")
    frames = client.send({"op": "cancel", "request_id": "something"})
    assert [frame["found"] for frame in frames if frame["op"] == "cancelled"] == [True]


def test_a_cancel_right_behind_its_call_is_not_lost() -> None:
    tree = ManualTree()
    client = tree.client()

    client.ref.tell(
        TextReceived(
            b'{"op":"call_tool","request_id":"a","name":"chat","arguments":{"prompt":"x"}}'
        )
    )
    client.ref.tell(TextReceived(b'{"op":"cancel","request_id":"a"}'))
    frames = client.received()
    answers = [frame for frame in frames if frame["op"] == "call_tool_res"]
    assert [answer["error"]["code"] for answer in answers] == ["CANCELLED"]
    assert all(call.abort_asked for call in tree.upstream.calls)


def chunks(frames: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(each["sequence"], each["chunk"]) for each in frames if each["op"] == "stream_chunk"]


@pytest.fixture
def ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most ten characters are held back."""
    monkeypatch.setattr(piece_writer, "HELD_BACK_CHARS", 10)


def test_the_pieces_for_a_slow_consumer_become_one() -> None:
    tree = ManualTree(limit=2)
    slow, other = tree.client(), tree.client()
    slow.call("a", stream=True)
    other.call("b", stream=True)
    to_slow, to_other = tree.upstream.calls
    to_slow.chunk("one ")
    slow.event(OutboxHigh())
    for each in ("two ", "three "):
        to_slow.chunk(each)
        to_other.chunk(each)
    assert slow.received() == []
    assert chunks(other.received()) == [(0, "two "), (1, "three ")]
    slow.outbox.is_above_high_mark = False
    to_slow.chunk("four ")
    assert chunks(slow.event(OutboxLow())) == [(1, "two three four ")]
    to_slow.chunk("five")
    assert chunks(slow.received()) == [(2, "five")]
    to_slow.complete("one two three four five")
    *_, complete, _ = slow.received()
    assert (complete["op"], complete["chunks"]) == ("stream_complete", 3)


def test_a_slow_consumer_gets_the_rest_before_its_answer() -> None:
    tree = ManualTree()
    slow = tree.client()
    slow.call("a", stream=True)
    slow.event(OutboxHigh())
    (call,) = tree.upstream.calls
    call.chunk("one ")
    call.chunk("two")
    call.complete("one two")
    frames = slow.received()
    assert [each["op"] for each in frames] == ["stream_chunk", "stream_complete", "call_tool_res"]
    assert chunks(frames) == [(0, "one two")]
    assert not call.paused
    assert slow.event(OutboxLow()) == []


def test_the_rest_of_an_answer_that_failed_is_dropped() -> None:
    tree = ManualTree()
    slow = tree.client()
    slow.call("a", stream=True)
    slow.event(OutboxHigh())
    (call,) = tree.upstream.calls
    call.chunk("one ")
    call.fail()
    assert [each["op"] for each in slow.received()] == ["call_tool_res"]
    assert slow.event(OutboxLow()) == []


@pytest.mark.usefixtures("ten")
def test_a_stream_that_is_far_behind_pauses_until_its_reader_has_caught_up() -> None:
    tree = ManualTree(limit=2)
    slow, other = tree.client(), tree.client()
    slow.call("a", stream=True)
    other.call("b", stream=True)
    slow.event(OutboxHigh())
    for _ in range(3):
        for call in tree.upstream.calls:
            call.chunk("many characters")
    tree.settle()
    assert [call.paused for call in tree.upstream.calls] == [True, False]
    slow.event(OutboxLow())
    assert [call.paused for call in tree.upstream.calls] == [False, False]


@pytest.mark.usefixtures("ten")
def test_a_stream_that_stays_far_behind_is_cut_off() -> None:
    tree = ManualTree(limit=1, connection=ConnectionSettings(slow_consumer_s=60.0))
    slow, other = tree.client(), tree.client()
    slow.call("a", stream=True)
    other.call("b")
    slow.event(OutboxHigh())
    (call,) = tree.upstream.calls
    call.chunk("many characters")
    tree.advance(10.1)
    (answer,) = slow.received()
    assert answer["error"]["code"] == "PROVIDER_ERROR"
    assert "reads its answer too slowly" in answer["error"]["message"]
    assert call.abort_asked
    call.close(cut_off=False)
    tree.settle()
    tree.upstream.calls[1].complete("for the other")
    assert other.received()[-1]["text"] == "for the other"


def test_a_connection_may_be_a_slow_consumer_before_it_has_a_session() -> None:
    tree = ManualTree(connection=ConnectionSettings(slow_consumer_s=10.0))
    client = tree.connect()
    client.event(OutboxHigh())
    client.event(OutboxLow())
    assert [frame["ok"] for frame in client.send({"op": "hello"})] == [True]
    client.event(OutboxHigh())
    client.event(OutboxHigh())
    tree.advance(10.0)
    assert client.outbox.aborts == 1


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("leaves", ["vanishes", "cancels"])
def test_a_shared_stream_resumes_when_its_slow_consumer_leaves(leaves: str) -> None:
    tree = ManualTree()
    slow, other = tree.client("shared"), tree.client("shared")
    slow.call("a", stream=True)
    other.call("a", stream=True)
    slow.event(OutboxHigh())
    (call,) = tree.upstream.calls
    call.chunk("many characters")
    tree.settle()
    assert [call.paused] == [True]
    if leaves == "vanishes":
        slow.vanish()
    else:
        slow.send({"op": "cancel", "request_id": "a"})
    assert not call.paused
    call.complete("many characters")
    assert other.received()[-1]["text"] == "many characters"


def test_a_slow_consumer_that_becomes_the_reader_gets_one_piece() -> None:
    tree = ManualTree()
    first, second = tree.client("shared"), tree.client("shared")
    first.call("a", stream=True)
    second.call("a", stream=True)
    second.event(OutboxHigh())
    first.vanish()
    (call,) = tree.upstream.calls
    call.chunk("one ")
    call.chunk("two")
    assert second.received() == []
    assert chunks(second.event(OutboxLow())) == [(0, "one two")]


def test_a_stream_whose_reader_has_left_after_a_chunk_has_no_new_reader() -> None:
    tree = ManualTree()
    first, second = tree.client("shared"), tree.client("shared")
    first.call("a", stream=True)
    second.call("a", stream=True)
    tree.upstream.calls[0].chunk("one ")
    first.vanish()
    second.received()
    tree.upstream.calls[0].chunk("two")
    tree.upstream.calls[0].complete("one two")
    (answer,) = second.received()
    assert (answer["op"], answer["text"]) == ("call_tool_res", "one two")


def test_a_slow_consumer_that_reads_enough_is_not_dropped() -> None:
    settings = ConnectionSettings(slow_consumer_s=10.0, slow_consumer_bytes=1000)
    tree = ManualTree(connection=settings)
    reader = tree.client()
    reader.event(OutboxHigh())
    for _ in range(5):
        reader.outbox.taken += 1000
        tree.advance(10.1)
    assert reader.outbox.aborts == 0
    reader.outbox.taken += 999
    tree.advance(10.1)
    assert reader.outbox.aborts == 1


def test_a_slow_consumer_is_dropped_without_effect_on_others() -> None:
    tree = ManualTree(limit=2, connection=ConnectionSettings(slow_consumer_s=10.0))
    slow, other = tree.client(), tree.client()
    slow.call("a", stream=True)
    other.call("b")
    slow.event(OutboxHigh())
    tree.advance(9.9)
    assert slow.outbox.aborts == 0
    tree.advance(0.2)
    assert slow.outbox.aborts == 1
    slow.vanish()
    assert tree.upstream.calls[0].abort_asked
    tree.upstream.calls[1].complete("unhurt")
    assert other.received()[-1]["text"] == "unhurt"


def test_a_slow_consumer_that_catches_up_in_time_stays() -> None:
    tree = ManualTree(connection=ConnectionSettings(slow_consumer_s=10.0))
    client = tree.client()
    client.event(OutboxHigh())
    tree.advance(9.0)
    client.event(OutboxLow())
    tree.advance(60.0)
    assert client.outbox.aborts == 0


def test_nothing_said_in_time_closes_4002() -> None:
    tree = ManualTree(connection=ConnectionSettings(hello_timeout_s=15.0))
    socket = tree.connect()
    tree.advance(15.0)
    assert socket.outbox.closed == (4002, "hello timeout or disconnect")


def test_a_session_that_is_ready_after_the_timeout_is_not_reported() -> None:
    tree = ManualTree(connection=ConnectionSettings(hello_timeout_s=15.0))
    client = tree.connect()
    tree.advance(15.0)
    session: Probe[SessionRequest] = Probe()
    assert client.outbox.take() == []
    client.ref.tell(Admitted(SessionId("late"), session))
    assert client.received() == []
    assert client.ref.is_alive()


def test_a_hello_in_time_stops_the_timeout() -> None:
    tree = ManualTree(connection=ConnectionSettings(hello_timeout_s=15.0))
    client = tree.client()
    tree.advance(1000.0)
    assert client.outbox.closed is None


@pytest.mark.parametrize("token", ["", "wrong-token-wrong", None])
def test_a_wrong_token_is_turned_away(token: str | None) -> None:
    tree = ManualTree(token="correct-token-0001")
    socket = tree.connect()
    (ack,) = socket.send({"op": "hello", "token": token})
    assert (ack["ok"], ack["error"]) == (False, "unauthorized")
    assert ack["message"] == "the access token is missing or not valid"
    assert socket.outbox.closed == (4003, "unauthorized")


def test_the_bearer_token_of_the_handshake_serves_both_dialects() -> None:
    tree = ManualTree(token="correct-token-0001")
    peer = Peer("127.0.0.1", bearer_token="correct-token-0001")
    (ack,) = tree.connect(peer).send({"op": "hello"})
    assert ack["ok"] is True
    initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
    (result,) = tree.connect(peer).send(initialize)
    assert result["id"] == 0
    assert "result" in result
    socket = tree.connect()
    (refused,) = socket.send(initialize)
    assert "error" in refused
    assert socket.outbox.closed == (4003, "unauthorized")


def test_a_rotated_token_replaces_the_old_one() -> None:
    tree = ManualTree(token="correct-token-0001")
    socket = tree.connect()
    socket.send({"op": "hello", "token": "correct-token-0001"})
    rotate = {"op": "rotate_token", "old": "correct-token-0001"}
    assert socket.send(rotate | {"new": "short"})[0]["error"] == "weak_token"
    assert socket.send(rotate | {"old": "x", "new": "another-token-0002"})[0]["error"] == (
        "unauthorized"
    )
    assert socket.send(rotate | {"new": "another-token-0002"})[0]["ok"] is True
    (ack,) = tree.connect().send({"op": "hello", "token": "correct-token-0001"})
    assert ack["ok"] is False
    (ack,) = tree.connect().send({"op": "hello", "token": "another-token-0002"})
    assert ack["ok"] is True


def test_a_second_rotation_is_refused_while_one_is_pending() -> None:
    tree = ManualTree(token="correct-token-0001")
    socket = tree.connect()
    socket.send({"op": "hello", "token": "correct-token-0001"})
    rotate = b'{"op":"rotate_token","request_id":"%d","old":"correct-token-000%d","new":"%b"}'
    socket.ref.tell(TextReceived(rotate % (1, 1, b"correct-token-0002")))
    socket.ref.tell(TextReceived(rotate % (2, 2, b"correct-token-0003")))
    second, first = socket.received()
    assert (second["request_id"], second["error"]) == ("2", "rotation_pending")
    assert (first["request_id"], first["ok"]) == ("1", True)
    (third,) = socket.send(rotate % (3, 2, b"correct-token-0003"))
    assert third["ok"] is True


def test_frames_sent_before_hello_ack_are_answered_after_it() -> None:
    tree = ManualTree()
    socket = tree.connect()

    socket.ref.tell(TextReceived(b'{"op":"hello"}'))
    socket.ref.tell(TextReceived(b'{"op":"ping","request_id":"p"}'))
    socket.ref.tell(BinaryReceived(3))
    assert [frame["op"] for frame in socket.received()] == ["hello_ack", "pong", "error"]


def test_a_binary_frame_before_hello_closes_the_connection() -> None:
    tree = ManualTree()
    socket = tree.connect()
    [refusal] = socket.event(BinaryReceived(3))
    assert refusal["error"] == "invalid_hello"
    assert socket.outbox.closed is not None
    assert socket.outbox.closed[0] == 4000


def test_a_flood_behind_hello_is_closed() -> None:
    tree = ManualTree(connection=ConnectionSettings(stash_limit=2))
    socket = tree.connect()

    socket.ref.tell(TextReceived(b'{"op":"hello"}'))
    for _ in range(4):
        socket.ref.tell(TextReceived(b'{"op":"ping"}'))
    socket.received()
    assert socket.outbox.closed is not None
    assert socket.outbox.closed[0] == 1008


def test_a_call_on_a_closing_socket_reaches_no_provider() -> None:
    tree = ManualTree()
    client = tree.client()
    client.ref.tell_system(Drain())
    tree.settle()
    assert client.outbox.closed == (1001, "the broker is shutting down")
    client.call("late")
    assert tree.upstream.calls == []


def test_a_full_table_refuses_a_session_or_evicts_a_deserted_one() -> None:
    tree = ManualTree(sessions=1)
    first = tree.client()
    socket = tree.connect()
    (ack,) = socket.send({"op": "hello"})
    assert ack["ok"] is False
    assert socket.outbox.closed is not None
    first.vanish()
    tree.client()
    assert tree.board.statistics().sessions == 1
