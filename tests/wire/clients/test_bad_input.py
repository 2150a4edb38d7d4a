"""Invalid JSON and invalid frames are always answered, and under their id if they have one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.wire.clients import encode
from exai_actors.wire.clients.dialects.fields import MAX_DEPTH
from exai_actors.wire.clients.frames import CallTool, Malformed
from exai_actors.wire.clients.salvage import MAX_STEPS, salvage
from tests.wire.clients.wire_client import call, error_frame, opened, parsed, read

HEAD = b'{"op":"call_tool","request_id":"lost-1","name":"chat","arguments":{"prompt":'
NAMES = frozenset({"op", "request_id", "id", "method"})

UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "truncated"),
    "words": (b"hello there", "malformed"),
    "cut off": (HEAD + b'"hel', "truncated"),
    "no value": (HEAD + b"}}", "malformed"),
    "NaN": (HEAD + b"NaN}}", "malformed"),
    "infinity": (HEAD + b"-Infinity}}", "malformed"),
    "number out of range": (HEAD + b"1e999}}", "out of range"),
    "integer of 5000 digits": (HEAD + b"9" * 5000 + b"}}", "out of range"),
    "invalid UTF-8": (HEAD + b'"\xff"}}', "not UTF-8 at byte 77"),
    "surrogate in UTF-8": (HEAD + b'"\xed\xa0\x80"}}', "not UTF-8 at byte 77"),
    "high surrogate": (HEAD + b'"\\ud800"}}', "half a surrogate pair at byte 77"),
    "low surrogate": (HEAD + b'"a\\udc00"}}', "malformed"),
    "NUL in a string": (HEAD + b'"a\x00b"}}', "malformed"),
    "newline in a string": (HEAD + b'"a\nb"}}', "malformed"),
    "an array cut off": (b'[{"op":"ping"}', "truncated"),
    "10000 arrays alone": (b"[" * 10_000, "nested too deep"),
    "trailing words": (HEAD + b'"a"}} and more', "trailing"),
    "nested 10000 arrays": (HEAD + b"[" * 10_000 + b"]" * 10_000 + b"}}", "nested too deep"),
    "nested 10000 objects": (HEAD + b'{"a":' * 10_000 + b"1" + b"}" * 10_002, "nested too deep"),
    "nested and never closed": (HEAD + b"[" * 10_000, "nested too deep"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_text_is_a_validation_error(case: str) -> None:
    data, why = UNREADABLE[case]
    error = error_frame(data)["error"]
    assert error["code"] == "VALIDATION_ERROR"
    assert error["message"] == "Invalid JSON: message could not be parsed"
    assert why in error["details"]["parse_error"]


@pytest.mark.parametrize("case", [case for case, (data, _) in UNREADABLE.items() if HEAD in data])
def test_an_id_before_the_damage_is_found(case: str) -> None:
    answer = error_frame(UNREADABLE[case][0])
    assert (answer["op"], answer["request_id"]) == ("call_tool_res", "lost-1")


DAMAGED_BEFORE_THE_ID = [
    b'{"arguments":{"prompt":"\xff"},"op":"call_tool","request_id":"late"}',
    b'{"arguments":{"prompt":"\\ud800 \\" ]}"},"op":"call_tool","request_id":"late"}',
    b'{"arguments":{"prompt":NaN},"op":"call_tool","request_id":"late"}',
    b'{"a":NaN,"op":"call_tool","b":tru e,"request_id":"late","c":}',
    b'{"arguments":' + b"[" * 10_000 + b"]" * 10_000 + b',"op":"call_tool","request_id":"late"}',
    b'{"arguments":{"a":"\x00","b":[{"c":"}"}]},,"op" : "call_tool" ,\n"request_id":"late"',
    b'{"\xff":1,"\\ud800":2,"op":"call_tool","request_id":"late"}x',
    b'\xef\xbb\xbf{"op":"call_tool","request_id":"late"}',
    b'{"op":"call_tool","request_id":"early","request_id":"late",}',
]


@pytest.mark.parametrize("data", DAMAGED_BEFORE_THE_ID, ids=range(len(DAMAGED_BEFORE_THE_ID)))
def test_an_id_after_the_damage_is_found(data: bytes) -> None:
    answer = error_frame(data)
    assert (answer["op"], answer["request_id"]) == ("call_tool_res", "late")


@pytest.mark.parametrize(
    ("data", "echo"),
    [
        (b'{"op":"list_tools","request_id":"a",', {"op": "error", "request_id": "a"}),
        (b'{"op":"call_tool","id":7,', {"op": "call_tool_res", "request_id": "7", "id": 7}),
        (b'{"request_id":"a","op":', {"op": "error", "request_id": "a"}),
        (b'{"op":"call_tool","request_id":{"x":1},', {"op": "call_tool_res", "request_id": None}),
        (b'{"op":"call_tool","request_id":"\xff"}', {"op": "call_tool_res", "request_id": None}),
        (b'["op","call_tool"', {"op": "error"}),
        (b'{"jsonrpc":"2.0","id":"\xe2\x82\xac","method":', {"id": "€", "jsonrpc": "2.0"}),
        (b'{"jsonrpc":"2.0","method":"tools/call","params":{', {"id": None, "jsonrpc": "2.0"}),
        (b'{"method":"tools/call","id":3,"params":{', {"id": 3, "jsonrpc": "2.0"}),
        (b'{"op":"ping","jsonrpc":"2.0","request_id":"a",', {"op": "error", "request_id": "a"}),
    ],
)
def test_damage_is_answered_in_its_dialect_and_under_its_id(
    data: bytes, echo: dict[str, Any]
) -> None:
    answer = error_frame(data)
    assert echo.items() <= answer.items()


def test_an_unreadable_json_rpc_call_is_a_parse_error() -> None:
    answer = error_frame(b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":\xff}}')
    assert (answer["id"], answer["error"]["code"]) == (5, -32700)
    assert answer["error"]["data"]["code"] == "VALIDATION_ERROR"


def _nested(levels: int) -> bytes:
    return HEAD + b"[" * levels + b"]" * levels + b"}}"


def test_arguments_may_nest_up_to_the_limit() -> None:
    assert isinstance(read(_nested(MAX_DEPTH)), CallTool)
    answer = error_frame(_nested(MAX_DEPTH + 1))
    assert (answer["op"], answer["request_id"]) == ("call_tool_res", "lost-1")
    assert answer["error"]["code"] == "INVALID_REQUEST"
    assert answer["error"]["details"] == {
        "validation_error": f"arguments must not nest deeper than {MAX_DEPTH} levels"
    }


def test_a_prompt_full_of_brackets_is_accepted() -> None:
    assert call(HEAD + b'"' + b"[{" * 50_000 + b'"}}').arguments["prompt"] == "[{" * 50_000


@pytest.mark.parametrize(
    "value",
    [10**40, -(10**40), 0.1, 5e-324, "\0", "\u2028", "\U0001f600", "", {"": ""}, [None, True]],
)
def test_unusual_values_arrive_unchanged(value: Any) -> None:
    data = json.dumps({"op": "call_tool", "name": "x", "arguments": {"v": value}}).encode()
    assert call(data).arguments == {"v": value}


def test_a_key_of_a_million_characters_is_accepted() -> None:
    key = "k" * 1_000_000
    assert call({"op": "call_tool", "name": "x", key: 1, "arguments": {key: 1}}).arguments == {
        key: 1
    }


HOSTILE = {
    "brackets": b"[" * 3_000_000,
    "objects": b'{"a":' * 600_000,
    "empty arrays": b'{"a":' + b"[]," * 1_000_000,
    "backslashes": b'{"a":"' + b"\\\\" * 1_500_000,
    "quotes": b'"' * 3_000_000,
    "commas": b"{" + b"," * 3_000_000,
    "empty names": b"{" + b'"":0,' * 600_000,
    "colons": b'{"a"' + b":" * 3_000_000,
    "spaces": b"{" + b" " * 3_000_000,
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_is_refused_quickly(case: str) -> None:
    assert error_frame(HOSTILE[case])["error"]["code"] in ("VALIDATION_ERROR", "INVALID_REQUEST")


def test_salvage_stops_after_its_steps() -> None:
    text = b'{"id":1,"x":[' + b"[]," * MAX_STEPS + b'1],"op":"ping"'
    assert salvage(text, NAMES) == {"id": 1}


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.text() | NUMBERS
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
FIELDS = (
    "op", "request_id", "req_id", "id", "name", "tool", "tool_name", "arguments", "stream",
    "deadline_ms", "priority", "jsonrpc", "method", "params", "token", "session_id", "old", "new",
)  # fmt: skip
LIKELY = st.sampled_from(
    ["call_tool", "tool_call", "cancel", "hello", "ping", "2.0", "tools/call", "tools/list",
     "initialize", "notifications/cancelled", "chat", {"name": "chat"}, {"requestId": 1}]
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), LIKELY | ANY_JSON))
def test_any_object_is_a_frame_or_gets_a_valid_error(frame: Any) -> None:
    found = opened().receive(json.dumps(frame).encode())
    if isinstance(found, Malformed):
        answer = parsed(encode.error(found.reply, found.error))
        assert answer["error"]["message"]


@given(
    st.dictionaries(st.sampled_from(sorted(NAMES)) | st.text(max_size=3), SCALARS),
    st.dictionaries(st.text(max_size=3), ANY_JSON, max_size=3),
)
def test_salvage_agrees_with_a_parser_on_valid_json(
    scalars: dict[str, Any], nested: dict[str, Any]
) -> None:
    frame = {name: value for name, value in nested.items() if name not in NAMES} | scalars
    text = json.dumps(frame, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert salvage(text, NAMES) == {k: v for k, v in frame.items() if k in NAMES}


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), SCALARS, min_size=1), st.data())
def test_salvage_finds_every_complete_member_of_a_cut_frame(
    frame: dict[str, Any], data: Any
) -> None:
    text = json.dumps(frame).encode()
    found = salvage(text[: data.draw(st.integers(0, len(text)))], NAMES)
    assert list(found) == list(frame)[: len(found)]
    assert all(found[name] == frame[name] for name in list(found)[:-1])
