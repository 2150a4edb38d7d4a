"""Clients that vanish, cancel or do not read: nobody else feels it and the permit comes back."""

from __future__ import annotations

import pytest

from exai_actors.actors.settings import ConnectionSettings
from exai_actors.messages.connection import (
    BinaryReceived,
    Drain,
    OutboxHigh,
    OutboxLow,
    TextReceived,
)
from exai_actors.ports import Peer
from tests.actors.desk import Desk


def test_a_client_gone_while_queued_leaves_the_queue() -> None:
    desk = Desk(limit=1)
    first, second = desk.client(), desk.client()
    first.call("a")
    second.call("b")
    assert desk.statistics().queued == 1
    second.vanish()
    assert desk.statistics().queued == 0
    desk.upstream.calls[0].complete()
    desk.settle()
    assert len(desk.upstream.calls) == 1


@pytest.mark.parametrize("chunks", [0, 2])
def test_a_client_gone_while_running_frees_its_permit_for_the_next(chunks: int) -> None:
    desk = Desk(limit=1)
    first, second = desk.client(), desk.client()
    first.call("a", stream=True)
    second.call("b")
    for _ in range(chunks):
        desk.upstream.calls[0].chunk("x")
    first.vanish()
    assert desk.upstream.calls[0].abort_asked
    assert len(desk.upstream.calls) == 1, "the permit is held until the call has really ended"
    desk.upstream.calls[0].close(cut_off=False)
    desk.settle()
    desk.upstream.calls[1].complete("for the second")
    assert second.heard()[-1]["text"] == "for the second"


def test_a_client_gone_while_its_request_waits_in_the_session_leaves_nothing_behind() -> None:
    desk = Desk(limit=4)
    client = desk.client()
    named = {"continuation_id": "talk"}
    client.call("a", arguments=named)
    client.call("b", arguments=named)
    client.vanish()
    desk.upstream.calls[0].close(cut_off=False)
    desk.settle()
    assert len(desk.upstream.calls) == 1
    assert desk.statistics().in_flight == 0


def test_what_a_client_lost_by_vanishing_runs_anew_when_it_comes_back() -> None:
    desk = Desk(limit=2)
    client = desk.client("mine")
    client.call("a")
    client.vanish()
    again = desk.client("mine")
    again.call("a")
    desk.upstream.calls[1].complete("anew")
    assert again.heard()[-1]["text"] == "anew"


def test_cancel_is_answered_and_so_is_the_cancelled_call() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    frames = client.send({"op": "cancel", "request_id": "a"})
    assert sorted(frame["op"] for frame in frames) == ["call_tool_res", "cancelled"]
    answer = next(frame for frame in frames if frame["op"] == "call_tool_res")
    assert answer["error"]["code"] == "CANCELLED"
    assert desk.upstream.calls[0].abort_asked
    desk.upstream.calls[0].close(cut_off=False)
    assert client.heard() == []


def test_a_json_rpc_cancellation_aborts_the_call() -> None:
    desk = Desk()
    client = desk.client()
    call = {"name": "chat", "arguments": {"prompt": "x"}}
    client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call})
    client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
    assert desk.upstream.calls[0].abort_asked


def test_cancel_of_an_unknown_request_is_answered_and_harmless() -> None:
    desk = Desk()
    (frame,) = desk.client().send({"op": "cancel", "request_id": "nothing"})
    assert frame["op"] == "cancelled"


def test_a_cancel_in_the_same_breath_as_its_call_is_not_lost() -> None:
    desk = Desk()
    client = desk.client()

    client.ref.tell(
        TextReceived(
            b'{"op":"call_tool","request_id":"a","name":"chat","arguments":{"prompt":"x"}}'
        )
    )
    client.ref.tell(TextReceived(b'{"op":"cancel","request_id":"a"}'))
    frames = client.heard()
    answers = [frame for frame in frames if frame["op"] == "call_tool_res"]
    assert [answer["error"]["code"] for answer in answers] == ["CANCELLED"]
    assert all(call.abort_asked for call in desk.upstream.calls)


def test_a_slow_readers_stream_is_paused_and_resumed() -> None:
    desk = Desk(limit=2)
    slow, other = desk.client(), desk.client()
    slow.call("a", stream=True)
    other.call("b", stream=True)
    slow.event(OutboxHigh())
    assert [call.paused for call in desk.upstream.calls] == [True, False]
    slow.event(OutboxLow())
    assert [call.paused for call in desk.upstream.calls] == [False, False]


