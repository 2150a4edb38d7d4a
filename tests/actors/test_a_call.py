"""One request through all actors and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exai_actors.actors.connection.actor import ConnectionActor
from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.local_tools import MAX_EVENTS
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.calls import ChatMessage, FailureKind
from exai_actors.ids import TenantName
from exai_actors.messages.connection import OutboxHigh, OutboxLow
from exai_actors.testing.tree import ManualTree


def test_a_call_is_accepted_acknowledged_and_answered() -> None:
    tree = ManualTree()
    client = tree.client()
    accepted, acknowledged = client.call("a", "what is it?")
    assert (accepted["op"], accepted["request_id"]) == ("progress", "a")
    assert acknowledged["op"] == "call_tool_ack"
    assert acknowledged["timeout"] == 900
    tree.upstream.calls[0].complete("it is this")
    (answer,) = client.received()
    assert answer["op"] == "call_tool_res"
    assert answer["text"] == "it is this"
    assert answer["metadata"]["provider_used"] == "kimi"


def test_a_call_is_acknowledged_when_it_is_accepted_even_if_it_waits() -> None:
    tree = ManualTree(limit=1, session=SessionSettings(window=2))
    client = tree.client()
    client.call("running")
    for name in ("waits at the provider", "waits in the session"):
        accepted, acknowledged = client.call(name)
        assert accepted["note"] == "accepted, awaiting provider/session capacity"
        assert (acknowledged["op"], acknowledged["request_id"]) == ("call_tool_ack", name)
    tree.upstream.calls[0].complete()
    frames = [(frame["op"], frame["request_id"]) for frame in client.received()]
    assert frames == [("call_tool_res", "running")]


def test_a_call_that_was_given_a_place_in_the_queue_is_reported_when_it_runs() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("running")
    client.call("waits")
    tree.advance(8.0)
    assert 1 in [frame.get("position") for frame in client.received()]
    tree.upstream.calls[0].complete()
    _, runs = client.received()
    assert (runs["op"], runs["request_id"], runs["note"]) == ("progress", "waits", "running")
    assert "position" not in runs


@pytest.mark.parametrize(
    ("options", "timeout"),
    [
        ({}, 900),
        ({"deadline_ms": 20_500}, 21),
        ({"deadline_ms": 7_200_000}, 7200),
        ({"arguments": {"prompt": "x", "timeout": 3600}}, 900),
        ({"arguments": {"prompt": "x", "timeout": 0.1}}, 1),
        ({"arguments": {"prompt": "x", "timeout": 40}, "deadline_ms": 50_000}, 40),
    ],
)
def test_the_acknowledgement_gives_the_whole_time_that_the_call_may_take(
    options: dict[str, Any], timeout: int
) -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("running")
    frame = {"op": "call_tool", "request_id": "a", "name": "chat", "arguments": {"prompt": "x"}}
    acknowledged = client.send(frame | options)[1]
    assert (acknowledged["op"], acknowledged["timeout"]) == ("call_tool_ack", timeout)


def test_a_call_without_an_id_gets_exactly_one_frame() -> None:
    tree = ManualTree()
    client = tree.client()
    assert client.send({"op": "call_tool", "name": "chat", "arguments": {"prompt": "x"}}) == []
    tree.upstream.calls[0].complete("y")
    (answer,) = client.received()
    assert answer["result"] == [{"type": "text", "text": "y"}]


def test_a_json_rpc_call_gets_its_result_under_its_id() -> None:
    tree = ManualTree()
    client = tree.client()
    call = {"name": "chat", "arguments": {"prompt": "x"}}
    client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call})
    tree.upstream.calls[0].complete("y")
    (answer,) = client.received()
    assert answer["id"] == 7
    assert answer["result"]["content"] == [{"type": "text", "text": "y"}]


def test_a_stream_ends_with_its_number_of_chunks_and_the_whole_text() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", stream=True)
    call = tree.upstream.calls[0]
    assert call.call.stream
    for text in ("one ", "two ", "three"):
        call.chunk(text)
    call.complete("one two three")
    *chunks, complete, answer = client.received()
    assert {chunk["op"] for chunk in chunks} == {"stream_chunk"}
    assert [(each["sequence"], each["chunk"]) for each in chunks] == [
        (0, "one "),
        (1, "two "),
        (2, "three"),
    ]
    assert (complete["op"], complete["chunks"]) == ("stream_complete", 3)
    assert answer["text"] == "one two three"


def test_an_incomplete_stream_gets_no_stream_complete() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    client.call("a", stream=True)
    client.call("b", stream=True)
    for call in tree.upstream.calls:
        call.chunk("one ")
    client.received()
    tree.upstream.calls[0].fail(FailureKind.TRUNCATED, "ended its stream")
    assert [frame["op"] for frame in client.received()] == ["call_tool_res"]
    received = client.send({"op": "cancel", "request_id": "b"})
    assert [frame["op"] for frame in received] == ["cancelled", "call_tool_res"]


def test_stream_may_be_an_argument_of_chat() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", arguments={"stream": "true"})
    assert tree.upstream.calls[0].call.stream


def test_requests_of_one_connection_are_answered_in_the_order_they_end() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    client.call("a")
    client.call("b")
    tree.upstream.calls[1].complete("second")
    tree.upstream.calls[0].complete("first")
    assert [frame["request_id"] for frame in client.received()] == ["b", "a"]


def test_a_failure_names_the_provider_and_quotes_it() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].fail(FailureKind.MALFORMED, "HTTP 200: kaput")
    (answer,) = client.received()
    assert (answer["op"], answer["request_id"], answer["ok"]) == ("call_tool_res", "a", False)
    assert answer["error"]["code"] == "PROVIDER_ERROR"
    assert "kimi" in answer["error"]["message"]
    assert "kaput" in answer["error"]["message"]


def test_an_unknown_model_is_refused_with_a_list_of_models() -> None:
    tree = ManualTree()
    (answer,) = tree.client().call("a", arguments={"model": "sun"})
    assert answer["error"]["code"] == "MODEL_NOT_FOUND"
    assert answer["error"]["details"]["available_models"] == ["moon", "star"]
    assert tree.upstream.calls == []


def test_each_model_goes_to_the_provider_that_serves_it() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", arguments={"model": "star"})
    client.call("b", arguments={"model": "kimi/moon"})
    assert [call.call.model for call in tree.upstreams["glm"].calls] == ["star"]  # type: ignore[index]
    assert [call.call.model for call in tree.upstream.calls] == ["moon"]


def test_a_provider_without_models_is_asked_until_it_lists_them() -> None:
    tree = ManualTree(models=())
    client = tree.client()
    (answer,) = client.call("a", arguments={"model": "moon"})
    assert answer["error"]["code"] == "MODEL_NOT_FOUND"
    tree.upstream.refuse_models()
    tree.settle()
    tree.advance(2.0)
    tree.upstream.list_models("moon")
    tree.settle()
    client.call("b", arguments={"model": "moon"})
    assert len(tree.upstream.calls) == 1
    (listed,) = client.send({"op": "list_tools"})
    chat = next(tool for tool in listed["tools"] if tool["name"] == "chat")
    assert chat["inputSchema"]["properties"]["model"]["enum"] == ["moon", "star", "auto"]


def test_the_reason_for_missing_models_is_shown_to_clients_and_operators() -> None:
    tree = ManualTree(models=())
    tree.upstream.refuse_models()
    tree.settle()
    (answer,) = tree.client().call("a", arguments={"model": "moon"})
    assert "kimi: nobody there" in answer["error"]["message"]
    assert tree.statistics().trouble == "nobody there"
    tree.advance(2.0)
    tree.upstream.list_models("moon")
    tree.settle()
    assert tree.statistics().trouble is None


def test_priority_orders_the_requests_of_one_session_only() -> None:
    tree = ManualTree(limit=1, session=SessionSettings(window=3))
    mine, other = tree.client(), tree.client()
    mine.call("running")
    mine.call("low", "low")
    mine.call("high", "high", priority=5)
    mine.call("beyond", "beyond")
    mine.call("urgent", "urgent", priority=9)
    other.call("x", "theirs")
    for index in range(6):
        tree.upstream.calls[index].complete()
        tree.settle()
    assert [call.prompt for call in tree.upstream.calls[1:]] == [
        "theirs",
        "urgent",
        "high",
        "low",
        "beyond",
    ]


def test_a_queued_request_reports_its_position_and_an_estimate() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("a")
    tree.advance(2.0)
    tree.upstream.calls[0].complete()
    client.received()
    client.call("b")
    client.call("c")
    tree.advance(0.25)
    (progress,) = client.received()
    assert progress["request_id"] == "c"
    assert progress["position"] == 1
    assert progress["estimate_s"] == 1.75


def test_a_granted_call_reports_no_position() -> None:
    tree = ManualTree(limit=1, connection=ConnectionSettings(progress_interval_s=8.0))
    first, second = tree.client(), tree.client()
    first.call("a")
    second.call("b")
    tree.advance(1.0)
    assert second.received()[-1]["position"] == 1
    tree.upstream.calls[0].complete()
    second.received()
    tree.advance(8.0)
    (progress,) = second.received()
    assert progress["op"] == "progress"
    assert "position" not in progress


def test_a_running_call_is_kept_alive_by_heartbeats() -> None:
    tree = ManualTree(connection=ConnectionSettings(progress_interval_s=8.0))
    client = tree.client()
    client.call("a")
    tree.advance(8.0)
    assert client.outbox.ops() == ["progress"]
    tree.advance(8.0)
    assert client.outbox.ops() == ["progress"]
    tree.upstream.calls[0].complete()
    client.received()
    tree.advance(60.0)
    assert client.received() == []


def test_a_slow_consumer_gets_no_heartbeats_until_it_has_caught_up() -> None:
    tree = ManualTree(connection=ConnectionSettings(progress_interval_s=8.0, slow_consumer_s=60.0))
    client = tree.client()
    client.call("a")
    client.event(OutboxHigh())
    tree.advance(16.0)
    assert client.outbox.ops() == []
    client.event(OutboxLow())
    tree.advance(8.0)
    assert client.outbox.ops() == ["progress"]


def test_a_queued_call_reports_each_new_position() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    for name in "abc":
        client.call(name)
    tree.advance(0.25)
    assert [frame["position"] for frame in client.received()] == [1, 2]
    tree.upstream.calls[0].complete()
    client.received()
    tree.advance(16.0)
    positions = [frame["position"] for frame in client.received() if "position" in frame]
    assert positions[-1] == 1


def test_each_turn_of_a_conversation_sees_the_one_before() -> None:
    tree = ManualTree(limit=4)
    client = tree.client()
    client.call("a", "first")
    tree.upstream.calls[0].complete("one")
    (answer,) = client.received()
    named = {"continuation_id": answer["continuation_id"]}
    client.call("b", "second", arguments=named)
    client.call("c", "third", arguments=named)
    assert len(tree.upstream.calls) == 2
    tree.upstream.calls[1].complete("two")
    client.received()
    assert [
        (message.role, message.content) for message in tree.upstream.calls[2].call.messages
    ] == [
        ("user", "first"),
        ("assistant", "one"),
        ("user", "second"),
        ("assistant", "two"),
        ("user", "third"),
    ]


def test_the_system_prompt_comes_before_every_conversation() -> None:
    tree = ManualTree(session=SessionSettings(system_prompt="be brief"))
    tree.client().call("a", "x")
    assert tree.upstream.calls[0].call.messages[0] == ChatMessage("system", "be brief")


def test_requests_beyond_the_window_wait_in_the_session_and_lose_nothing() -> None:
    tree = ManualTree(limit=100, session=SessionSettings(window=2, queue=3))
    client = tree.client()
    for name in "abcde":
        client.call(name, name)
    assert [call.prompt for call in tree.upstream.calls] == ["a", "b"]
    (refused,) = client.call("f")
    assert refused["error"]["code"] == "OVER_CAPACITY"
    assert refused["error"]["details"]["retry_after"] == 1
    for index in range(5):
        tree.upstream.calls[index].complete()
        tree.settle()
    assert [call.prompt for call in tree.upstream.calls] == list("abcde")
    answered = [each["request_id"] for each in client.received() if each["op"] == "call_tool_res"]
    assert answered == list("abcde")


def test_local_tools_reach_no_provider() -> None:
    tree = ManualTree()
    client = tree.client()
    for tool in ("version", "status", "list_models", "listmodels", "activity", "health"):
        (answer,) = client.send({"op": "tool_call", "name": tool})
        assert answer["ok"] is True, tool
    (answer,) = client.send(
        {"op": "call_tool", "request_id": "e", "name": "test_echo", "arguments": {"text": "hey"}}
    )
    assert answer["text"] == "hey"
    assert tree.upstream.calls == []


def test_activity_lists_how_each_request_ended() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    client.call("a")
    client.call("b")
    tree.upstream.calls[0].complete()
    client.send({"op": "cancel", "request_id": "b"})
    (answer,) = client.send({"op": "tool_call", "name": "activity"})
    events = json.loads(answer["text"])["events"]
    assert [(each["request"], each["tool"], each["outcome"]) for each in events] == [
        ("a", "chat", "completed"),
        ("b", "chat", "cancelled"),
    ]
    assert {each["at"] for each in events} == {tree.clock.wall()}


def test_activity_lists_the_last_requests_only() -> None:
    client = ManualTree().client()
    for number in range(MAX_EVENTS + 3):
        client.send({"op": "call_tool", "request_id": f"r{number}", "name": "version"})
    (answer,) = client.send({"op": "tool_call", "name": "activity"})
    listed = [each["request"] for each in json.loads(answer["text"])["events"]]
    assert listed == [f"r{number}" for number in range(3, MAX_EVENTS + 3)]


def test_usage_counts_the_calls_of_the_callers_tenant() -> None:
    tokens = tuple((f"token-of-{name}-long-enough", Identity(TenantName(name)))
                   for name in ("desk", "farm"))  # fmt: skip
    tree = ManualTree(limit=8, models=("moon", "sun"), tokens=tokens)
    desk, again, farm = (tree.client(token=tokens[n][0]) for n in (0, 0, 1))
    for client, model in ((desk, "moon"), (desk, "sun"), (again, "moon"), (farm, "moon")):
        client.call(f"{model}-1", arguments={"model": model})
        tree.upstream.calls[-1].complete("three short words")
        tree.settle()
    farm.call("running")
    desk.received()
    (answer,) = desk.send({"op": "tool_call", "name": "usage"})
    usage = json.loads(answer["text"])
    assert usage["tenant"] == "desk"
    assert {(each["provider"], each["model"]): each["calls_hour"] for each in usage["usage"]} == {
        ("kimi", "moon"): 2,
        ("kimi", "sun"): 1,
    }
    for each in usage["usage"]:
        assert each["calls_day"] == each["calls_hour"]
        assert each["tokens_day"] >= each["tokens_hour"] > 0
    kimi, glm = usage["limits"]
    assert (kimi["provider"], kimi["in_flight"], kimi["limit"]) == ("kimi", 1, 8)
    assert (glm["provider"], glm["in_flight"], glm["queued"]) == ("glm", 0, 0)


def test_the_operation_health_reports_the_broker_at_the_present_time() -> None:
    tree = ManualTree()
    client = tree.client()
    tree.advance(5.0)
    (answer,) = client.send({"op": "health"})
    assert answer["op"] == "health_res"
    assert json.dumps(answer).count(str(int(tree.clock.wall()))) == 1


def test_activity_lists_only_the_callers_own_session() -> None:
    tree = ManualTree()
    mine, other = tree.client(), tree.client()
    other.send({"op": "call_tool", "request_id": "secret-1", "name": "version"})
    mine.send({"op": "call_tool", "request_id": "mine-1", "name": "version"})
    (answer,) = mine.send({"op": "tool_call", "name": "activity"})
    assert "mine-1" in answer["text"]
    assert "secret-1" not in answer["text"]


def test_no_actor_of_a_call_has_more_attributes_than_python_reads_quickly() -> None:
    # CPython 3.11 keeps up to 29 attributes of an instance without a dictionary of its own.
    tree = ManualTree()
    tree.client().call("a")
    for behaviour in (ConnectionActor, SessionActor, ProviderActor):
        for actor in tree.system.behaviours(behaviour):
            assert len(vars(actor)) <= 29, behaviour
