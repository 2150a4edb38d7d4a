"""Frames of the JSON-RPC dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exai_actors.core.calls import CallOptions, IfBusy
from exai_actors.ids import RequestKey
from exai_actors.wire.clients.frames import (
    CallTool,
    Cancel,
    Ignored,
    ListTools,
    Ping,
)
from tests.wire.clients.wire_client import call, error_frame, read


def request(method: str, id_: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


def key(text: str | None) -> RequestKey | None:
    return None if text is None else RequestKey(text, "rpc")


def test_a_tools_call_is_a_call() -> None:
    frame = call(request("tools/call", name="chat", arguments={"prompt": "hi"}))
    assert (frame.other_id, frame.tool, frame.arguments) == (key("1"), "chat", {"prompt": "hi"})
    assert frame.request is None
    assert frame.reply.dialect == "json-rpc"
    assert not frame.reply.acks
    assert frame.reply.progress is None


def test_options_stand_beside_the_arguments_in_params() -> None:
    frame = call(
        request(
            "tools/call",
            name="chat_EXAI-WS",
            stream=True,
            stream_reasoning=True,
            deadline_ms=5,
            priority=100,
        )
    )
    assert frame.tool == "chat"
    assert frame.options == CallOptions(
        stream=True, deadline_ms=5.0, priority=100, stream_reasoning=True
    )
    frame = call(request("tools/call", name="chat", if_busy="wait", idempotency_key="k"))
    key = RequestKey("k", "idempotency")
    assert frame.options == CallOptions(if_busy=IfBusy.WAIT, idempotency_key=key)


@pytest.mark.parametrize(
    ("id_", "text", "echoed"),
    [
        (1, "1", b',"id":1'),
        ("1", '"1"', b',"id":"1"'),
        (0, "0", b',"id":0'),
        ("", '""', b',"id":""'),
        (-1.5, "-1.5", b',"id":-1.5'),
        (10**40, str(10**40), f',"id":{10**40}'.encode()),
        (True, "true", b',"id":true'),
        (["a", 1], '["a",1]', b',"id":["a",1]'),
        ({"a": None}, '{"a":null}', b',"id":{"a":null}'),
        (None, None, b',"id":null'),
    ],
)
def test_an_id_of_any_json_type_is_echoed(id_: Any, text: str | None, echoed: bytes) -> None:
    frame = call(request("tools/call", id_, name="chat"))
    assert (frame.request, frame.other_id) == (None, key(text))
    assert frame.reply.ids == echoed


def test_keys_of_both_dialects_are_distinct() -> None:
    keys = [
        call(request("tools/call", 1, name="x")).other_id,
        call(request("tools/call", "1", name="x")).other_id,
        call(request("tools/call", "rpc:1", name="x")).other_id,
        *(
            call({"op": "call_tool", "name": "x", "request_id": text}).request
            for text in ("1", "rpc:1", 'rpc:"1"', "op:rpc:1", "op:1", "op:op:1", 'rpc:"rpc:1"')
        ),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("frame", "text", "echoed"),
    [
        ({}, None, b',"id":null'),
        ({"req_id": 4}, "4", b',"id":4,"req_id":4'),
        ({"request_id": "a"}, '"a"', b',"id":"a","request_id":"a"'),
        ({"id": 1, "req_id": 4}, "1", b',"id":1,"req_id":4'),
    ],
)
def test_a_tools_call_needs_neither_version_nor_id(
    frame: dict[str, Any], text: str | None, echoed: bytes
) -> None:
    found = call(frame | {"method": "tools/call", "params": {"name": "chat"}})
    assert found.request is None
    assert (found.other_id, found.reply.ids) == (key(text), echoed)


def test_a_tools_call_without_id_is_a_call() -> None:
    found = read({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "chat"}})
    assert isinstance(found, CallTool)


@pytest.mark.parametrize("member", ["jsonrpc", "method"])
def test_a_batch_is_refused_in_the_dialect_of_its_first_frame(member: str) -> None:
    in_json_rpc = error_frame([{member: "2.0", "id": 1}, {}])
    assert (in_json_rpc["id"], in_json_rpc["error"]["code"]) == (None, -32600)
    assert in_json_rpc["error"]["data"]["code"] == "INVALID_REQUEST"
    why = "Invalid message: batches are not supported, send one object per frame"
    assert in_json_rpc["error"]["message"] == why
    for batch in ([], [{"op": "ping", "method": "ping"}], [1]):
        in_op = error_frame(batch)
        assert (in_op["op"], in_op["error"]["code"]) == ("error", "INVALID_REQUEST")


@pytest.mark.parametrize(("token", "text"), [("t", b'"t"'), (0, b"0"), (12, b"12")])
def test_a_progress_token_is_kept(token: Any, text: bytes) -> None:
    frame = call(request("tools/call", name="chat", _meta={"progressToken": token}))
    assert frame.reply.progress is not None
    assert frame.reply.progress.token == text
    assert frame.options.reports_progress


def test_a_call_without_id_gets_no_progress() -> None:
    params = {"name": "chat", "_meta": {"progressToken": 1}}
    frame = call({"jsonrpc": "2.0", "method": "tools/call", "params": params})
    assert frame.reply.progress is None


@pytest.mark.parametrize("character", ["a", "é", '"', "\0"])
def test_ids_and_progress_tokens_are_measured_in_characters(
    character: str,
) -> None:
    longest = character * 512
    found = call(request("tools/call", longest, name="x", _meta={"progressToken": longest}))
    assert found.other_id == key(json.dumps(longest, ensure_ascii=False))
    over = character * 513
    for frame in (
        request("tools/call", over, name="x"),
        request("tools/call", name="x", _meta={"progressToken": over}),
    ):
        assert "must have at most 512 characters" in error_frame(frame)["error"]["message"]


def test_other_methods_are_decoded() -> None:
    assert isinstance(read(request("tools/list")), ListTools)
    assert isinstance(read(request("tools/list", cursor="x")), ListTools)
    assert isinstance(read(request("ping")), Ping)
    assert read({"jsonrpc": "2.0", "method": "notifications/initialized"}) == Ignored()


@pytest.mark.parametrize(("target", "text"), [(1, "1"), ("1", '"1"')])
def test_a_cancel_notification_names_its_request(target: Any, text: str) -> None:
    frame = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    found = read(frame | {"params": {"requestId": target, "reason": "changed my mind"}})
    assert isinstance(found, Cancel)
    assert found.request == key(text)


@pytest.mark.parametrize("params", [None, {}, [], {"requestId": None}, {"requestId": "x" * 600}])
def test_a_cancel_notification_without_a_request_is_ignored(params: Any) -> None:
    frame = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    assert read(frame) == Ignored()


def test_op_takes_precedence_over_method() -> None:
    frame = call({"op": "call_tool", "name": "chat", "method": "tools/list", "request_id": "a"})
    assert frame.reply.dialect == "op"


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (request("tools/call"), "params.name is missing: the tool to call, a non-empty string"),
        (request("tools/call", name=""), "params.name must be a non-empty string, got an empty"),
        (request("tools/call", name=None), "params.name must be a non-empty string, got null"),
        (request("tools/call", name="x", arguments=[]), "arguments must be an object, got an arr"),
        (request("tools/call", name="x", stream="y"), "stream must be true or false, got a str"),
        (request("tools/call", name="x", deadline_ms=-1), "deadline_ms must be a number of mill"),
        (request("tools/call", name="x", priority="a"), "priority must be an integer from -100"),
        (
            request("tools/call", name="x", _meta={"progressToken": 1.5}),
            "progressToken must be a string or an integer, got a number",
        ),
        (
            request("tools/call", name="x", _meta={"progressToken": "x" * 600}),
            "progressToken must have at most 512 characters",
        ),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": [1]}, "params must be an"),
    ],
)
def test_invalid_parameters_are_answered_under_the_id(frame: dict[str, Any], why: str) -> None:
    answer = error_frame(frame)
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
    assert answer["error"]["code"] == -32602
    assert answer["error"]["message"].startswith(f"Invalid message: {why}")
    assert answer["error"]["data"]["code"] == "INVALID_REQUEST"
    assert answer["error"]["data"]["validation_error"].startswith(why)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        ({"jsonrpc": "2.0", "id": 1}, "method is missing"),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, "method is missing"),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, "method must be a string, got a number"),
        ({"id": 1, "method": ["ping"]}, "method must be a string, got an array"),
        ({"jsonrpc": "2.1", "id": 1, "method": "nope"}, 'jsonrpc must be "2.0"'),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, 'jsonrpc must be "2.0"'),
    ],
)
def test_an_invalid_request_is_answered_under_its_id(frame: dict[str, Any], why: str) -> None:
    answer = error_frame(frame)
    assert (answer["id"], answer["error"]["code"]) == (1, -32600)
    assert answer["error"]["message"] == f"Invalid message: {why}"


@pytest.mark.parametrize("frame", [request("resources/list"), {"id": 1, "method": "tools"}])
def test_an_unknown_method_is_not_found(frame: dict[str, Any]) -> None:
    answer = error_frame(frame)
    method = frame["method"]
    assert answer == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {
            "code": -32601,
            "message": f"Unknown method: {method}",
            "data": {"code": "PROTOCOL_ERROR", "method": method},
        },
    }


def test_an_unknown_method_without_id_is_answered_unless_a_notification() -> None:
    assert read({"jsonrpc": "2.0", "method": "notifications/progress"}) == Ignored()
    assert read({"jsonrpc": "2.0", "method": "resources/list"}) == Ignored()
    assert error_frame({"method": "resources/list"})["id"] is None


def test_a_too_long_id_is_refused_and_echoed() -> None:
    answer = error_frame(request("tools/call", "x" * 600, name="chat"))
    assert answer["id"] == "x" * 600
    assert "id must have at most 512 characters" in answer["error"]["message"]


def test_a_too_deep_id_is_refused_without_an_id() -> None:
    deep: Any = 1
    for _ in range(700):
        deep = [deep]
    answer = error_frame(request("tools/call", deep, name="chat"))
    assert answer["id"] is None
    assert "id must not nest deeper than 8 levels" in answer["error"]["message"]