def test_a_stream_that_starts_while_its_reader_is_behind_starts_paused() -> None:
    desk = Desk()
    slow = desk.client()
    slow.event(OutboxHigh())
    slow.call("a", stream=True)
    assert desk.upstream.calls[0].paused


@pytest.mark.parametrize("leaves", ["vanishes", "cancels"])
def test_a_stream_goes_on_for_who_else_waits_when_the_slow_reader_leaves(leaves: str) -> None:
    desk = Desk()
    slow, other = desk.client("shared"), desk.client("shared")
    slow.call("a", stream=True)
    other.call("a", stream=True)
    slow.event(OutboxHigh())
    assert desk.upstream.calls[0].paused
    if leaves == "vanishes":
        slow.vanish()
    else:
        slow.send({"op": "cancel", "request_id": "a"})
    assert not desk.upstream.calls[0].paused


def test_a_stream_handed_on_rests_while_its_new_reader_is_behind_and_numbers_from_0() -> None:
    desk = Desk()
    first, second = desk.client("shared"), desk.client("shared")
    first.call("a", stream=True)
    second.call("a", stream=True)
    second.event(OutboxHigh())
    assert [call.paused for call in desk.upstream.calls] == [False]
    first.vanish()
    assert [call.paused for call in desk.upstream.calls] == [True]
    second.event(OutboxLow())
    desk.upstream.calls[0].chunk("whole")
    assert [frame["sequence"] for frame in second.heard() if frame["op"] == "stream_chunk"] == [0]


def test_nobody_gets_the_second_half_of_a_stream_whose_reader_has_left() -> None:
    desk = Desk()
    first, second = desk.client("shared"), desk.client("shared")
    first.call("a", stream=True)
    second.call("a", stream=True)
    desk.upstream.calls[0].chunk("one ")
    first.vanish()
    second.heard()
    desk.upstream.calls[0].chunk("two")
    desk.upstream.calls[0].complete("one two")
    (answer,) = second.heard()
    assert (answer["op"], answer["text"]) == ("call_tool_res", "one two")


def test_a_reader_that_is_behind_for_long_but_goes_on_reading_is_not_dropped() -> None:
    settings = ConnectionSettings(slow_consumer_s=10.0, slow_consumer_bytes=1000)
    desk = Desk(connection=settings)
    reader = desk.client()
    reader.event(OutboxHigh())
    for _ in range(5):
        reader.outbox.taken += 1000
        desk.advance(10.1)
    assert reader.outbox.aborts == 0
    reader.outbox.taken += 999
    desk.advance(10.1)
    assert reader.outbox.aborts == 1


def test_a_reader_that_stays_behind_is_dropped_and_others_go_on() -> None:
    desk = Desk(limit=2, connection=ConnectionSettings(slow_consumer_s=10.0))
    slow, other = desk.client(), desk.client()
    slow.call("a", stream=True)
    other.call("b")
    slow.event(OutboxHigh())
    desk.advance(9.9)
    assert slow.outbox.aborts == 0
    desk.advance(0.2)
    assert slow.outbox.aborts == 1
    slow.vanish()
    assert desk.upstream.calls[0].abort_asked
    desk.upstream.calls[1].complete("unhurt")
    assert other.heard()[-1]["text"] == "unhurt"


def test_a_reader_that_catches_up_in_time_stays() -> None:
    desk = Desk(connection=ConnectionSettings(slow_consumer_s=10.0))
    client = desk.client()
    client.event(OutboxHigh())
    desk.advance(9.0)
    client.event(OutboxLow())
    desk.advance(60.0)
    assert client.outbox.aborts == 0


def test_nothing_said_in_time_closes_4002() -> None:
    desk = Desk(connection=ConnectionSettings(hello_timeout_s=15.0))
    socket = desk.connect()
    desk.advance(15.0)
    assert socket.outbox.closed == (4002, "hello timeout or disconnect")


def test_hello_in_time_is_not_timed_out_later() -> None:
    desk = Desk(connection=ConnectionSettings(hello_timeout_s=15.0))
    client = desk.client()
    desk.advance(1000.0)
    assert client.outbox.closed is None


