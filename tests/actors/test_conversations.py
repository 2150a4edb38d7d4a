"""Conversations: what a continuation gets, and what the client learns of what it does not get."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import Completion, FailureKind, Usage
from exai_actors.messages.provider import UpstreamEnded
from exai_actors.testing.tree import ManualClient, ManualTree

LARGE = "x" * 300_000


def say(tree: ManualTree, client: ManualClient, prompt: str, **arguments: Any) -> dict[str, Any]:
    """The answer to one call, which the service answers with the prompt in capitals."""
    started = len(tree.upstream.calls)
    frames = client.send(
        {
            "op": "call_tool",
            "id": 1,
            "name": "chat",
            "arguments": {"prompt": prompt} | arguments,
        }
    )
    if len(tree.upstream.calls) > started:
        tree.upstream.calls[-1].complete(prompt[:20].upper())
        frames = client.received()
    (answer,) = frames
    return answer


def sent(tree: ManualTree) -> list[str]:
    """The texts of the messages that the service got last."""
    return [message.content for message in tree.upstream.calls[-1].call.messages]


def test_a_continuation_without_a_model_keeps_the_model_of_its_conversation() -> None:
    tree = ManualTree(models=("moon", "star"))
    client = tree.client()
    talk = {"continuation_id": say(tree, client, "one", model="star")["continuation_id"]}
    for arguments in (talk, talk | {"model": "auto"}, talk | {"model": None}):
        say(tree, client, "two", **arguments)
        assert tree.upstream.calls[-1].call.model == "star"
    # Another model may be named at any turn, and is then the one that the conversation keeps.
    say(tree, client, "three", model="moon", **talk)
    say(tree, client, "four", **talk)
    assert tree.upstream.calls[-1].call.model == "moon"


@pytest.mark.parametrize("default", [{}, {"model": "auto"}])
def test_a_conversation_with_the_default_model_keeps_that_model(default: dict[str, str]) -> None:
    tree = ManualTree(models=("moon", "star"))
    client = tree.client()
    talk = {"continuation_id": say(tree, client, "one", **default)["continuation_id"]}
    routing = tree.directory.routing
    tree.directory.publish(routing.with_models(routing.offers[0][0], ("star", "moon")))
    say(tree, client, "new conversation")
    assert tree.upstream.calls[-1].call.model == "star"
    say(tree, client, "two", **talk)
    assert tree.upstream.calls[-1].call.model == "moon"


@pytest.mark.parametrize("unknown", ["never-existed", "c-1", "1", "mit Ümlaut und Leerzeichen"])
def test_an_unknown_conversation_is_an_error_that_says_what_to_do(unknown: str) -> None:
    tree = ManualTree()
    answer = say(tree, tree.client(), "go on", continuation_id=unknown)
    assert answer["error"]["code"] == "NOT_FOUND"
    assert answer["error"]["details"] == {"continuation_id": unknown}
    assert unknown in answer["error"]["message"]
    assert "leave continuation_id out" in answer["error"]["message"]
    assert tree.upstream.calls == []


def test_an_unknown_conversation_is_an_error_in_json_rpc() -> None:
    tree = ManualTree()
    params = {"name": "chat", "arguments": {"prompt": "x", "continuation_id": "none"}}
    client = tree.client()
    (answer,) = client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert answer["result"]["isError"] is True
    assert answer["result"]["_meta"]["error"]["code"] == "NOT_FOUND"
    assert answer["result"]["content"][0]["text"].startswith("NOT_FOUND: ")


def test_a_conversation_of_another_session_is_unknown() -> None:
    tree = ManualTree(limit=4)
    talk = {"continuation_id": say(tree, tree.client(), "secret")["continuation_id"]}
    answer = say(tree, tree.client(), "what was it?", **talk)
    assert answer["error"]["code"] == "NOT_FOUND"
    assert len(tree.upstream.calls) == 1


def test_a_conversation_that_newer_ones_have_replaced_is_unknown() -> None:
    tree = ManualTree(session=SessionSettings(conversations=2))
    client = tree.client()
    first, second, third = (say(tree, client, text)["continuation_id"] for text in "abc")
    assert say(tree, client, "go on", continuation_id=first)["error"]["code"] == "NOT_FOUND"
    for known in (second, third):
        assert say(tree, client, "go on", continuation_id=known)["ok"] is True


def test_a_conversation_ends_with_its_session() -> None:
    tree = ManualTree()
    client = tree.client()
    talk = {"continuation_id": say(tree, client, "one")["continuation_id"]}
    client.vanish()
    tree.advance(61.0)
    assert say(tree, tree.client(), "two", **talk)["error"]["code"] == "NOT_FOUND"


def test_a_conversation_that_is_replaced_while_its_next_turn_waits_is_an_error() -> None:
    tree = ManualTree(limit=4, session=SessionSettings(conversations=1))
    client = tree.client()
    talk = {"continuation_id": say(tree, client, "first")["continuation_id"]}
    client.call("runs", arguments=talk)
    client.call("waits", arguments=talk)
    say(tree, client, "another conversation")
    tree.upstream.calls[1].fail(FailureKind.REJECTED)
    ended = {frame["request_id"]: frame for frame in client.received() if "ok" in frame}
    assert ended["runs"]["error"]["code"] == "PROVIDER_ERROR"
    assert ended["waits"]["error"]["code"] == "NOT_FOUND"
    assert len(tree.upstream.calls) == 3


def test_without_room_for_conversations_none_is_offered() -> None:
    tree = ManualTree(session=SessionSettings(conversations=0))
    assert "continuation_id" not in say(tree, tree.client(), "one")


@pytest.mark.parametrize(
    "large",
    [
        {"images": ["data:image/png;base64," + "A" * 300_000]},
        {"prompt": LARGE},
        {"prompt": "é" * 150_000},
        {"images": ["https://example.org/" + "a" * 3_000] * 100},
    ],
)
def test_a_turn_that_is_too_large_to_be_kept_is_reported(large: dict[str, Any]) -> None:
    tree = ManualTree()
    client = tree.client()
    answer = say(tree, client, **({"prompt": "look"} | large))
    assert answer["dropped_turns"] == 1
    answer = say(tree, client, "and now?", continuation_id=answer["continuation_id"])
    assert sent(tree) == ["and now?"]
    assert answer["dropped_turns"] == 1
    answer = say(tree, client, "still?", continuation_id=answer["continuation_id"])
    assert sent(tree) == ["and now?", "AND NOW?", "still?"]
    assert answer["dropped_turns"] == 1


def test_many_small_turns_are_counted_as_they_are_dropped() -> None:
    tree = ManualTree(session=SessionSettings(history_turns=3))
    client = tree.client()
    talk: dict[str, str] = {}
    dropped = []
    for number in range(6):
        answer = say(tree, client, f"turn {number}", **talk)
        talk = {"continuation_id": answer["continuation_id"]}
        dropped.append(answer.get("dropped_turns"))
    assert dropped == [None, None, None, 1, 2, 3]
    assert sent(tree)[0] == "turn 2"


def test_a_conversation_within_its_limits_reports_nothing() -> None:
    tree = ManualTree()
    client = tree.client()
    talk: dict[str, str] = {}
    for number in range(20):
        answer = say(tree, client, f"turn {number}", **talk)
        talk = {"continuation_id": answer["continuation_id"]}
        assert "dropped_turns" not in answer


def test_dropped_turns_are_reported_in_json_rpc() -> None:
    tree = ManualTree()
    client = tree.client()
    params = {"name": "chat", "arguments": {"prompt": LARGE}}
    client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    tree.upstream.calls[0].complete()
    (answer,) = client.received()
    assert answer["result"]["_meta"]["dropped_turns"] == 1


def test_a_conversation_replaced_during_its_turn_loses_nothing() -> None:
    tree = ManualTree(limit=4, session=SessionSettings(conversations=1))
    client = tree.client()
    talk = {"continuation_id": say(tree, client, "one")["continuation_id"]}
    client.call("two", "two", arguments=talk)
    say(tree, client, "another conversation")
    tree.upstream.calls[1].complete("TWO")
    answer = client.received()[-1]
    assert "dropped_turns" not in answer
    say(tree, client, "three", **talk)
    assert sent(tree) == ["one", "ONE", "two", "TWO", "three"]


def test_a_system_prompt_holds_for_the_whole_conversation() -> None:
    tree = ManualTree(session=SessionSettings(system_prompt="configured"))
    client = tree.client()
    answer = say(tree, client, "one", system="Be brief.")
    assert sent(tree) == ["Be brief.", "one"]
    talk = {"continuation_id": answer["continuation_id"]}
    say(tree, client, "two", **talk)
    assert sent(tree) == ["Be brief.", "one", "ONE", "two"]
    say(tree, client, "three", system="Be verbose.", **talk)
    assert sent(tree)[0] == "Be verbose."
    say(tree, client, "four", **talk)
    assert sent(tree)[0] == "Be verbose."
    say(tree, client, "other conversation")
    assert sent(tree)[0] == "configured"


def test_a_client_that_keeps_its_conversation_is_offered_none() -> None:
    tree = ManualTree()
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    answer = say(tree, tree.client(), "c", messages=before)
    assert answer["ok"] is True
    assert "continuation_id" not in answer
    assert sent(tree) == ["a", "b", "c"]


def test_the_text_of_messages_counts_for_the_limit_of_the_session() -> None:
    tree = ManualTree(limit=4, session=SessionSettings(request_bytes=1000))
    client = tree.client()
    client.call("first")
    for arguments in (
        {"messages": [{"role": "user", "content": "x" * 1000}]},
        {"system": "x" * 1000},
        {"response_format": {"type": "x" * 1000}},
    ):
        (refused,) = client.call("large", arguments=arguments)
        assert refused["error"]["details"]["capacity_type"] == "session"


def test_forwarded_arguments_reach_the_service() -> None:
    tree = ManualTree()
    say(tree, tree.client(), "x", top_p=0.5, stop="END")
    assert tree.upstream.calls[0].call.parameters == b'{"stop":"END","top_p":0.5}'


def test_an_unknown_argument_reaches_nobody() -> None:
    tree = ManualTree()
    answer = say(tree, tree.client(), "x", temperatur=0.3)
    assert answer["error"]["code"] == "VALIDATION_ERROR"
    assert answer["result"][0]["text"] == (
        "VALIDATION_ERROR: unknown argument 'temperatur'; did you mean 'temperature'?"
    )
    assert tree.upstream.calls == []


def test_the_tools_that_a_model_asks_for_come_whole_and_end_the_conversation() -> None:
    tree = ManualTree()
    client = tree.client()
    tools = [{"type": "function", "function": {"name": "f"}}]
    client.call("r", arguments={"tools": tools})
    call = tree.upstream.calls[0]
    assert b'"tools"' in call.call.parameters
    asked = b'[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]'
    call.ended = True
    completion = Completion("", "moon", "tool_calls", Usage(1, 2), tool_calls=asked)
    call.reply_to.tell(UpstreamEnded(call.permit, completion))
    answer = client.received()[-1]
    assert answer["metadata"]["tool_calls"] == orjson.loads(asked)
    assert answer["metadata"]["finish_reason"] == "tool_calls"
    assert "continuation_id" not in answer
