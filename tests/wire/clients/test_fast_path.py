"""The fast path for common calls returns the same as the general path, or nothing."""

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

odd = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text())
texts = st.one_of(st.text(max_size=8), st.just(" padded "), st.just("x" * 600), st.just("a:b"))
arguments = st.dictionaries(
    st.sampled_from(
        [
            "prompt",
            "model",
            "continuation_id",
            "temperature",
            "max_tokens",
            "stream",
            "images",
            "timeout",
            "files",
            "z",
        ]
    ),
    st.one_of(odd, texts, st.floats(0, 1), st.integers(1, 10), st.lists(texts, max_size=2)),
)
op_calls = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["call_tool", "tool_call"]),
        "request_id": st.one_of(texts, odd),
        "arguments": st.one_of(arguments, st.just({"prompt": "hi"}), odd),
    },
    optional={
        "name": st.sampled_from(["chat", "echo", "chat_EXAI-WS"]),
        "tool": st.sampled_from(["chat", "echo", {"name": "chat"}]),
        "stream": odd,
        "deadline_ms": st.one_of(odd, st.integers(0, 90_000_000)),
        "priority": st.one_of(odd, st.integers(-200, 200)),
        "id": odd,
        "other": odd,
    },
)
rpc_calls = st.fixed_dictionaries(
    {
        "jsonrpc": st.sampled_from(["2.0", "1.0"]),
        "id": st.one_of(odd, texts),
        "method": st.sampled_from(["tools/call", "tools/list"]),
        "params": st.fixed_dictionaries(
            {"name": st.just("chat"), "arguments": st.one_of(arguments, st.just({"prompt": "hi"}))},
            optional={"_meta": st.just({"progressToken": 1}), "stream": odd},
        ),
    }
)


def general_path(data: bytes) -> CheckedCall | ErrorBody:
    frame = decode(data)
    assert isinstance(frame, CallTool)
    return frame.check()


@given(st.one_of(op_calls, rpc_calls))
def test_the_fast_path_equals_the_general_path(frame: dict[str, Any]) -> None:
    data = json.dumps(frame).encode()
    call = decode_common_call(data)
    if call is not None:
        assert call == general_path(data)


@pytest.mark.parametrize(
    "frame",
    [
        CALL,
        CALL | {"op": "tool_call", "stream": True, "deadline_ms": 10, "priority": -1},
        CALL | {"arguments": {"prompt": "x", "model": "m", "temperature": 1, "stream": True}},
        CALL | {"arguments": {"prompt": "x", "max_tokens": 5, "continuation_id": "c"}},
        CALL | {"arguments": {"prompt": "x", "images": [], "timeout": 2}, "stream": False},
        {"op": "tool_call", "request_id": "a", "tool": "chat", "arguments": {"prompt": "x"}},
        RPC,
        RPC | {"id": "text"},
    ],
)
def test_common_calls_take_the_fast_path(frame: dict[str, Any]) -> None:
    data = json.dumps(frame).encode()
    assert decode_common_call(data) == general_path(data)


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
