"""The reasoning of a model reaches those clients that asked for it, as it arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.testing.tree import ManualTree


def chunks(frames: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [
        (frame["op"], frame["sequence"], frame["chunk"]) for frame in frames if "chunk" in frame
    ]


def test_pieces_of_both_kinds_come_in_the_order_of_their_arrival() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", stream=True, stream_reasoning=True)
    call = tree.upstream.calls[0]
    call.reason("let me ")
    call.reason("think")
    assert chunks(client.received()) == [
        ("reasoning_chunk", 0, "let me "),
        ("reasoning_chunk", 1, "think"),
    ]
    call.chunk("42")
    call.complete("42")
    *some, complete, answer = client.received()
    assert chunks(some) == [("stream_chunk", 2, "42")]
    assert (complete["op"], complete["chunks"]) == ("stream_complete", 3)
    assert answer["text"] == "42"


def test_a_json_rpc_client_gets_it_as_progress_of_its_own_kind() -> None:
    tree = ManualTree()
    client = tree.client()
    params = {
        "name": "chat",
        "arguments": {"prompt": "x"},
        "stream": True,
        "stream_reasoning": True,
        "_meta": {"progressToken": "p"},
    }
    client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})
    call = tree.upstream.calls[0]
    call.reason("hm")
    call.chunk("42")
    reasoning, text = (frame["params"] for frame in client.received())
    assert (reasoning["message"], reasoning["_meta"]) == (
        "hm",
        {"sequence": 0, "kind": "reasoning"},
    )
    assert (text["message"], text["_meta"]) == ("42", {"sequence": 1})


@pytest.mark.parametrize("options", [{"stream": True}, {"stream_reasoning": True}, {}])
def test_others_get_none(options: dict[str, Any]) -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", **options)
    call = tree.upstream.calls[0]
    call.reason("hm")
    call.chunk("42")
    call.complete("42")
    assert "reasoning_chunk" not in [frame["op"] for frame in client.received()]


@pytest.mark.parametrize("wanted", [True, False])
def test_after_its_first_piece_there_is_no_other_attempt(wanted: bool) -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", stream=True, stream_reasoning=wanted)
    tree.upstream.calls[0].reason("hm")
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    tree.advance(60.0)
    assert len(tree.upstream.calls) == (1 if wanted else 2)


def test_what_a_call_cost_until_it_was_given_up_includes_its_reasoning() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", "x", stream=True)
    call = tree.upstream.calls[0]
    call.reason("h" * 400)
    client.send({"op": "cancel", "request_id": "a"})
    call.close()
    tree.settle()
    (answer,) = client.send({"op": "tool_call", "name": "usage"})
    (usage,) = json.loads(answer["text"])["usage"]
    assert usage["tokens_hour"] >= 100


@pytest.mark.parametrize("wanted", [True, False])
def test_equal_requests_share_a_call_that_has_begun_to_reason(wanted: bool) -> None:
    """Unless the second would get half of the reasoning."""
    tree = ManualTree(capacity=CapacitySettings(limit=2, coalesce=True))
    first, second = tree.client(), tree.client()
    first.call("a", "same", stream=True)
    tree.upstream.calls[0].reason("hm")
    second.call("b", "same", stream=True, stream_reasoning=wanted)
    assert len(tree.upstream.calls) == (2 if wanted else 1)


def test_of_clients_that_share_a_call_each_gets_what_it_asked_for() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=2, coalesce=True))
    with_reasoning, without = tree.client(), tree.client()
    with_reasoning.call("a", "same", stream=True, stream_reasoning=True)
    without.call("b", "same", stream=True)
    (call,) = tree.upstream.calls
    call.reason("hm")
    call.chunk("42")
    assert chunks(with_reasoning.received()) == [
        ("reasoning_chunk", 0, "hm"),
        ("stream_chunk", 1, "42"),
    ]
    assert chunks(without.received()) == [("stream_chunk", 0, "42")]
