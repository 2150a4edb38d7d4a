"""What each action on requests, sessions and connections does, up to the outcome at the client."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings, RetrySettings
from exai_actors.testing.tree import ManualClient
from tests.actors.left_over import left_in_provider
from tests.console.operator_desk import Console, OperatorDesk


def key_of(console: Console, request_id: str) -> str:
    (row,) = console.rows("requests", filter=f"request_id:{request_id}")
    key: str = row["request"]
    return key


def prompts(desk: OperatorDesk) -> list[str]:
    return [call.prompt for call in desk.tree.upstream.calls]


def outcomes(*clients: ManualClient) -> Counter[tuple[str, str]]:
    """Each outcome that the clients have received since the last look: its request and its code."""
    found: Counter[tuple[str, str]] = Counter()
    for client in clients:
        for frame in client.received():
            if frame["op"] == "call_tool_res":
                error = frame.get("error") or {}
                found[frame["request_id"], error.get("code", "ok")] += 1
    return found


def finish_all(desk: OperatorDesk) -> None:
    while desk.tree.upstream.running:
        desk.tree.upstream.running[0].complete()
        desk.tree.settle()


def test_a_running_request_is_cancelled_and_its_permit_returns() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a", "run", stream=True)
    client.call("b")
    desk.tree.upstream.calls[0].chunk("half an answer")
    console = desk.console()
    key = key_of(console, "a")
    assert console.text("request.cancel", key, reason="too long") == (
        "its call at kimi is aborted after 1 piece of its answer; its clients get CANCELLED"
    )
    frames = client.received()
    (error,) = [frame["error"] for frame in frames if frame.get("error")]
    assert error["message"] == "an operator of the broker cancelled the request: too long"
    assert desk.tree.upstream.calls[0].abort_asked
    desk.tree.upstream.calls[0].close(cut_off=False)
    desk.tree.settle()
    finish_all(desk)
    assert outcomes(client) == Counter([("b", "ok")])
    assert desk.tree.statistics().is_conserved
    (effect,) = console.act("request.cancel", key)["effects"]
    assert effect["text"] == f"there is no request in flight '{key}'"


def test_queued_requests_and_those_that_wait_in_sessions_are_cancelled_by_a_filter() -> None:
    desk = OperatorDesk(limit=1)
    client, other = desk.tree.client(), desk.tree.client()
    for name in "abc":
        client.call(name)
    other.call("d")
    console = desk.console()
    effect = console.act("request.cancel", filter="state:queued request_id:c")
    assert [each["ok"] for each in effect["effects"]] == [True]
    assert outcomes(client, other) == Counter([("c", "CANCELLED")])
    effect = console.act("request.cancel", filter="waited_s>=0")
    assert effect["count"] == 3
    assert outcomes(client, other) == Counter({(name, "CANCELLED"): 1 for name in "abd"})
    desk.tree.upstream.calls[0].close(cut_off=False)
    desk.tree.settle()
    assert prompts(desk) == ["hi"]
    assert left_in_provider(desk.tree, sessions_ended=False) == []


def test_many_requests_are_cancelled_a_few_in_each_turn_and_the_answer_is_bounded() -> None:
    capacity = CapacitySettings(1, queue=3_000, session_queue=3_000)
    desk = OperatorDesk(capacity=capacity, sessions=200)
    clients = [desk.tree.client() for _ in range(140)]
    for client in clients:
        for number in range(8):
            client.call(f"r-{number}")
    outcomes(*clients)
    queued = desk.tree.statistics().queued
    effect = desk.console().act("request.cancel", filter="state:queued")
    assert (effect["count"], effect["failed"], len(effect["effects"])) == (queued, 0, 1_000)
    assert desk.tree.statistics().queued == 0
    assert sum(outcomes(*clients).values()) == queued


def test_a_request_is_moved_to_the_front_of_all_sessions_and_charged() -> None:
    desk = OperatorDesk(limit=1)
    first, second = desk.tree.client(), desk.tree.client()
    first.call("a0", "a0")
    for number in range(1, 4):
        first.call(f"a{number}", f"a{number}")
        second.call(f"b{number}", f"b{number}")
    console = desk.console()
    assert console.text("request.front", key_of(console, "b3")) == (
        "it is the next at kimi after those moved before it; it is charged to its tenant as always"
    )
    console.act("request.front", key_of(console, "a2"))
    rows = console.rows("requests", filter="state:queued")
    assert [row["request_id"] for row in rows][:2] == ["b3", "a2"]
    assert [row["position"] for row in rows] == [1, 2, 3, 4, 5, 6]
    finish_all(desk)
    assert prompts(desk)[:3] == ["a0", "b3", "a2"]
    assert sorted(prompts(desk)) == ["a0", "a1", "a2", "a3", "b1", "b2", "b3"]
    assert sum(outcomes(first, second).values()) == 7
    assert left_in_provider(desk.tree, sessions_ended=False) == []


def test_a_held_request_lets_others_pass_until_it_is_released() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    for name in "abc":
        client.call(name, name)
    console = desk.console()
    key = key_of(console, "b")
    undo = console.act("request.hold", key)["undo"]
    (row,) = console.rows("requests", filter="held:true")
    assert (row["request_id"], row["reason"], row["detail"]) == (
        "b",
        "operator",
        "held by an operator until it is released",
    )
    finish_all(desk)
    desk.tree.advance(5.0)
    assert prompts(desk) == ["a", "c"]
    console.act(undo["action"], *undo["targets"])
    finish_all(desk)
    assert prompts(desk) == ["a", "c", "b"]
    assert outcomes(client) == Counter([(name, "ok") for name in "abc"])


def test_a_held_request_ends_at_its_deadline() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a")
    client.call("b", deadline_ms=10_000)
    console = desk.console()
    console.act("request.hold", key_of(console, "b"))
    desk.tree.advance(10.0)
    assert outcomes(client)["b", "TIMEOUT"] == 1
    finish_all(desk)
    desk.tree.advance(60.0)
    assert len(prompts(desk)) == 1
    assert left_in_provider(desk.tree, sessions_ended=False) == []


def test_a_held_request_can_be_moved_to_the_front() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    for name in "abc":
        client.call(name, name)
    console = desk.console()
    console.act("request.hold", key_of(console, "c"))
    console.act("request.front", key_of(console, "c"))
    finish_all(desk)
    assert prompts(desk) == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("action", "target", "problem"),
    [
        ("request.release", "b", "it is not held"),
        ("request.hold", "1/99", "there is no request in flight '1/99'"),
        ("request.cancel", "nonsense", "there is no request in flight 'nonsense'"),
        ("request.cancel", "1/x", "there is no request in flight '1/x'"),
        ("session.end", "99", "there is no session '99'"),
        ("session.end", "../broker", "there is no session '../broker'"),
        ("connection.disconnect", "conn-99", "there is no connection 'conn-99'"),
    ],
)
def test_what_is_not_there_or_not_possible_is_refused(
    action: str, target: str, problem: str
) -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a")
    client.call("b")
    console = desk.console()
    key = key_of(console, target) if target in "ab" else target
    (effect,) = console.act(action, key)["effects"]
    assert (effect["ok"], effect["text"]) == (False, problem)


@pytest.mark.parametrize("action", ["request.front", "request.hold", "request.release"])
@pytest.mark.parametrize("preview", [True, False])
def test_only_a_queued_request_is_moved_or_held_and_others_are_refused_with_their_place(
    action: str, preview: bool
) -> None:
    retry = RetrySettings(attempts=2, base_s=30.0)
    desk = OperatorDesk(
        capacity=CapacitySettings(2, retry=retry), session=SessionSettings(window=2)
    )
    client = desk.tree.client()
    for name in ("runs", "fails", "waits"):
        client.call(name)
    desk.tree.upstream.calls[1].fail(FailureKind.SERVER_ERROR)
    console = desk.console()

    def refusal(request_id: str) -> str:
        key = key_of(console, request_id)
        (effect,) = console.act(action, key, preview=preview)["effects"]
        assert not effect["ok"]
        text: str = effect["text"]
        return text.removesuffix("; only a request in a provider's queue can be moved or held")

    assert refusal("runs") == "it runs at kimi"
    assert refusal("fails") == "it waits at kimi for its next attempt"
    assert refusal("waits") == "it waits in its session and is not yet at kimi"


def test_a_session_that_has_not_begun_ends_with_its_connections() -> None:
    desk = OperatorDesk()
    client = desk.tree.client("s")
    console = desk.console()
    assert console.text("session.end", "1").startswith("0 requests cancelled, 1 connection closed")
    console.act("session.end", "1")
    assert client.outbox.closed is not None


def test_nothing_of_a_session_that_an_operator_ends_before_its_first_call_can_be_resumed() -> None:
    desk = OperatorDesk()
    console = desk.console()
    name = "0b9d1f8e-3c55-4a0e-9d57-6a1f0f6f1c2d"
    for vanishes_before in (False, True):
        client = desk.tree.client(name)
        if vanishes_before:
            client.vanish()
        (row,) = console.rows("sessions")
        console.act("session.end", row["path"].rpartition("/")[2])
        assert console.rows("sessions") == []
        again = desk.tree.connect()
        (ack,) = again.send({"op": "hello", "session_id": name})
        assert ack["resumed"] is False
        again.call("a")
        desk.tree.upstream.calls[-1].complete("done")
        assert outcomes(again) == Counter([("a", "ok")])
        console.act("session.end", console.rows("sessions")[0]["path"].rpartition("/")[2])
        again.vanish()
        client.vanish()


def test_a_session_that_begins_before_an_operators_word_reaches_it_ends_all_the_same() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    desk.tree.system.suspend("/broker")
    console = desk.console()
    end = {"op": "act", "id": 8, "action": "session.end", "targets": ["1"]}
    assert console.send(end) == []
    client.call("a")
    desk.tree.system.resume("/broker")
    desk.tree.settle()
    assert outcomes(client) == Counter([("a", "CANCELLED")])
    assert client.outbox.closed == (1008, "disconnected by an operator of the broker")


def test_a_session_ends_with_its_requests_and_connections() -> None:
    desk = OperatorDesk(limit=1)
    client, other = desk.tree.client("mine"), desk.tree.client()
    for name in "abc":
        client.call(name)
    other.call("d", "d")
    console = desk.console()
    (row,) = console.rows("sessions", filter="session:mine")
    key = row["path"].rpartition("/")[2]
    assert console.text("session.end", key).startswith("3 requests cancelled, 1 connection closed")
    assert outcomes(client) == Counter({(name, "CANCELLED"): 1 for name in "abc"})
    assert client.outbox.closed == (1008, "disconnected by an operator of the broker")
    client.vanish()
    desk.tree.upstream.calls[0].close(cut_off=False)
    desk.tree.settle()
    assert prompts(desk) == ["hi", "d"]
    assert console.rows("sessions", filter="session:mine") == []


def test_a_connection_is_closed_as_if_its_client_had_gone() -> None:
    desk = OperatorDesk(limit=1)
    client, other = desk.tree.client(), desk.tree.client()
    client.call("a")
    other.call("b", "b")
    console = desk.console()
    (row,) = console.rows("connections", filter="calls=1", limit=1)
    assert console.text("connection.disconnect", row["connection"]) == (
        "it is closed, and 1 call without an answer given up as if its client had gone"
    )
    assert client.outbox.closed == (1008, "disconnected by an operator of the broker")
    assert other.outbox.closed is None
    client.vanish()
    assert desk.tree.upstream.calls[0].abort_asked


def test_what_clients_sent_is_in_no_effect_and_no_record() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a", "a secret prompt")
    client.call("b", "a secret prompt")
    console = desk.console()
    seen: list[Any] = [console.act("request.hold", key_of(console, "b"))]
    seen += [console.act("request.cancel", filter="waited_s>=0"), desk.audited]
    assert "secret" not in str(seen)


@pytest.mark.parametrize("named", ["mine", None])
def test_the_client_of_an_ended_session_can_begin_another_of_the_same_name(
    named: str | None,
) -> None:
    desk = OperatorDesk(limit=1)
    first = desk.tree.client(named)
    first.call("a", "a")
    desk.console().act("session.end", "1")
    first.vanish()
    assert desk.tree.board.statistics().sessions == 0
    second = desk.tree.client(named)
    desk.tree.upstream.calls[0].close(cut_off=False)
    desk.tree.settle()
    second.call("b", "b")
    finish_all(desk)
    assert outcomes(second) == Counter([("b", "ok")])


def test_a_session_of_more_weight_gets_more_of_its_tenants_share_until_it_ends() -> None:
    desk = OperatorDesk(limit=1)
    first, second = desk.tree.client("mine"), desk.tree.client("other")
    console = desk.console()
    console.act("provider.pause", "kimi")
    for number in range(8):
        first.call(f"a{number}", f"a{number}")
        second.call(f"b{number}", f"b{number}")
    (row,) = console.rows("sessions", filter="session:mine")
    key = row["path"].rpartition("/")[2]
    effect = console.act("session.weight", key, arguments={"weight": 3})
    assert effect["effects"][0]["text"].endswith("of its tenant 1 other session has requests now")
    assert effect["undo"]["arguments"] == {"weight": 1.0}
    console.act("provider.resume", "kimi")
    finish_all(desk)
    assert sum(prompt.startswith("a") for prompt in prompts(desk)[:10]) >= 7
    assert len(prompts(desk)) == 16
    (again,) = console.act("session.weight", key, arguments={"weight": 3})["effects"]
    assert again["text"] == "its weight is 3 already"
    event = desk.tree.statistics().events[1]
    assert event.what == "weight of session 'mine' 1 -> 3"
    console.act("actor.restart", f"/sessions/{key}")
    (again,) = console.act("session.weight", key, arguments={"weight": 3})["effects"]
    assert again["text"] == "its weight is 3 already"
    calls = len(prompts(desk))
    console.act("provider.pause", "kimi")
    for number in range(8):
        first.call(f"c{number}", f"c{number}")
        second.call(f"d{number}", f"d{number}")
    console.act("provider.resume", "kimi")
    finish_all(desk)
    assert sum(prompt.startswith("c") for prompt in prompts(desk)[calls : calls + 10]) >= 7
    console.act("session.end", key)
    first.vanish()
    assert desk.tree.accounts["kimi"].session_weights == {}  # type: ignore[index]
