"""The fast path takes common calls, and never disagrees with the general path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.errors import ErrorBody
from exai_actors.wire.clients.codec import decode
from exai_actors.wire.clients.fast_path import MAX_COMMON_BYTES, decode_common_call
from exai_actors.wire.clients.frames import CallTool, CheckedCall

CALL = {"op": "call_tool", "request_id": "r-1", "name": "chat", "arguments": {"prompt": "hi"}}
RPC = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "chat", "arguments": {"prompt": "hi"}},
}


def words(max_size: int) -> st.SearchStrategy[str]:
    return st.text(min_size=1, max_size=9) | st.sampled_from(["a:b", "é" * max_size])


deadlines = st.floats(1, 86_400_000) | st.integers(1, 86_400_000)
prompts = words(600).filter(lambda prompt: not prompt.isspace())
arguments: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"prompt": prompts},
    optional={
        "model": words(4096),
        "continuation_id": words(200),
        "temperature": st.floats(0, 2) | st.integers(0, 2),
        "max_tokens": st.integers(1, 10_000_000),
        "images": st.just([]),
        "stream": st.booleans(),
        "timeout": st.floats(0.1, 3600) | st.integers(1, 3600),
    },
)
options = {
    "stream": st.none() | st.booleans(),
    "deadline_ms": st.none() | deadlines,
    "priority": st.integers(-100, 100),
}
common_op_calls = st.builds(
    lambda op, spelling, members: {"op": op, spelling: "chat", **members},
    st.sampled_from(["call_tool", "tool_call"]),
    st.sampled_from(["name", "tool"]),
    st.fixed_dictionaries({"request_id": words(510), "arguments": arguments}, optional=options),
)
common_rpc_calls = st.builds(
    lambda id_, arguments: {
        "jsonrpc": "2.0",
        "id": id_,
        "method": "tools/call",
        "params": {"name": "chat", "arguments": arguments},
    },
    words(510) | st.integers(-(2**53), 2**53),
    arguments,
)
common_calls = st.one_of(common_op_calls, common_rpc_calls)

odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 101, -101, 86_400_001, 1.0, "", " padded ", "x" * 511, "x" * 513]),
    st.sampled_from(
        ["echo", "chat_EXAI-WS", "call_tool", "2.0", ["https://a"], {}, {"name": "chat"}]
    ),
    st.text(max_size=3),
)
NAMES = (
    "op", "request_id", "id", "name", "tool", "arguments", "stream", "deadline_ms", "priority",
    "if_busy", "idempotency_key", "jsonrpc", "method", "params", "prompt", "model", "images",
    "continuation_id", "temperature", "max_tokens", "timeout", "files", "_meta", "unknown",
)  # fmt: skip


def general_path(data: bytes) -> CheckedCall | ErrorBody:
    frame = decode(data)
    assert isinstance(frame, CallTool), frame
    return frame.check()


def check_agreement(data: bytes) -> None:
    call = decode_common_call(data)
    if call is not None:
        assert call == general_path(data)


@given(common_calls, st.booleans())
def test_common_calls_take_the_fast_path(frame: dict[str, Any], ascii_only: bool) -> None:
    data = json.dumps(frame, ensure_ascii=ascii_only).encode()
    assert decode_common_call(data) == general_path(data)


@given(common_calls, st.sampled_from(NAMES), odd_values, st.integers(0, 2))
def test_a_call_with_one_odd_member_gives_the_same_on_both_paths(
    frame: dict[str, Any], name: str, value: Any, depth: int
) -> None:
    inner = (frame, frame.get("params", frame), frame.get("params", frame)["arguments"])[depth]
    inner[name] = value
    check_agreement(json.dumps(frame).encode())


LIMITS: list[tuple[str, list[Any]]] = [
    ("request_id", ["x" * 510, "x" * 511, "x" * 512, "x" * 513]),
    ("deadline_ms", [1, 0.5, 86_400_000, 86_400_001]),
    ("priority", [-100, -101, 100, 101]),
    ("prompt", [" x", "x ", " ", "\u3000"]),
    ("model", ["x" * 4096, "x" * 4097]),
    ("continuation_id", ["", "x" * 200, "x" * 201]),
    ("temperature", [0, 2, 2.1, -0.1]),
    ("max_tokens", [1, 0, 10_000_000, 10_000_001]),
    ("timeout", [0.1, 0.09, 3600, 3600.1]),
    ("images", [["https://a"], ["file:///a"]]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in LIMITS for value in values]
)
def test_values_around_each_limit_give_the_same_on_both_paths(name: str, value: Any) -> None:
    check_agreement(json.dumps(CALL | {name: value}).encode())
    check_agreement(json.dumps(CALL | {"arguments": {"prompt": "hi", name: value}}).encode())
    check_agreement(json.dumps(RPC | {"id": value}).encode())
    params = {"name": "chat", "arguments": {"prompt": "hi", name: value}}
    check_agreement(json.dumps(RPC | {"params": params}).encode())


@pytest.mark.parametrize(
    "members",
    [
        b'"name":"chat","request_id":"b"',
        b'"name":"echo","name":"chat"',
        b'"name":"chat","stream":true,"stream":null',
        b'"name":"chat","priority":1.0',
        b'"name":"chat","priority":1e1',
        b'"name":"chat","deadline_ms":1e3',
        b'"name":"chat","arguments":{"prompt":"x","max_tokens":5.0}',
        b'"name":"chat","arguments":{"prompt":"x","prompt":"y","model":null}',
        b'"name":null,"tool":"chat"',
        b'"name":"chat","tool":{"name":"chat"}',
    ],
)
def test_spellings_that_no_encoder_writes_give_the_same_on_both_paths(members: bytes) -> None:
    check_agreement(
        b'{"op":"call_tool","request_id":"a","arguments":{"prompt":"x"},' + members + b"}"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"op"',
        b'{"op":"call_tool"}',
        b"\xff",
        b'{"op":"' + b"[" * 10_000,
        json.dumps(CALL | {"request_id": ""}).encode(),
        json.dumps(CALL | {"arguments": {"prompt": " "}}).encode(),
        json.dumps(CALL | {"arguments": {"prompt": "x" * MAX_COMMON_BYTES}}).encode(),
    ],
)
def test_other_frames_are_left_to_the_general_path(data: bytes) -> None:
    assert decode_common_call(data) is None
