"""A frame is refused for what it would make the parser build, not only for its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.wire.clients import frame_budget
from exai_actors.wire.clients.codec import TOOL_CALL_MAX_SIZE, decode
from exai_actors.wire.clients.dialects.fields import MAX_ID_BYTES, MAX_ID_LENGTH
from exai_actors.wire.clients.frame_budget import (
    CHECKED_ABOVE_BYTES,
    MAX_BYTES_OUTSIDE_STRINGS,
    MAX_VALUES,
    excess,
)
from exai_actors.wire.clients.frames import CallTool, Malformed, Ping
from tests.wire.clients.wire_client import call, error_frame, read

LARGE = 9 * 1024 * 1024
CALL = b'{"op":"call_tool","request_id":"r","name":"chat","arguments":{"prompt":"p","x":%b}}'
DEEP = b"[" * 60 + b"]" * 60


def _array(item: bytes) -> bytes:
    return b"[" + (item + b",") * (LARGE // (len(item) + 1)) + b"0]"


VALUES: dict[str, bytes] = {
    "empty arrays": _array(b"[]"),
    "empty objects": _array(b"{}"),
    "objects in objects": _array(b'{"":{}}'),
    "60 levels": _array(DEEP),
    "7 levels": _array(b"[[[[[[[]]]]]]]"),
    "empty strings": _array(b'""'),
    "strings of an escape": _array(b'"\\\\"'),
    "digits": _array(b"0"),
    "long floats": _array(b"0." + b"123456789" * 10),
    "nulls": _array(b"null"),
    "members": b'{"":0' + b',"":0' * (LARGE // 5) + b"}",
    "one number": b"9" * LARGE,
    "spaces": b" " * LARGE + b"0",
    "line feeds between values": b"[0" + b",\n\n\n\n\n\n\n0" * (LARGE // 9) + b"]",
}
PLACES: dict[str, bytes] = {
    "arguments": CALL,
    "a second id": b'{"op":"call_tool","request_id":"r","id":%b}',
    "an unknown member": b'{"op":"ping","request_id":"r","x":%b}',
    "the tool": b'{"op":"call_tool","request_id":"r","tool":%b}',
    "images": b'{"op":"call_tool","request_id":"r","name":"chat","arguments":{"images":%b}}',
    "params": b'{"jsonrpc":"2.0","id":"r","method":"tools/call","params":{"name":"chat","x":%b}}',
    "the request to cancel": b'{"jsonrpc":"2.0","id":"r","method":"notifications/cancelled",'
    b'"params":{"requestId":%b}}',
    "text that breaks off": b'{"op":"ping","request_id":"r","x":%b',
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("values", VALUES)
def test_a_flood_of_values_is_refused_under_its_id(place: str, values: str) -> None:
    answer = error_frame(PLACES[place] % VALUES[values])
    assert "r" in (answer.get("request_id"), answer.get("id"))
    message = answer["error"]["message"]
    assert f"at most {MAX_VALUES} values" in message or "outside strings" in message
    assert len(json.dumps(answer)) < 1000


@pytest.mark.parametrize("values", VALUES)
def test_an_id_that_is_a_flood_is_not_echoed(values: str) -> None:
    for frame in (b'{"op":"ping","id":%b}', b'{"jsonrpc":"2.0","method":"ping","id":%b}'):
        answer = error_frame(frame % VALUES[values])
        assert len(json.dumps(answer)) < 1000


LONG_STRINGS: dict[str, str] = {
    "letters": "a" * 7_000_000,
    "commas and brackets": '[{"a": 1}, {}], ' * 400_000,
    "quotes": '"' * 4_000_000,
    "backslashes": "\\" * 4_000_000,
    "backslashes before quotes": '\\"\\\\"' * 1_000_000,
    "beyond ASCII": "漢,字" * 1_000_000,
}


@pytest.mark.parametrize("text", LONG_STRINGS)
def test_a_long_string_is_accepted_whatever_it_contains(text: str) -> None:
    arguments = {"prompt": LONG_STRINGS[text]}
    data = json.dumps(
        {"op": "call_tool", "request_id": "r", "name": "chat", "arguments": arguments},
        ensure_ascii=False,
    ).encode()
    assert len(data) < TOOL_CALL_MAX_SIZE
    assert call(data).arguments == arguments


def test_values_are_accepted_up_to_the_limit() -> None:
    others = 6  # the frame, its three members and the two arguments
    array = [0] * (MAX_VALUES - others)
    frame: dict[str, Any] = {
        "op": "call_tool",
        "name": "chat",
        "arguments": {"prompt": "p" * CHECKED_ABOVE_BYTES, "x": array},
    }
    assert isinstance(read(frame), CallTool)
    array.append(0)
    assert isinstance(read(frame), Malformed)


def test_bytes_outside_strings_are_accepted_up_to_the_limit() -> None:
    frame = b'{"op":"ping"%b}'
    fits = MAX_BYTES_OUTSIDE_STRINGS - len(b"{:}")
    assert isinstance(decode(frame % (b" " * fits)), Ping)
    assert isinstance(decode(frame % (b" " * (fits + 1))), Malformed)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\,[]{}: \n漢'),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='a"\\,['), inner),
        max_leaves=20,
    )
)
def test_the_count_of_values_is_exact(value: Any) -> None:
    padding = "p" * CHECKED_ABOVE_BYTES
    for limit in (_count(value) + 1, _count(value) + 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frame_budget, "MAX_VALUES", limit)
            refused = excess(json.dumps([padding, value], ensure_ascii=False).encode())
        assert (refused is None) == (limit == _count(value) + 2)


def _count(value: Any) -> int:
    """The values in ``value``; an empty container counts once more, as a place for one."""
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(1, sum(map(_count, inner)))
    return 1


TOO_LONG_IDS: dict[str, bytes] = {
    "letters": b'"' + b"a" * MAX_ID_BYTES + b'"',
    "digits": b"1" * (MAX_ID_BYTES + 1),
    "an array": b"[" + b"1," * MAX_ID_BYTES + b"1]",
    "escapes": b'"' + b"\\u0041" * MAX_ID_BYTES + b'"',
    "an object": b'{"a":"' + b"b" * MAX_ID_BYTES + b'"}',
}


@pytest.mark.parametrize("id_", TOO_LONG_IDS)
@pytest.mark.parametrize(
    "frame",
    [
        b'{"op":"ping","request_id":%b}',
        b'{"op":"list_tools","id":%b}',
        b'{"op":"call_tool","req_id":%b,"name":"echo"}',
        b'{"op":"health","request_id":"r","id":%b}',
        b'{"jsonrpc":"2.0","method":"tools/list","id":%b}',
        b'{"jsonrpc":"2.0","method":"tools/call","id":%b,"params":{"name":"echo"}}',
    ],
)
def test_an_id_beyond_its_bytes_is_named_and_not_echoed(frame: bytes, id_: str) -> None:
    answer = error_frame(frame % TOO_LONG_IDS[id_])
    assert f"id must have at most {MAX_ID_LENGTH} characters" in json.dumps(answer)
    assert len(json.dumps(answer)) < 500
    if b'"request_id":"r"' in frame:
        assert answer["request_id"] == "r"


@pytest.mark.parametrize("character", ["a", "é", "漢", "😀", "\0"])
def test_an_id_has_all_its_characters_however_they_are_written(character: str) -> None:
    id_ = character * MAX_ID_LENGTH
    for ascii_only in (True, False):
        data = json.dumps(
            {"op": "call_tool", "request_id": id_, "name": "echo"}, ensure_ascii=ascii_only
        )
        request = call(data.encode()).request
        assert request is not None
        assert request.text == id_
