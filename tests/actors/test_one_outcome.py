"""Exactly one terminal reply for every accepted request, whatever dies or repeats."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.actors.settings import ConnectionSettings, SessionSettings
from exai_actors.core.calls import FailureKind
from exai_actors.ids import ConnectionId, ProviderName
from exai_actors.messages.broker import DrainBroker
from exai_actors.messages.connection import TextReceived
from exai_actors.messages.session_requests import ResumeStreams
from exai_actors.wire.clients.codec import TOOL_CALL_MAX_SIZE
from tests.actors.desk import Desk


def test_the_same_id_in_flight_runs_once_and_is_answered_once() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    (note,) = client.call("a")
    assert note["note"] == "duplicate request; still processing"
    desk.upstream.calls[0].complete("once")
    (answer,) = client.heard()
    assert answer["text"] == "once"
    assert len(desk.upstream.calls) == 1


def test_every_frame_of_a_client_of_one_frame_is_answered_though_the_call_runs_once() -> None:
    desk = Desk()
    client = desk.client()
    for _ in range(2):
        assert client.call("r", op="tool_call") == []
    (call,) = desk.upstream.calls
    call.complete("once")
    assert [answer["text"] for answer in client.heard()] == ["once", "once"]


def test_the_same_id_after_the_end_gives_the_same_outcome_without_a_call() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    desk.upstream.calls[0].complete("once")
    client.heard()
    (answer,) = client.call("a")
    assert answer["text"] == "once"
    assert len(desk.upstream.calls) == 1


def test_a_failure_is_the_outcome_of_its_id_too() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    desk.upstream.calls[0].fail(FailureKind.MALFORMED)
    client.heard()
    (answer,) = client.call("a")
    assert answer["error"]["code"] == "PROVIDER_ERROR"
    assert len(desk.upstream.calls) == 1


def test_a_refused_request_may_be_tried_again_under_its_id() -> None:
    desk = Desk(session=SessionSettings(window=1, queue=0))
    client = desk.client()
    client.call("a")
    (refused,) = client.call("b")
    assert refused["error"]["code"] == "OVER_CAPACITY"
    desk.upstream.calls[0].complete()
    client.heard()
    client.call("b")
    assert len(desk.upstream.calls) == 2


def test_an_id_in_use_for_another_call_is_refused_and_the_first_call_goes_on() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a", "one")
    (error,) = client.call("a", "another")
    assert (error["op"], error["error"]["code"]) == ("error", "DUPLICATE")
    desk.upstream.calls[0].complete("one's answer")
    (answer,) = client.heard()
    assert answer["text"] == "one's answer"
    (error,) = client.call("a", "another")
    assert error["error"]["code"] == "DUPLICATE"


BAD_SECOND_FRAMES: dict[str, dict[str, Any] | bytes] = {
    "arguments that do not fit": {"name": "chat", "arguments": {"prompt": 5}},
    "an unknown tool": {"name": "nope"},
    "no tool": {},
    "a deadline out of range": {"name": "chat", "arguments": {"prompt": "x"}, "deadline_ms": 0},
    "no JSON": b'{"op":"call_tool","request_id":"a","name":}',
    "too large": b'{"op":"call_tool","request_id":"a","x":"%b"}' % (b"x" * TOOL_CALL_MAX_SIZE),
}


@pytest.mark.parametrize("bad", BAD_SECOND_FRAMES.values(), ids=BAD_SECOND_FRAMES)
def test_a_bad_frame_under_the_id_of_a_call_in_flight_does_not_end_that_call(
    bad: dict[str, Any] | bytes,
) -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    frame = bad if isinstance(bad, bytes) else {"op": "call_tool", "request_id": "a"} | bad
    (error,) = client.send(frame)
    assert (error["op"], error["request_id"], error["ok"]) == ("error", "a", False)
    desk.upstream.calls[0].complete("the answer")
    (answer,) = client.heard()
    assert (answer["op"], answer["text"]) == ("call_tool_res", "the answer")
    (error,) = client.send(frame)
    assert error["op"] == "call_tool_res"


def test_a_bad_call_in_json_rpc_is_told_as_its_method_tells_it_whatever_is_in_flight() -> None:
    desk = Desk()
    client = desk.client()
    good = {"name": "chat", "arguments": {"prompt": "x"}}
    client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": good})
    (answer,) = client.send(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "chat"}}
    )
    assert answer["result"]["isError"]


def test_a_call_repeated_without_end_is_answered_a_bounded_number_of_times() -> None:
    desk = Desk()
    client = desk.client()
    call = {"op": "tool_call", "request_id": "a", "name": "chat", "arguments": {"prompt": "x"}}
    for _ in range(9):
        assert client.send(call) == []
    for _ in range(3):
        (refused,) = client.send(call)
        assert (refused["op"], refused["request_id"]) == ("error", "a")
        assert refused["error"]["code"] == "DUPLICATE"
    desk.upstream.calls[0].complete("one")
    assert [frame["text"] for frame in client.heard()] == ["one"] * 9
    assert len(desk.upstream.calls) == 1


def test_ids_are_scoped_to_their_session() -> None:
    desk = Desk(limit=2)
    one, two = desk.client(), desk.client()
    one.call("1", "mine")
    two.call("1", "mine")
    desk.upstream.calls[0].complete("for one")
    desk.upstream.calls[1].complete("for two")
    assert one.heard()[-1]["text"] == "for one"
    assert two.heard()[-1]["text"] == "for two"


def test_calls_without_an_id_are_never_taken_for_one_another() -> None:
    desk = Desk(limit=2)
    client = desk.client()
    for _ in range(2):
        client.send({"op": "tool_call", "name": "chat", "arguments": {"prompt": "same"}})
    assert len(desk.upstream.calls) == 2


def test_two_connections_of_a_session_that_ask_the_same_share_one_call() -> None:
    desk = Desk()
    one, two = desk.client("shared"), desk.client("shared")
    one.call("a")
    two.call("a")
    desk.upstream.calls[0].complete("both")
    assert one.heard()[-1]["text"] == "both"
    assert two.heard()[-1]["text"] == "both"
    assert len(desk.upstream.calls) == 1


def test_one_of_two_waiters_can_cancel_alone() -> None:
    desk = Desk()
    one, two = desk.client("shared"), desk.client("shared")
    one.call("a")
    two.call("a")
    cancelled, answer = one.send({"op": "cancel", "request_id": "a"})
    assert {cancelled["op"], answer["op"]} == {"cancelled", "call_tool_res"}
    assert not desk.upstream.calls[0].abort_asked
    desk.upstream.calls[0].complete("for two")
    assert one.heard() == []
    assert two.heard()[-1]["text"] == "for two"


def test_a_client_that_comes_back_to_its_session_finds_its_outcome() -> None:
    desk = Desk()
    client = desk.client("mine")
    client.call("a")
    desk.upstream.calls[0].complete("kept")
    client.heard()
    client.vanish()
    desk.advance(59.0)
    again = desk.client("mine")
    (answer,) = again.call("a")
    assert answer["text"] == "kept"


def test_a_session_nobody_comes_back_to_ends() -> None:
    desk = Desk(resume_s=60.0)
    client = desk.client("mine")
    client.vanish()
    desk.advance(60.0)
    assert desk.board.statistics().sessions == 0
    assert not any(path.startswith("/sessions/") for path in desk.system.paths())


def test_a_session_id_that_is_too_old_begins_a_fresh_session() -> None:
    desk = Desk(resume_s=60.0)
    client = desk.client("mine")
    client.call("a")
    desk.upstream.calls[0].complete("old")
    client.vanish()
    desk.advance(61.0)
    desk.client("mine").call("a")
    assert len(desk.upstream.calls) == 2


def test_a_request_past_its_deadline_expires_while_it_waits() -> None:
    desk = Desk(limit=1)
    client = desk.client()
    client.call("a")
    client.call("b", deadline_ms=500)
    desk.advance(0.6)
    answers = [frame for frame in client.heard() if frame["op"] == "call_tool_res"]
    assert [answer["request_id"] for answer in answers] == ["b"]
    assert answers[0]["error"]["code"] == "TIMEOUT"
    assert answers[0]["error"]["details"]["timeout_seconds"] == 0.5
    assert desk.statistics().queued == 0


def test_a_request_past_its_deadline_is_aborted_upstream() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a", arguments={"timeout": 1.5})
    desk.advance(1.6)
    assert client.heard()[-1]["error"]["code"] == "TIMEOUT"
    assert desk.upstream.calls[0].abort_asked
    assert desk.statistics().in_flight == 1
    desk.upstream.calls[0].close(cut_off=False)
    desk.settle()
    assert desk.statistics().in_flight == 0
    assert client.heard() == []


def test_a_shorter_deadline_that_comes_later_is_kept_as_well() -> None:
    desk = Desk(limit=2)
    client = desk.client()
    client.call("slow", deadline_ms=5_000)
    client.call("fast", deadline_ms=1_000)
    desk.advance(1.1)
    assert client.heard()[-1]["request_id"] == "fast"
    desk.advance(4.0)
    assert client.heard()[-1]["request_id"] == "slow"


def test_a_provider_that_crashes_fails_what_it_held_once_and_comes_back() -> None:
    desk = Desk(limit=1)
    client = desk.client()
    client.call("a")
    client.call("b")
    desk.system.resolve("/providers/kimi").tell("not a message it knows")  # type: ignore[union-attr]
    answers = [frame for frame in client.heard() if frame["op"] == "call_tool_res"]
    assert sorted(answer["request_id"] for answer in answers) == ["a", "b"]
    assert {answer["error"]["code"] for answer in answers} == {"SERVICE_UNAVAILABLE"}
    assert desk.upstream.calls[0].abort_asked
    desk.upstream.calls[0].close(cut_off=False)
    client.call("c")
    desk.upstream.calls[-1].complete("alive")
    assert client.heard()[-1]["text"] == "alive"
    assert desk.statistics().incarnation == 2


def test_a_provider_that_crashes_takes_nothing_with_it_of_another() -> None:
    desk = Desk()
    client = desk.client()
    client.call("at kimi")
    client.call("at glm", arguments={"model": "star"})
    desk.system.resolve("/providers/kimi").tell("not a message it knows")  # type: ignore[union-attr]
    assert [frame["request_id"] for frame in client.heard()] == ["at kimi"]
    desk.upstreams[ProviderName("glm")].calls[0].complete("unharmed")
    assert client.heard()[-1]["text"] == "unharmed"


def test_a_provider_that_crashes_again_and_again_is_given_up() -> None:
    desk = Desk()
    for _ in range(6):
        provider = desk.system.resolve("/providers/kimi")
        assert provider is not None
        provider.tell("poison")
        desk.settle()
    assert len(desk.gave_up) == 1
    assert "kimi" in desk.gave_up[0]


def test_requests_for_a_provider_that_is_gone_are_refused_at_once() -> None:
    desk = Desk(session=SessionSettings(window=1))
    client = desk.client()
    client.call("a")
    for name in "bcd":
        client.call(name)
    for _ in range(6):
        provider = desk.system.resolve("/providers/kimi")
        assert provider is not None
        provider.tell("poison")
        desk.settle()
    answers = [frame for frame in client.heard() if frame["op"] == "call_tool_res"]
    assert sorted(answer["request_id"] for answer in answers) == ["a", "b", "c", "d"]


def test_a_session_that_crashes_answers_its_requests_and_returns_its_permits() -> None:
    desk = Desk(limit=1)
    client, other = desk.client("crash"), desk.client()
    client.call("a")
    other.call("x")
    session = desk.system.resolve("/sessions/3") or desk.system.resolve("/sessions/2")
    assert session is not None
    session.tell("poison")
    answers = [frame for frame in client.heard() if frame["op"] == "call_tool_res"]
    assert [answer["error"]["code"] for answer in answers] == ["INTERNAL_ERROR"]
    assert client.outbox.closed is not None
    assert client.outbox.closed[0] == 1011
    assert desk.upstream.calls[0].abort_asked
    desk.upstream.calls[0].close(cut_off=False)
    desk.settle()
    assert desk.upstream.calls[1].call is not None
    desk.upstream.calls[1].complete("other goes on")
    assert other.heard()[-1]["text"] == "other goes on"
    desk.client("crash").call("a")
    assert len(desk.upstream.calls) == 3


def test_a_hello_whose_session_crashes_before_the_answer_is_closed_in_the_end() -> None:
    desk = Desk(connection=ConnectionSettings(hello_timeout_s=15.0))
    desk.client("crash")
    session = desk.system.resolve("/sessions/2")
    assert session is not None
    late = desk.connect()
    for _ in range(300):
        session.tell(ResumeStreams(ConnectionId("nobody")))
    session.tell("poison")
    late.ref.tell(TextReceived(b'{"op":"hello","session_id":"crash"}'))
    assert late.heard() == []
    desk.advance(15.1)
    assert late.outbox.closed == (4002, "hello timeout or disconnect")


def test_a_connection_that_crashes_closes_its_socket_and_frees_its_call() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    client.ref.tell("poison")
    desk.settle()
    assert client.outbox.closed is not None
    assert client.outbox.closed[0] == 1011
    assert desk.upstream.calls[0].abort_asked


def test_a_draining_broker_finishes_what_is_in_flight_and_refuses_what_is_new() -> None:
    desk = Desk()
    busy, idle = desk.client(), desk.client()
    busy.call("a")
    desk.broker.tell_system(DrainBroker())
    desk.settle()
    assert idle.outbox.closed is not None
    assert idle.outbox.closed[0] == 1001
    (refused,) = busy.call("b")
    assert refused["error"]["code"] == "DRAINING"
    idle.vanish()
    assert desk.drained == 0
    desk.upstream.calls[0].complete("last words")
    assert busy.heard()[-1]["text"] == "last words"
    assert busy.outbox.closed == (1001, "the broker is shutting down")
    busy.vanish()
    assert desk.drained == 1


def test_a_call_in_flight_may_be_repeated_while_the_broker_drains() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    desk.broker.tell(DrainBroker())
    client.heard()
    (progress,) = client.call("a")
    assert progress["note"] == "duplicate request; still processing"
    assert client.call("a", op="tool_call") == []
    (other,) = client.call("a", "another")
    assert (other["op"], other["error"]["code"]) == ("error", "DUPLICATE")
    desk.upstream.calls[0].complete("the answer")
    assert [frame["text"] for frame in client.heard()] == ["the answer", "the answer"]


def test_a_drain_at_once_still_answers_what_is_in_flight() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    client.call("b")
    desk.broker.tell_system(DrainBroker(at_once=True))
    answers = [frame for frame in client.heard() if frame["op"] == "call_tool_res"]
    assert [answer["error"]["code"] for answer in answers] == ["DRAINING", "DRAINING"]
    assert all("before this request had ended" in each["error"]["message"] for each in answers)
    assert client.outbox.closed is not None


def test_an_upstream_that_says_twice_that_it_ended_is_an_anomaly_and_changes_nothing() -> None:
    desk = Desk(limit=1)
    client = desk.client()
    client.call("a")
    client.call("b")
    desk.upstream.calls[0].complete("a's")
    desk.upstream.calls[0].end_again()
    desk.settle()
    assert desk.statistics().anomalies == 1
    assert desk.statistics().in_flight == 1


def test_a_restarted_provider_counts_what_its_predecessor_began_until_it_has_ended() -> None:
    desk = Desk(limit=1)
    client = desk.client()
    client.call("a")
    provider = desk.system.resolve("/providers/kimi")
    assert provider is not None
    provider.tell("poison")
    client.heard()
    client.call("b")
    assert len(desk.upstream.calls) == 1, "the aborted call still holds the only permit"
    assert desk.statistics().in_flight == 1
    desk.upstream.calls[0].close(cut_off=False)
    desk.settle()
    assert len(desk.upstream.calls) == 2
    desk.upstream.calls[1].complete("after the restart")
    assert client.heard()[-1]["text"] == "after the restart"
    assert desk.statistics().anomalies == 0


def test_a_guardian_that_fails_gives_the_broker_up() -> None:
    desk = Desk()
    desk.broker.tell("poison")
    desk.settle()
    assert len(desk.gave_up) == 1
    assert "guardian" in desk.gave_up[0]


def test_who_joins_a_call_that_runs_hears_that_it_runs() -> None:
    desk = Desk(limit=1)
    first, second = desk.client("one-session"), desk.client("one-session")
    first.call("a")
    ops = [frame["op"] for frame in second.call("a")]
    assert ops == ["progress", "call_tool_ack"]


def test_who_joins_a_call_that_waits_hears_that_it_was_accepted() -> None:
    desk = Desk(limit=1)
    first, second = desk.client("one-session"), desk.client("one-session")
    first.call("runs")
    first.call("waits")
    ops = [frame["op"] for frame in second.call("waits")]
    assert ops == ["progress"]


def test_a_session_holds_no_more_text_than_it_may_but_always_one_request() -> None:
    desk = Desk(limit=2, session=SessionSettings(request_size=1000))
    client, other = desk.client(), desk.client()
    client.call("large", "x" * 5000)
    (refused,) = client.call("small", "x" * 10)
    assert refused["error"]["code"] == "OVER_CAPACITY"
    assert refused["error"]["details"]["retry_after"] == 1
    assert other.call("others", "x" * 900)[-1]["op"] == "call_tool_ack"
    desk.upstream.calls[0].complete("done")
    client.heard()
    assert client.call("small", "x" * 10)[0]["op"] == "progress"


def test_text_of_requests_that_were_cancelled_or_given_up_counts_no_more() -> None:
    desk = Desk(limit=1, session=SessionSettings(request_size=1000))
    client, other = desk.client("shared"), desk.client("shared")
    for number in range(5):
        client.call(f"cancelled {number}", "x" * 600)
        client.send({"op": "cancel", "request_id": f"cancelled {number}"})
    client.call("deserted", "x" * 600)
    client.vanish()
    assert other.call("last", "x" * 600)[0]["op"] == "progress"
