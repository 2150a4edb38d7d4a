"""The tool ``relay``: requests of every API over a WebSocket, in both dialects."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from exai_actors.core.calls import FailureKind, RelayedResponse
from exai_actors.testing.tree import ManualClient, ManualTree
from tests.actors.relaying import begin, finish, send


def relay(
    client: ManualClient, body: Any, request_id: str = "r", **more: Any
) -> list[dict[str, Any]]:
    """Call ``relay`` in op frames; members of the frame are in ``frame``."""
    frame = {"op": "call_tool", "request_id": request_id, "name": "relay", **more.pop("frame", {})}
    return client.send({**frame, "arguments": {"family": "messages", "body": body, **more}})


def test_a_body_goes_to_the_service_and_its_answer_comes_back() -> None:
    tree = ManualTree()
    client = tree.client()
    headers = {"anthropic-beta": "a"}
    relay(client, {"model": "moon", "max_tokens": 5}, query="beta=true", headers=headers)
    call = tree.upstream.calls[0]
    assert call.relayed.body == b'{"model":"moon","max_tokens":5}'
    assert call.relayed.path == "v1/messages?beta=true"
    assert (call.relayed.headers, call.relayed.max_tokens) == ((("anthropic-beta", "a"),), 5)
    begin(call, '{"text":"é"}'.encode()[:10], stream=False)
    send(call, '{"text":"é"}'.encode()[10:])
    finish(call)
    answer = client.received()[-1]
    assert (answer["ok"], answer["text"]) == (True, '{"text":"é"}')
    assert answer["metadata"]["usage"]["completion_tokens"] == 2


def test_every_byte_of_a_text_is_sent() -> None:
    tree = ManualTree()
    relay(tree.client(), '{"x" : 1.50, "model":"kimi/moon"}')
    assert tree.upstream.calls[0].relayed.body == b'{"x" : 1.50, "model":"moon"}'


def test_a_stream_comes_in_pieces_without_a_cut_character() -> None:
    tree = ManualTree()
    client = tree.client()
    relay(client, {"model": "moon", "stream": True})
    call = tree.upstream.calls[0]
    begin(call, b"data: 1\n\n")
    send(call, "data: é\n\n".encode()[:7], "data: é\n\n".encode()[7:])
    finish(call)
    frames = client.received()
    pieces = [frame for frame in frames if frame["op"] == "stream_chunk"]
    assert "".join(str(frame["chunk"]) for frame in pieces) == "data: 1\n\ndata: é\n\n"
    assert frames[-1]["ok"] is True


def test_json_rpc_has_it_too() -> None:
    tree = ManualTree()
    client = tree.connect()
    client.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})
    arguments = {"family": "responses", "body": {"model": "moon", "stream": True}}
    call = {"name": "relay", "arguments": arguments}
    client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})
    begin(tree.upstream.calls[0], b"all of it")
    finish(tree.upstream.calls[0])
    answer = client.received()[-1]
    assert (answer["id"], answer["result"]["content"][0]["text"]) == (1, "all of it")


def test_a_refusal_of_the_service_comes_with_its_response() -> None:
    tree = ManualTree()
    client = tree.client()
    relay(client, {"model": "moon"})
    own = RelayedResponse(400, (), b'{"odd":1}')
    tree.upstream.calls[0].fail(FailureKind.REJECTED, status=400, response=own)
    error = client.received()[-1]["error"]
    assert error["code"] == "PROVIDER_ERROR"
    assert error["details"]["response"] == {"status": 400, "body": '{"odd":1}'}


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_repeat_after_the_end_gets_the_same_answer_if_it_is_kept(size: int) -> None:
    tree = ManualTree()
    client = tree.client()
    relay(client, {"model": "moon"})
    begin(tree.upstream.calls[0], b"x" * size, stream=False)
    finish(tree.upstream.calls[0])
    first = client.received()[-1]
    (second,) = relay(client, {"model": "moon"})
    assert len(tree.upstream.calls) == 1
    if size == 10:
        assert second["text"] == first["text"]
    else:
        assert second["error"]["code"] == "DUPLICATE"


def test_a_repeat_in_flight_joins() -> None:
    tree = ManualTree()
    client = tree.client()
    relay(client, {"model": "moon"})
    relay(client, {"model": "moon"})
    (call,) = tree.upstream.calls
    begin(call, b"one", stream=False)
    finish(call)
    answers = [frame for frame in client.received() if frame.get("op") == "call_tool_res"]
    assert [answer["text"] for answer in answers] == ["one"] * len(answers)


def test_a_client_that_vanishes_frees_the_permit() -> None:
    tree = ManualTree()
    client = tree.client()
    relay(client, {"model": "moon", "stream": True})
    begin(tree.upstream.calls[0], b"half")
    client.vanish()
    assert tree.upstream.calls[0].abort_asked


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "family"),
        ({"family": "chat"}, "body"),
        ({"family": "other", "body": {}}, "family"),
        ({"family": "chat", "body": []}, "body"),
        ({"family": "chat", "body": "{"}, "body"),
        ({"family": "chat", "body": "[]"}, "body"),
        ({"family": "chat", "body": {}}, "body"),
        ({"family": "chat", "body": {"model": 1}}, "body"),
        ({"family": "chat", "body": {"model": "m"}, "headers": {"Authorization": "x"}}, "headers"),
        ({"family": "chat", "body": {"model": "m"}, "headers": {"x-app": "a\r\nb: c"}}, "headers"),
        ({"family": "chat", "body": {"model": "m"}, "headers": {"x-app": 1}}, "headers"),
        ({"family": "chat", "body": {"model": "m"}, "query": "a b"}, "query"),
        ({"family": "chat", "body": {"model": "m"}, "query": "a#b"}, "query"),
        ({"family": "chat", "body": {"model": "m"}, "method": "GET"}, "method"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(arguments: dict[str, Any], field: str) -> None:
    tree = ManualTree()
    call = {"op": "call_tool", "request_id": "r", "name": "relay", "arguments": arguments}
    answer = tree.client().send(call)[-1]
    assert answer["error"]["code"] == "VALIDATION_ERROR"
    assert answer["error"]["details"]["field"] == field
    assert not tree.upstream.calls


def test_a_model_of_another_family_is_not_found() -> None:
    tree = ManualTree()
    answer = relay(tree.client(), orjson.dumps({"model": "none"}).decode())[-1]
    assert answer["error"]["code"] == "MODEL_NOT_FOUND"
    assert answer["error"]["details"]["family"] == "messages"