@pytest.mark.parametrize("token", ["", "wrong-token-wrong", None])
def test_a_wrong_token_is_turned_away(token: str | None) -> None:
    desk = Desk(token="correct-token-0001")
    socket = desk.connect()
    (ack,) = socket.send({"op": "hello", "token": token})
    assert (ack["ok"], ack["error"]) == (False, "unauthorized")
    assert socket.outbox.closed == (4003, "unauthorized")


def test_the_bearer_token_of_the_handshake_serves_both_dialects() -> None:
    desk = Desk(token="correct-token-0001")
    peer = Peer("127.0.0.1", bearer_token="correct-token-0001")
    (ack,) = desk.connect(peer).send({"op": "hello"})
    assert ack["ok"] is True
    initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
    (result,) = desk.connect(peer).send(initialize)
    assert result["id"] == 0
    assert "result" in result
    socket = desk.connect()
    (refused,) = socket.send(initialize)
    assert "error" in refused
    assert socket.outbox.closed == (4003, "unauthorized")


def test_a_rotated_token_is_the_only_one_that_counts() -> None:
    desk = Desk(token="correct-token-0001")
    socket = desk.connect()
    socket.send({"op": "hello", "token": "correct-token-0001"})
    rotate = {"op": "rotate_token", "old": "correct-token-0001"}
    assert socket.send(rotate | {"new": "short"})[0]["error"] == "weak_token"
    assert socket.send(rotate | {"old": "x", "new": "another-token-0002"})[0]["error"] == (
        "unauthorized"
    )
    assert socket.send(rotate | {"new": "another-token-0002"})[0]["ok"] is True
    (ack,) = desk.connect().send({"op": "hello", "token": "correct-token-0001"})
    assert ack["ok"] is False
    (ack,) = desk.connect().send({"op": "hello", "token": "another-token-0002"})
    assert ack["ok"] is True


def test_a_connection_has_one_rotation_under_way_and_a_second_is_refused_at_once() -> None:
    desk = Desk(token="correct-token-0001")
    socket = desk.connect()
    socket.send({"op": "hello", "token": "correct-token-0001"})
    rotate = b'{"op":"rotate_token","request_id":"%d","old":"correct-token-000%d","new":"%b"}'
    socket.ref.tell(TextReceived(rotate % (1, 1, b"correct-token-0002")))
    socket.ref.tell(TextReceived(rotate % (2, 2, b"correct-token-0003")))
    second, first = socket.heard()
    assert (second["request_id"], second["error"]) == ("2", "rotation_pending")
    assert (first["request_id"], first["ok"]) == ("1", True)
    (third,) = socket.send(rotate % (3, 2, b"correct-token-0003"))
    assert third["ok"] is True


def test_frames_sent_right_behind_hello_are_answered_after_it() -> None:
    desk = Desk()
    socket = desk.connect()

    socket.ref.tell(TextReceived(b'{"op":"hello"}'))
    socket.ref.tell(TextReceived(b'{"op":"ping","request_id":"p"}'))
    socket.ref.tell(BinaryReceived(3))
    assert [frame["op"] for frame in socket.heard()] == ["hello_ack", "pong", "error"]


def test_a_flood_behind_hello_is_closed() -> None:
    desk = Desk(connection=ConnectionSettings(stash_limit=2))
    socket = desk.connect()

    socket.ref.tell(TextReceived(b'{"op":"hello"}'))
    for _ in range(4):
        socket.ref.tell(TextReceived(b'{"op":"ping"}'))
    socket.heard()
    assert socket.outbox.closed is not None
    assert socket.outbox.closed[0] == 1008


def test_a_call_on_a_socket_that_is_being_closed_reaches_no_provider() -> None:
    desk = Desk()
    client = desk.client()
    client.ref.tell_system(Drain())
    desk.settle()
    assert client.outbox.closed == (1001, "the broker is shutting down")
    client.call("late")
    assert desk.upstream.calls == []


def test_when_every_session_is_in_use_a_new_one_is_refused_and_a_deserted_one_makes_room() -> None:
    desk = Desk(sessions=1)
    first = desk.client()
    socket = desk.connect()
    (ack,) = socket.send({"op": "hello"})
    assert ack["ok"] is False
    assert socket.outbox.closed is not None
    first.vanish()
    desk.client()
    assert desk.board.statistics().sessions == 1
