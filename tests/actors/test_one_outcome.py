"""Exactly one terminal reply for every accepted request, whatever dies or repeats."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import FailureKind
from exai_actors.core.session.table import SessionTable
from exai_actors.ids import ConnectionId, ProviderName, RequestKey, SessionId
from exai_actors.messages.broker import DrainBroker, ExpireSessions
from exai_actors.messages.connection import TextReceived
from exai_actors.messages.provider import RunCall
from exai_actors.messages.session_requests import ReaderReady
from exai_actors.runtime import LoopRef
from exai_actors.testing.tree import ManualTree
from exai_actors.wire.clients.codec import TOOL_CALL_MAX_SIZE


def test_the_same_id_in_flight_runs_once_and_is_answered_once() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    (note,) = client.call("a")
    assert note["note"] == "duplicate request; still processing"
    assert note["name"] == "chat"
    tree.upstream.calls[0].complete("once")
    (answer,) = client.received()
    assert answer["text"] == "once"
    assert len(tree.upstream.calls) == 1


def test_an_answer_has_no_joined_text_where_that_is_switched_off() -> None:
    tree = ManualTree(connection=ConnectionSettings(compat_text=False))
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].complete("once")
    (answer,) = client.received()
    assert answer["outputs"] == [{"type": "text", "text": "once"}]
    assert "text" not in answer


def test_each_repeat_of_a_tool_call_is_answered_by_the_one_call() -> None:
    tree = ManualTree()
    client = tree.client()
    for _ in range(2):
        assert client.call("r", op="tool_call") == []
    (call,) = tree.upstream.calls
    call.complete("once")
    assert [answer["text"] for answer in client.received()] == ["once", "once"]


def test_the_same_id_after_the_end_gives_the_same_outcome_without_a_call() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].complete("once")
    client.received()
    (answer,) = client.call("a")
    assert answer["text"] == "once"
    assert len(tree.upstream.calls) == 1


def test_a_failure_is_the_outcome_of_its_id_too() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].fail(FailureKind.MALFORMED)
    client.received()
    (answer,) = client.call("a")
    assert answer["error"]["code"] == "PROVIDER_ERROR"
    assert len(tree.upstream.calls) == 1


def test_a_refused_request_may_be_tried_again_under_its_id() -> None:
    tree = ManualTree(session=SessionSettings(window=1, queue=0))
    client = tree.client()
    client.call("a")
    (refused,) = client.call("b")
    assert refused["error"]["code"] == "OVER_CAPACITY"
    tree.upstream.calls[0].complete()
    client.received()
    client.call("b")
    assert len(tree.upstream.calls) == 2


def test_an_id_in_use_for_another_call_is_refused() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", "one")
    (error,) = client.call("a", "another")
    assert (error["op"], error["error"]["code"]) == ("error", "DUPLICATE")
    tree.upstream.calls[0].complete("one's answer")
    (answer,) = client.received()
    assert answer["text"] == "one's answer"
    client.call("a", "another")
    tree.upstream.calls[1].complete("another's answer")
    (answer,) = client.received()
    assert answer["text"] == "another's answer"
    (answer,) = client.call("a", "another")
    assert answer["text"] == "another's answer"


def recurring(tree: ManualTree, **ids: Any) -> list[str]:
    """The answers to two different calls and a repeat of the second, all with the same ids."""
    client = tree.client()
    texts = []
    for number, prompt in enumerate(("one", "two", "two")):
        arguments = {"prompt": prompt}
        if "jsonrpc" in ids:
            params = {"name": "chat", "arguments": arguments}
            assert client.send({"method": "tools/call", "params": params} | ids) == []
        else:
            frame = {"op": "call_tool", "name": "chat", "arguments": arguments}
            assert client.send(frame | ids) == []
        tree.upstream.calls[number].complete(f"{prompt} {number}")
        (answer,) = client.received()
        assert {name: answer[name] for name in ids} == ids
        (block,) = answer["result"]["content"] if "jsonrpc" in ids else answer["result"]
        texts.append(block["text"])
    return texts


@pytest.mark.parametrize(
    "ids",
    [
        {"id": "call_140384333457040"},
        {"id": 1},
        {"req_id": "r"},
        {"req_id": 0, "id": 0},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": "always the same"},
        {"jsonrpc": "2.0", "id": 1, "request_id": "r"},
    ],
)
def test_an_id_other_than_a_request_id_may_recur(ids: dict[str, Any]) -> None:
    assert recurring(ManualTree(), **ids) == ["one 0", "two 1", "two 2"]


@pytest.mark.parametrize("id_name", ["id", "req_id"])
def test_calls_with_one_recurring_id_run_beside_each_other(id_name: str) -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    for prompt in ("one", "two"):
        client.send(
            {"op": "call_tool", id_name: "same", "name": "chat", "arguments": {"prompt": prompt}}
        )
    tree.upstream.calls[1].complete("two")
    tree.upstream.calls[0].complete("one")
    assert [answer["text"] for answer in client.received()] == ["two", "one"]


@pytest.mark.parametrize(
    ("call", "cancel"),
    [
        ({"op": "call_tool", "id": "same"}, {"op": "cancel", "id": "same"}),
        ({"op": "call_tool", "id": 7}, {"op": "cancel", "request_id": "7"}),
        ({"op": "tool_call", "req_id": "r"}, {"op": "cancel", "req_id": "r"}),
    ],
)
def test_a_call_in_flight_can_be_cancelled_by_any_id(
    call: dict[str, Any], cancel: dict[str, Any]
) -> None:
    tree = ManualTree()
    client = tree.client()
    client.send(call | {"name": "chat", "arguments": {"prompt": "x"}})
    cancelled, ended = client.send(cancel)
    assert (cancelled["op"], cancelled["found"]) == ("cancelled", True)
    assert ended["error"]["code"] == "CANCELLED"
    assert ended["result"] == [{"type": "text", "text": f"CANCELLED: {ended['error']['message']}"}]
    assert tree.upstream.calls[0].abort_asked
    assert client.send(cancel)[0]["found"] is False


def test_an_error_is_shown_to_a_client_of_one_frame() -> None:
    client = ManualTree().client()
    (answer,) = client.send({"op": "call_tool", "id": 1, "name": "nope", "arguments": {}})
    assert answer["ok"] is False
    assert answer["result"] == [{"type": "text", "text": "TOOL_NOT_FOUND: Unknown tool: nope"}]
    (answer,) = client.send({"op": "call_tool", "request_id": "r", "name": "nope"})
    assert "result" not in answer


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
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    frame = bad if isinstance(bad, bytes) else {"op": "call_tool", "request_id": "a"} | bad
    (error,) = client.send(frame)
    assert (error["op"], error["request_id"], error["ok"]) == ("error", "a", False)
    tree.upstream.calls[0].complete("the answer")
    (answer,) = client.received()
    assert (answer["op"], answer["text"]) == ("call_tool_res", "the answer")
    (error,) = client.send(frame)
    assert error["op"] == "call_tool_res"


def test_a_bad_call_in_json_rpc_gets_its_error_while_its_id_is_in_flight() -> None:
    tree = ManualTree()
    client = tree.client()
    good = {"name": "chat", "arguments": {"prompt": "x"}}
    client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": good})
    (answer,) = client.send(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "chat"}}
    )
    assert answer["result"]["isError"]


def test_the_repeats_of_a_call_in_flight_are_bounded() -> None:
    tree = ManualTree()
    client = tree.client()
    call = {"op": "tool_call", "request_id": "a", "name": "chat", "arguments": {"prompt": "x"}}
    for _ in range(9):
        assert client.send(call) == []
    for _ in range(3):
        (refused,) = client.send(call)
        assert (refused["op"], refused["request_id"]) == ("error", "a")
        assert refused["error"]["code"] == "DUPLICATE"
    tree.upstream.calls[0].complete("one")
    assert [frame["text"] for frame in client.received()] == ["one"] * 9
    assert len(tree.upstream.calls) == 1


@pytest.mark.parametrize("first_stays", [True, False])
def test_a_repeat_by_an_idempotency_key_has_its_own_time_unless_another_waits_for_the_call(
    first_stays: bool,
) -> None:
    tree = ManualTree(finish_on_disconnect=("kimi",))
    first, second = tree.client("one"), tree.client("one")
    first.call("a", idempotency_key="k", deadline_ms=1_000)
    if not first_stays:
        first.vanish()
    second.call("b", idempotency_key="k", deadline_ms=5_000)
    tree.advance(2)
    codes = [frame["error"]["code"] for frame in second.received() if frame.get("error")]
    assert codes == (["TIMEOUT"] if first_stays else [])


def test_the_time_of_a_repeat_by_an_idempotency_key_counts_for_another_attempt() -> None:
    tree = ManualTree(finish_on_disconnect=("kimi",))
    first, second = tree.client("one"), tree.client("one")
    first.call("a", idempotency_key="k", deadline_ms=1_000)
    first.vanish()
    second.call("b", idempotency_key="k", deadline_ms=60_000)
    tree.upstream.calls[0].fail(FailureKind.OVERLOADED, retry_after=5.0)
    tree.advance(6)
    tree.upstream.calls[1].complete("late")
    assert [frame["text"] for frame in second.received() if "text" in frame] == ["late"]


def test_an_idempotency_key_of_another_call_is_refused() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    client.call("a", "one", idempotency_key="k")
    (refused,) = client.call("b", "two", idempotency_key="k")
    assert (refused["request_id"], refused["error"]["code"]) == ("b", "DUPLICATE")
    assert "idempotency key" in refused["error"]["message"]
    assert len(tree.upstream.calls) == 1


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "call_tool", "request_id": "a", "name": "version"},
        {"op": "cancel", "request_id": "a"},
    ],
    ids=["call", "cancel"],
)
def test_a_session_with_too_many_messages_refuses_calls_and_cancels(frame: dict[str, Any]) -> None:
    tree = ManualTree()
    client = tree.client().begin_session()
    session = tree.actor("/sessions/1")
    for _ in range(2 * SessionActor.mailbox_limit):
        session.tell(ReaderReady(RequestKey("a"), ConnectionId("another")))
    (refused,) = client.send(frame)
    assert (refused["request_id"], refused["error"]["code"]) == ("a", "OVER_CAPACITY")
    (answer,) = client.send(frame)
    assert answer.get("error") is None, "they are handled by now"


def test_ids_are_scoped_to_their_session() -> None:
    tree = ManualTree(limit=2)
    one, two = tree.client(), tree.client()
    one.call("1", "mine")
    two.call("1", "mine")
    tree.upstream.calls[0].complete("for one")
    tree.upstream.calls[1].complete("for two")
    assert one.received()[-1]["text"] == "for one"
    assert two.received()[-1]["text"] == "for two"


def test_calls_without_an_id_are_different_calls() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    for _ in range(2):
        client.send({"op": "tool_call", "name": "chat", "arguments": {"prompt": "same"}})
    assert len(tree.upstream.calls) == 2


def test_connections_of_a_session_share_a_call_of_one_id() -> None:
    tree = ManualTree()
    one, two = tree.client("shared"), tree.client("shared")
    one.call("a")
    two.call("a")
    tree.upstream.calls[0].complete("both")
    assert one.received()[-1]["text"] == "both"
    assert two.received()[-1]["text"] == "both"
    assert len(tree.upstream.calls) == 1


def test_one_of_two_waiters_can_cancel_alone() -> None:
    tree = ManualTree()
    one, two = tree.client("shared"), tree.client("shared")
    one.call("a")
    two.call("a")
    cancelled, answer = one.send({"op": "cancel", "request_id": "a"})
    assert {cancelled["op"], answer["op"]} == {"cancelled", "call_tool_res"}
    assert not tree.upstream.calls[0].abort_asked
    tree.upstream.calls[0].complete("for two")
    assert one.received() == []
    assert two.received()[-1]["text"] == "for two"


def test_a_resumed_session_still_has_its_outcomes() -> None:
    tree = ManualTree()
    client = tree.client("mine")
    client.call("a")
    tree.upstream.calls[0].complete("kept")
    client.received()
    client.vanish()
    tree.advance(59.0)
    again = tree.client("mine")
    (answer,) = again.call("a")
    assert answer["text"] == "kept"


def test_a_session_without_connections_ends() -> None:
    tree = ManualTree(resume_s=60.0)
    client = tree.client("mine")
    client.vanish()
    tree.advance(60.0)
    assert tree.board.statistics().sessions == 0
    assert not any(path.startswith("/sessions/") for path in tree.system.paths())


def test_an_expired_session_id_starts_a_new_session() -> None:
    tree = ManualTree(resume_s=60.0)
    client = tree.client("mine")
    client.call("a")
    tree.upstream.calls[0].complete("old")
    client.vanish()
    tree.advance(61.0)
    tree.client("mine").call("a")
    assert len(tree.upstream.calls) == 2


def test_thousands_of_sessions_expire_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[int] = []
    expired = SessionTable.expired

    def counting(self: SessionTable, now: float, at_most: int) -> tuple[SessionId, ...]:
        parts.append(len(ended := expired(self, now, at_most)))
        return ended

    monkeypatch.setattr(SessionTable, "expired", counting)
    tree = ManualTree(resume_s=60.0, sessions=500)
    clients = [tree.client() for _ in range(240)]
    for client in clients:
        client.vanish()
    tree.advance(61.0)
    assert [path for path in tree.system.paths() if path.startswith("/sessions/")] == []
    assert sum(parts) == 240
    assert max(parts) <= 50


def test_a_session_that_returns_before_its_predecessor_has_ended_stays() -> None:
    tree = ManualTree(limit=2, resume_s=60.0)
    name = "0b9d1f8e-3c55-4a0e-9d57-6a1f0f6f1c2d"  # nobody can guess it, so it needs no secret
    tree.client(name).begin_session().vanish()
    back = tree.connect()
    tree.driver.pass_time(61.0)
    # In one turn the broker stops the expired session and starts its successor.
    back.ref.tell(TextReceived(b'{"op":"hello","session_id":"%b"}' % name.encode()))
    back.ref.tell(TextReceived(b'{"op":"call_tool","name":"chat","request_id":"","arguments":{}}'))
    tree.broker.tell_system(ExpireSessions())
    ack, _ = back.received()
    assert (ack["ok"], ack["session_id"]) == (True, name)
    assert [path for path in tree.system.paths() if path.startswith("/sessions/")] == [
        "/sessions/2"
    ]
    back.call("a")
    tree.client(name).call("a")
    assert len(tree.upstream.calls) == 1, "both belong to one session"


def test_a_request_past_its_deadline_expires_while_it_waits() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("a")
    client.call("b", deadline_ms=500)
    tree.advance(0.6)
    answers = [frame for frame in client.received() if frame["op"] == "call_tool_res"]
    assert [answer["request_id"] for answer in answers] == ["b"]
    assert answers[0]["error"]["code"] == "TIMEOUT"
    assert answers[0]["error"]["details"]["timeout_seconds"] == 0.5
    assert tree.statistics().queued == 0


def test_a_request_past_its_deadline_is_aborted_upstream() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", arguments={"timeout": 1.5})
    tree.advance(1.6)
    assert client.received()[-1]["error"]["code"] == "TIMEOUT"
    assert tree.upstream.calls[0].abort_asked
    assert tree.statistics().in_flight == 1
    tree.upstream.calls[0].close(cut_off=False)
    tree.settle()
    assert tree.statistics().in_flight == 0
    assert client.received() == []


def test_a_shorter_deadline_of_a_later_request_is_kept() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    client.call("slow", deadline_ms=5_000)
    client.call("fast", deadline_ms=1_000)
    tree.advance(1.1)
    assert client.received()[-1]["request_id"] == "fast"
    tree.advance(4.0)
    assert client.received()[-1]["request_id"] == "slow"


def test_a_request_started_and_refused_after_its_deadline_ends_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree(session=SessionSettings(window=1))
    client = tree.client()
    client.call("a", deadline_ms=1000)
    client.call("b", deadline_ms=1000, arguments={"model": "star"})
    # The end of a starts b at a provider with a full mailbox: b ends before its own deadline is
    # looked at.
    offer = LoopRef.offer
    monkeypatch.setattr(
        LoopRef,
        "offer",
        lambda ref, message: "full" if isinstance(message, RunCall) else offer(ref, message),
    )
    tree.advance(1.0)
    answers = [frame for frame in client.received() if frame["op"] == "call_tool_res"]
    assert [(each["request_id"], each["error"]["code"]) for each in answers] == [
        ("a", "TIMEOUT"),
        ("b", "SERVICE_UNAVAILABLE"),
    ]
    monkeypatch.undo()
    tree.upstream.calls[0].close(cut_off=False)
    client.call("c")
    tree.upstream.calls[1].complete("the session is alive")
    assert client.received()[-1]["text"] == "the session is alive"


def test_a_provider_that_fails_ends_what_ran_and_takes_over_what_waited() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("a")
    client.call("b")
    tree.actor("/providers/kimi").tell("not a message it knows")
    answers = [frame for frame in client.received() if frame["op"] == "call_tool_res"]
    assert [answer["request_id"] for answer in answers] == ["a"]
    assert answers[0]["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert tree.upstream.calls[0].abort_asked
    tree.upstream.calls[0].close(cut_off=False)
    tree.settle()
    tree.upstream.calls[1].complete("alive")
    assert client.received()[-1]["text"] == "alive"
    assert tree.statistics().incarnation == 2


def test_a_provider_that_fails_does_not_affect_another() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("at kimi")
    client.call("at glm", arguments={"model": "star"})
    tree.actor("/providers/kimi").tell("not a message it knows")
    assert [frame["request_id"] for frame in client.received()] == ["at kimi"]
    tree.upstreams[ProviderName("glm")].calls[0].complete("unharmed")
    assert client.received()[-1]["text"] == "unharmed"


def test_a_provider_that_fails_too_often_is_closed_for_a_while_and_others_stay() -> None:
    tree = ManualTree()
    client = tree.client()
    for _ in range(6):
        tree.advance(1.0)
        tree.actor("/providers/kimi").tell("poison")
        tree.settle()
    assert tree.gave_up == []
    closed = tree.statistics()
    assert (closed.mode, closed.in_flight, closed.queued) == ("closed", 0, 0)
    assert "failed more than 5 times in 30 s" in (closed.trouble or "")
    (refused,) = client.call("at kimi")
    assert refused["error"]["code"] == "SERVICE_UNAVAILABLE"
    client.call("at glm", arguments={"model": "star"})
    tree.upstreams[ProviderName("glm")].calls[0].complete("unharmed")
    assert client.received()[-1]["text"] == "unharmed"
    tree.advance(59.0)
    assert tree.statistics().mode == "closed"
    tree.advance(1.0)
    assert tree.statistics().mode == "open"
    client.call("again")
    tree.upstream.calls[0].complete("back")
    assert client.received()[-1]["text"] == "back"


def test_a_provider_that_cannot_be_constructed_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ManualTree()

    def failing(*_: object, **__: object) -> None:
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(ProviderActor, "__init__", failing)
        tree.actor("/providers/kimi").tell("poison")
        tree.settle()
    assert tree.gave_up == []
    assert tree.statistics().mode == "closed"
    tree.advance(60.0)
    assert tree.statistics().mode == "open"


def test_requests_for_a_dead_provider_are_refused() -> None:
    tree = ManualTree(session=SessionSettings(window=1))
    client = tree.client()
    client.call("a")
    for name in "bcd":
        client.call(name)
    for _ in range(6):
        tree.advance(1.0)
        tree.actor("/providers/kimi").tell("poison")
        tree.settle()
    answers = [frame for frame in client.received() if frame["op"] == "call_tool_res"]
    assert sorted(answer["request_id"] for answer in answers) == ["a", "b", "c", "d"]


def test_a_session_that_crashes_answers_its_requests_and_returns_its_permits() -> None:
    tree = ManualTree(limit=1)
    client, other = tree.client("crash"), tree.client()
    client.call("a")
    other.call("x")
    tree.actor("/sessions/1").tell("poison")
    answers = [frame for frame in client.received() if frame["op"] == "call_tool_res"]
    assert [answer["error"]["code"] for answer in answers] == ["INTERNAL_ERROR"]
    assert client.outbox.closed is None
    assert tree.upstream.calls[0].abort_asked
    tree.upstream.calls[0].close(cut_off=False)
    tree.settle()
    assert tree.upstream.calls[1].call is not None
    tree.upstream.calls[1].complete("other goes on")
    assert other.received()[-1]["text"] == "other goes on"
    client.call("a")
    assert len(tree.upstream.calls) == 3


def test_a_hello_behind_the_death_of_its_session_is_answered_by_another() -> None:
    tree = ManualTree()
    tree.client("crash").begin_session()
    session = tree.actor("/sessions/1")
    late = tree.connect()
    for _ in range(300):
        session.tell(ReaderReady(RequestKey("a"), ConnectionId("nobody")))
    session.tell("poison")
    late.ref.tell(TextReceived(b'{"op":"hello","session_id":"crash"}'))
    assert [frame["op"] for frame in late.received()] == ["hello_ack"]
    tree.advance(15.1)
    assert late.outbox.closed is None


def test_a_connection_that_fails_closes_its_socket_and_aborts_its_call() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    client.ref.tell("poison")
    tree.settle()
    assert client.outbox.closed is not None
    assert client.outbox.closed[0] == 1011
    assert tree.upstream.calls[0].abort_asked


def test_a_draining_broker_finishes_calls_in_flight_and_refuses_new_ones() -> None:
    tree = ManualTree()
    busy, idle = tree.client(), tree.client()
    busy.call("a")
    tree.broker.tell_system(DrainBroker())
    tree.settle()
    assert idle.outbox.closed is not None
    assert idle.outbox.closed[0] == 1001
    (refused,) = busy.call("b")
    assert refused["error"]["code"] == "DRAINING"
    idle.vanish()
    assert tree.drained == 0
    tree.upstream.calls[0].complete("last words")
    assert busy.received()[-1]["text"] == "last words"
    assert busy.outbox.closed == (1001, "the broker is shutting down")
    busy.vanish()
    assert tree.drained == 1


def test_a_call_in_flight_may_be_repeated_while_the_broker_drains() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.broker.tell(DrainBroker())
    client.received()
    (progress,) = client.call("a")
    assert progress["note"] == "duplicate request; still processing"
    assert client.call("a", op="tool_call") == []
    (other,) = client.call("a", "another")
    assert (other["op"], other["error"]["code"]) == ("error", "DUPLICATE")
    tree.upstream.calls[0].complete("the answer")
    assert [frame["text"] for frame in client.received()] == ["the answer", "the answer"]


def test_an_immediate_drain_answers_calls_in_flight() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    client.call("b")
    tree.broker.tell_system(DrainBroker(immediately=True))
    answers = [frame for frame in client.received() if frame["op"] == "call_tool_res"]
    assert [answer["error"]["code"] for answer in answers] == ["DRAINING", "DRAINING"]
    assert all("before this request had ended" in each["error"]["message"] for each in answers)
    assert client.outbox.closed is not None


def test_an_outcome_after_an_immediate_drain_is_ignored() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.broker.tell_system(DrainBroker(immediately=True))
    client.received()
    tree.upstream.calls[0].complete("too late")
    assert client.received() == []
    assert client.ref.is_alive()
    client.vanish()
    assert (tree.drained, tree.gave_up) == (1, [])


def test_a_session_does_not_expire_before_it_has_finished_all_its_requests() -> None:
    tree = ManualTree(limit=2, finish_on_disconnect=("kimi",), resume_s=60.0)
    client = tree.client("mine")
    client.call("a")
    client.call("b")
    client.vanish()
    tree.upstream.calls[0].complete("first")
    tree.advance(61.0)
    tree.upstream.calls[1].complete("second")
    tree.settle()
    (answer,) = tree.client("mine").call("b")
    assert answer["text"] == "second"
    assert len(tree.upstream.calls) == 2


def test_a_second_end_of_a_call_changes_nothing_and_is_counted() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("a")
    client.call("b")
    tree.upstream.calls[0].complete("a's")
    tree.upstream.calls[0].end_again()
    tree.settle()
    assert tree.statistics().anomalies == 1
    assert tree.statistics().in_flight == 1


def test_a_restarted_provider_counts_the_calls_of_its_predecessor() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("a")
    tree.actor("/providers/kimi").tell("poison")
    client.received()
    client.call("b")
    assert len(tree.upstream.calls) == 1, "the aborted call still holds the only permit"
    assert tree.statistics().in_flight == 1
    tree.upstream.calls[0].close(cut_off=False)
    tree.settle()
    assert len(tree.upstream.calls) == 2
    tree.upstream.calls[1].complete("after the restart")
    assert client.received()[-1]["text"] == "after the restart"
    assert tree.statistics().anomalies == 0


def test_joining_a_running_call_reports_that_it_runs() -> None:
    tree = ManualTree(limit=1)
    first, second = tree.client("one-session"), tree.client("one-session")
    first.call("a")
    ops = [frame["op"] for frame in second.call("a")]
    assert ops == ["progress", "call_tool_ack"]


def test_joining_a_queued_call_reports_that_it_is_accepted() -> None:
    tree = ManualTree(limit=1)
    first, second = tree.client("one-session"), tree.client("one-session")
    first.call("runs")
    first.call("waits")
    ops = [frame["op"] for frame in second.call("waits")]
    assert ops == ["progress", "call_tool_ack"]


def test_a_session_limits_the_text_of_its_requests_but_accepts_any_single_one() -> None:
    tree = ManualTree(limit=2, session=SessionSettings(request_bytes=1000))
    client, other = tree.client(), tree.client()
    client.call("large", "x" * 5000)
    (refused,) = client.call("small", "x" * 10)
    assert refused["error"]["code"] == "OVER_CAPACITY"
    assert refused["error"]["details"]["retry_after"] == 1
    assert other.call("others", "x" * 900)[-1]["op"] == "call_tool_ack"
    tree.upstream.calls[0].complete("done")
    client.received()
    assert client.call("small", "x" * 10)[0]["op"] == "progress"


def test_cancelled_and_deserted_requests_free_their_text() -> None:
    tree = ManualTree(limit=1, session=SessionSettings(request_bytes=1000))
    client, other = tree.client("shared"), tree.client("shared")
    for number in range(5):
        client.call(f"cancelled {number}", "x" * 600)
        client.send({"op": "cancel", "request_id": f"cancelled {number}"})
    client.call("deserted", "x" * 600)
    client.vanish()
    assert other.call("last", "x" * 600)[0]["op"] == "progress"
