"""Frames of the op dialect."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.core.calls import CallOptions, IfBusy
from exai_actors.errors import ErrorBody
from exai_actors.ids import RequestKey
from exai_actors.wire.clients.codec import TOOL_CALL_MAX_SIZE
from exai_actors.wire.clients.frames import (
    Cancel,
    Health,
    ListTools,
    Malformed,
    Ping,
    RotateToken,
)
from tests.wire.clients.wire_client import call, error_frame, read

CALL = {"op": "call_tool", "request_id": "r-1", "name": "chat", "arguments": {"prompt": "hi"}}


def test_a_call_has_tool_arguments_and_request() -> None:
    frame = call(CALL)
    assert (frame.request, frame.tool, frame.arguments) == (
        RequestKey("r-1"),
        "chat",
        {"prompt": "hi"},
    )
    assert frame.options == CallOptions(reports_progress=True)
    assert frame.reply.acks


def test_options_stand_beside_the_arguments() -> None:
    assert call(CALL | {"stream_reasoning": True}).options.stream_reasoning
    options = call(CALL | {"stream": True, "deadline_ms": 1500, "priority": -3}).options
    assert (options.stream, options.deadline_ms, options.priority) == (True, 1500.0, -3)


def test_a_call_has_if_busy_and_idempotency_key() -> None:
    options = call(CALL | {"if_busy": "refuse", "idempotency_key": "order 7"}).options
    assert options.if_busy is IfBusy.REFUSE
    assert options.idempotency_key == RequestKey("order 7", "idempotency")


def test_ids_and_idempotency_keys_are_distinct() -> None:
    key = call(CALL | {"idempotency_key": "a"}).options.idempotency_key
    ids = [call(CALL | {"request_id": text}).request for text in ("key:a", "op:key:a", "a")]
    assert len({key, *ids}) == 4


@pytest.mark.parametrize(
    "spelling",
    [
        {"name": "chat"},
        {"tool_name": "chat"},
        {"tool": "chat"},
        {"tool": {"name": "chat"}},
        {"name": "chat", "tool": {"name": "other"}},
        {"name": None, "tool_name": "chat"},
        {"name": "chat_EXAI-WS"},
        {"name": "chat-EXAI-WS"},
        {"name": "chat_EXAI_WS"},
        {"name": "chat-EXAI_WS"},
        {"name": "chat_EXAI-WS-VSCode1"},
        {"tool_name": "chat_EXAI-WS_VSCode2"},
        {"tool": {"name": "chat_EXAI-WS-VSCode2"}},
    ],
)
@pytest.mark.parametrize("op", ["call_tool", "tool_call"])
def test_every_known_spelling_of_a_tool_is_accepted(op: str, spelling: dict[str, Any]) -> None:
    assert call({"op": op, "request_id": "r"} | spelling).tool == "chat"


@pytest.mark.parametrize("name", ["chat_EXAI", "EXAI-WS", "chat_EXAI-WS-a b", "EXAI_WSchat"])
def test_only_the_old_suffix_is_stripped(name: str) -> None:
    assert call({"op": "call_tool", "name": name}).tool == name


def test_arguments_inside_the_tool_yield_to_those_outside() -> None:
    tool = {"name": "chat", "arguments": {"prompt": "inner"}}
    assert call({"op": "tool_call", "tool": tool}).arguments == {"prompt": "inner"}
    outer = call({"op": "tool_call", "tool": tool, "arguments": {"prompt": "outer"}})
    assert outer.arguments == {"prompt": "outer"}


@pytest.mark.parametrize("absent", [{}, {"arguments": None}])
def test_a_call_may_lack_arguments(absent: dict[str, Any]) -> None:
    assert call({"op": "call_tool", "name": "version"} | absent).arguments == {}


@pytest.mark.parametrize(
    ("ids", "name", "other", "echoed"),
    [
        ({"request_id": "a"}, "a", None, b',"request_id":"a"'),
        ({"request_id": 'q"\u20ac'}, 'q"\u20ac', None, ',"request_id":"q\\"\u20ac"'.encode()),
        ({"req_id": "a"}, None, "a", b',"request_id":"a","req_id":"a"'),
        ({"req_id": 7}, None, "7", b',"request_id":"7","req_id":7'),
        ({"id": "a"}, None, "a", b',"request_id":"a","id":"a"'),
        ({"id": 7}, None, "7", b',"request_id":"7","id":7'),
        ({"id": 1.5}, None, "1.5", b',"request_id":"1.5","id":1.5'),
        ({"id": 10**30}, None, str(10**30), f',"request_id":"{10**30}","id":{10**30}'.encode()),
        ({"request_id": "a", "id": 7}, "a", None, b',"request_id":"a","id":7'),
        ({"request_id": "", "id": 7}, None, "7", b',"request_id":"","id":7'),
        ({"req_id": "", "id": 7}, None, None, b',"request_id":"","req_id":"","id":7'),
        ({"request_id": "rpc:1"}, "rpc:1", None, b',"request_id":"rpc:1"'),
        ({"request_id": ""}, None, None, b',"request_id":""'),
        ({"request_id": None}, None, None, b',"request_id":null'),
        ({}, None, None, b',"request_id":null'),
    ],
)
def test_every_id_is_echoed_but_only_a_request_id_names_the_request(
    ids: dict[str, Any], name: str | None, other: str | None, echoed: bytes
) -> None:
    frame = call({"op": "call_tool", "name": "chat"} | ids)
    assert frame.request == (None if name is None else RequestKey(name))
    assert frame.other_id == (None if other is None else RequestKey(other))
    assert frame.reply.ids == echoed


@pytest.mark.parametrize(
    ("frame", "acks"),
    [
        ({"op": "call_tool", "request_id": "a"}, True),
        ({"op": "call_tool", "request_id": "a", "id": 1}, True),
        ({"op": "call_tool", "request_id": ""}, False),
        ({"op": "call_tool", "id": "a"}, False),
        ({"op": "call_tool"}, False),
        ({"op": "tool_call", "request_id": "a"}, False),
    ],
)
def test_only_call_tool_with_a_request_id_gets_acks(frame: dict[str, Any], acks: bool) -> None:
    assert call(frame | {"name": "chat"}).reply.acks is acks


WRONG_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "name is missing: the tool to call, a non-empty string"),
    ({"name": ""}, "name must be a non-empty string, got an empty one"),
    ({"name": "   "}, "name must be a non-empty string, got an empty one"),
    ({"name": "_EXAI-WS"}, "name must be a non-empty string, got an empty one"),
    ({"name": 5}, "name must be a non-empty string, got a number"),
    ({"name": ["chat"]}, "name must be a non-empty string, got an array"),
    ({"name": None, "tool_name": True}, "tool_name must be a non-empty string, got a boolean"),
    ({"name": None, "tool": {}}, "tool.name must be a non-empty string, got null"),
    ({"name": None, "tool": 7}, "tool must be a non-empty string, got a number"),
    ({"name": "x" * 257}, "name must have at most 256 characters, got 257"),
    ({"arguments": "x"}, "arguments must be an object, got a string"),
    ({"arguments": [1]}, "arguments must be an object, got an array"),
    ({"arguments": 0}, "arguments must be an object, got a number"),
    ({"stream": "yes"}, "stream must be true or false, got a string"),
    ({"stream": 1}, "stream must be true or false, got a number"),
    ({"stream_reasoning": 1}, "stream_reasoning must be true or false, got a number"),
    (
        {"deadline_ms": 0},
        "deadline_ms must be a number of milliseconds from 1 to 86400000, got 0",
    ),
    (
        {"deadline_ms": 0.5},
        "deadline_ms must be a number of milliseconds from 1 to 86400000, got 0.5",
    ),
    (
        {"deadline_ms": 86_400_001},
        "deadline_ms must be a number of milliseconds from 1 to 86400000, got 86400001",
    ),
    (
        {"deadline_ms": True},
        "deadline_ms must be a number of milliseconds from 1 to 86400000, got a boolean",
    ),
    (
        {"deadline_ms": "5"},
        "deadline_ms must be a number of milliseconds from 1 to 86400000, got a string",
    ),
    (
        {"if_busy": "later"},
        'if_busy must be one of "wait_in_time", "wait", "refuse", got "later"',
    ),
    ({"if_busy": 1}, 'if_busy must be one of "wait_in_time", "wait", "refuse", got a number'),
    (
        {"idempotency_key": ""},
        "idempotency_key must be a string of 1 to 200 characters, got 0",
    ),
    (
        {"idempotency_key": "x" * 201},
        "idempotency_key must be a string of 1 to 200 characters, got 201",
    ),
    (
        {"idempotency_key": 5},
        "idempotency_key must be a string of 1 to 200 characters, got a number",
    ),
    ({"priority": 101}, "priority must be an integer from -100 to 100, got 101"),
    ({"priority": -101}, "priority must be an integer from -100 to 100, got -101"),
    ({"priority": 1.5}, "priority must be an integer from -100 to 100, got a number"),
    ({"priority": False}, "priority must be an integer from -100 to 100, got a boolean"),
    ({"priority": 10**200}, f"priority must be an integer from -100 to 100, got {10**79}…"),
]


@pytest.mark.parametrize(("change", "why"), WRONG_CALLS)
def test_an_invalid_call_is_answered_under_its_id(change: dict[str, Any], why: str) -> None:
    assert error_frame(CALL | change) == {
        "op": "call_tool_res",
        "request_id": "r-1",
        "ok": False,
        "error": {
            "code": "INVALID_REQUEST",
            "message": f"Invalid message: {why}",
            "details": {"validation_error": why},
        },
    }


@pytest.mark.parametrize(
    ("ids", "echo", "why"),
    [
        ({"request_id": 5}, {"request_id": 5}, "request_id must be a string, got a number"),
        ({"request_id": {"a": 1}}, {"request_id": {"a": 1}}, "request_id must be a string"),
        ({"id": True}, {"request_id": "true", "id": True}, "id must be a string or a number"),
        ({"req_id": []}, {"request_id": "[]", "req_id": []}, "req_id must be a string or a"),
        ({"request_id": "x" * 513}, {"request_id": "x" * 513}, "at most 512 characters, got 513"),
        ({"id": "x" * 513}, {"id": "x" * 513}, "id must have at most 512 characters, got 513"),
    ],
)
def test_an_invalid_id_is_refused_and_echoed(
    ids: dict[str, Any], echo: dict[str, Any], why: str
) -> None:
    answer = error_frame({"op": "call_tool", "name": "chat"} | ids)
    assert answer["op"] == "call_tool_res"
    assert why in answer["error"]["message"]
    assert echo.items() <= answer.items()


@pytest.mark.parametrize("ids", [{}, {"request_id": "z"}, {"id": 3}])
def test_other_operations_are_decoded(ids: dict[str, Any]) -> None:
    assert isinstance(read({"op": "list_tools"} | ids), ListTools)
    assert isinstance(read({"op": "ping"} | ids), Ping)
    assert isinstance(read({"op": "health"} | ids), Health)
    assert isinstance(read({"op": "rotate_token", "old": "a", "new": "b"} | ids), RotateToken)


@pytest.mark.parametrize("ids", [{"request_id": "z"}, {"req_id": "z"}, {"id": "z"}])
def test_cancel_names_its_request(ids: dict[str, Any]) -> None:
    frame = read({"op": "cancel"} | ids)
    assert isinstance(frame, Cancel)
    assert frame.request == RequestKey("z")


def test_cancel_without_an_id_is_refused() -> None:
    answer = error_frame({"op": "cancel"})
    assert answer["op"] == "error"
    assert "request_id is missing" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("frame", "old", "new"),
    [
        ({"old": "a", "new": "b"}, "a", "b"),
        ({"old": "a"}, "a", ""),
        ({"new": "b"}, "", "b"),
        ({"old": None, "new": ""}, "", ""),
    ],
)
def test_a_rotation_may_lack_a_token(frame: dict[str, Any], old: str, new: str) -> None:
    rotation = read({"op": "rotate_token"} | frame)
    assert isinstance(rotation, RotateToken)
    assert (rotation.old, rotation.new) == (old, new)


@pytest.mark.parametrize("field", ["old", "new"])
def test_a_rotation_with_another_type_is_an_invalid_request(field: str) -> None:
    answer = error_frame(
        {"op": "rotate_token", "old": "a", "new": "b", "request_id": "t"} | {field: 1}
    )
    assert (answer["op"], answer["request_id"]) == ("error", "t")
    assert answer["error"]["details"] == {
        "validation_error": f"{field} must be a string, got a number"
    }


@pytest.mark.parametrize("op", ["call_tools", "", "HELLO", "hello_ack", "call_tool_res"])
def test_an_unknown_operation_is_a_protocol_error(op: str) -> None:
    assert error_frame({"op": op, "request_id": "u"}) == {
        "op": "error",
        "request_id": "u",
        "ok": False,
        "error": {
            "code": "PROTOCOL_ERROR",
            "message": f"Unknown operation: {op}",
            "details": {"operation": op},
        },
    }


def test_a_long_unknown_operation_is_shortened() -> None:
    answer = error_frame({"op": "x" * 1_000_000})
    assert answer["error"]["details"]["operation"] == "x" * 80 + "…"


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        ({}, "op is missing: an object with op, or with jsonrpc and method, is expected"),
        ({"op": None}, "op is missing: an object with op, or with jsonrpc and method, is expected"),
        ({"op": 5}, "op must be a string, got a number"),
        ({"op": ["call_tool"]}, "op must be a string, got an array"),
        ({"op": {"a": 1}}, "op must be a string, got an object"),
        ([], "batches are not supported, send one object per frame"),
        ([{"op": "ping"}], "batches are not supported, send one object per frame"),
        (5, "an object is expected, got a number"),
        (None, "an object is expected, got null"),
        ("x", "an object is expected, got a string"),
        (True, "an object is expected, got a boolean"),
    ],
)
def test_other_json_is_an_invalid_request(frame: Any, why: str) -> None:
    answer = error_frame(frame)
    assert (answer["op"], answer["ok"]) == ("error", False)
    assert answer["error"]["code"] == "INVALID_REQUEST"
    assert answer["error"]["message"].startswith(f"Invalid message: {why}")


def test_a_frame_without_op_is_answered_under_its_id() -> None:
    assert error_frame({"request_id": "lost", "name": "chat"})["request_id"] == "lost"


def test_unknown_fields_are_ignored() -> None:
    assert call(CALL | {"trace": {"deep": [1, [2]]}, "jsonrpc": "2.0"}).tool == "chat"


def _sized(frame: bytes, size: int) -> bytes:
    head, tail = frame.split(b"@")
    return head + b"x" * (size - len(head) - len(tail)) + tail


@pytest.mark.parametrize(
    "frame",
    [
        b'{"op":"call_tool","request_id":"big","name":"chat","arguments":{"prompt":"@"}}',
        b'{"arguments":{"prompt":"@"},"name":"chat","request_id":"big","op":"call_tool"}',
    ],
)
def test_an_oversized_call_is_refused_under_its_id(frame: bytes) -> None:
    limit = TOOL_CALL_MAX_SIZE
    assert call(_sized(frame, limit)).request == RequestKey("big")
    assert error_frame(_sized(frame, limit + 1)) == {
        "op": "call_tool_res",
        "request_id": "big",
        "ok": False,
        "error": {
            "code": "OVER_CAPACITY",
            "message": f"Request too large: {limit + 1} bytes exceeds limit of {limit} bytes",
            "details": {"actual_size": limit + 1, "limit": limit},
        },
    }


@pytest.mark.parametrize(
    "image",
    [
        b'"data:image/png;base64,@"',
        b'"https://example.org/a.png","data:image/jpeg;base64,@"',
        b'"data:image\\/png;base64,@\\/9j\\/"',
    ],
)
def test_images_do_not_count_for_the_size_of_a_call(image: bytes) -> None:
    frame = b'{"op":"call_tool","request_id":"photo","name":"chat","arguments":{"prompt":"look",'
    sized = _sized(frame + b'"images":[' + image + b"]}}", 12_000_000)
    checked = call(sized).check()
    assert not isinstance(checked, ErrorBody)
    assert checked.request == RequestKey("photo")


@pytest.mark.parametrize(
    "arguments",
    [
        b'"prompt":"data:text/plain,@"',
        b'"prompt":"x\\"data:image/png;base64,@"',
        b'"prompt":"@","images":[' + b'"data:image/png",' * 100_000 + b'"data:image/png"]',
        b'"prompt":"@","images":["data:image/png;base64,AA"]',
    ],
)
def test_other_texts_count_for_the_size_of_a_call(arguments: bytes) -> None:
    frame = b'{"op":"call_tool","request_id":"big","name":"chat","arguments":{' + arguments + b"}}"
    assert error_frame(_sized(frame, 12_000_000))["error"]["code"] == "OVER_CAPACITY"


def test_only_a_malformed_call_has_a_request() -> None:
    malformed_call = read(CALL | {"name": 1})
    assert isinstance(malformed_call, Malformed)
    assert malformed_call.request == RequestKey("r-1")
    other = read({"op": "rotate_token", "old": 1, "request_id": "r-1"})
    assert isinstance(other, Malformed)
    assert other.request is None
