"""Answers in the JSON-RPC dialect."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.core.calls import ToolResult
from exai_actors.core.tools.table import ToolDescription
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.dialects.rpc_writer import NUMBERS, TOOL_FAILURES
from exai_actors.wire.clients.frames import ReplyTo
from tests.wire.clients.wire_client import call, parsed, piece, read

NOW = 1_763_028_672.25


def reply_to(id_: Any = 1, **params: Any) -> ReplyTo:
    params = {"name": "chat"} | params
    return call({"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": params}).reply


def reply_of(method: str, **members: Any) -> ReplyTo:
    frame: Any = read({"jsonrpc": "2.0", "method": method} | members)
    assert isinstance(frame.reply, ReplyTo)
    return frame.reply


@pytest.mark.parametrize("id_", [1, "1", 0, -3, 1.5, 10**40, True, ["a"], {"a": 1}, None])
def test_a_result_is_content_under_its_id(id_: Any) -> None:
    assert parsed(encode.result(reply_to(id_), ToolResult(("hello", "there")))) == {
        "jsonrpc": "2.0",
        "id": id_,
        "result": {
            "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "there"}],
            "isError": False,
        },
    }


def test_a_call_without_jsonrpc_gets_its_result() -> None:
    reply = call({"method": "tools/call", "params": {"name": "chat"}, "req_id": 9}).reply
    answer = parsed(encode.result(reply, ToolResult(("hi",))))
    assert (answer["id"], answer["req_id"]) == (9, 9)
    assert answer["result"]["content"][0]["text"] == "hi"


def test_the_old_envelope_applies_to_json_rpc() -> None:
    answer = parsed(encode.result(reply_to(), ToolResult(("hi",)), envelope="ex-ai"))
    assert '"content":"hi"' in answer["result"]["content"][0]["text"]


def test_without_a_progress_token_there_is_only_the_result() -> None:
    reply = reply_to()
    assert encode.accepted(reply, "chat", NOW) is None
    assert encode.acknowledged(reply, "chat", 1.0) is None
    assert encode.progress(reply, "chat", NOW, note="note", position=1, estimate_s=1.0) is None
    assert encode.piece_frame(reply, lambda: NOW) is None
    assert encode.reasoning_frame(reply, lambda: NOW) is None
    assert encode.stream_complete(reply, 1, NOW) is None


@pytest.mark.parametrize("token", ["t", 7])
def test_progress_grows_by_one_with_each_notification(token: Any) -> None:
    reply = reply_to(_meta={"progressToken": token})
    answers = [
        encode.progress(reply, "chat", NOW, position=2, estimate_s=1.5),
        encode.progress(reply, "chat", NOW, note="running"),
        encode.progress(reply, "chat", NOW, note="next", position=1),
        piece(reply, 0, "hel"),
        encode.progress(reply, "chat", NOW),
        piece(reply, 1, "lo"),
    ]
    frames = [parsed(frame) for frame in answers]
    assert {frame["method"] for frame in frames} == {"notifications/progress"}
    assert not any("id" in frame for frame in frames)
    params = [frame["params"] for frame in frames]
    assert [each["progress"] for each in params] == [1, 2, 3, 4, 5, 6]
    assert {each["progressToken"] for each in params} == {token}
    assert [each.get("message") for each in params] == [
        "queued at position 2",
        "running",
        "next",
        "hel",
        None,
        "lo",
    ]
    assert params[0]["_meta"] == {"position": 2, "estimate_s": 1.5}
    assert (params[3]["_meta"], params[5]["_meta"]) == ({"sequence": 0}, {"sequence": 1})


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_its_own_json_rpc_number(code: ErrorCode) -> None:
    assert list(NUMBERS.values()).count(NUMBERS[code]) == 1
    assert -32899 <= NUMBERS[code] <= -32000


@pytest.mark.parametrize("code", sorted(TOOL_FAILURES))
def test_a_failure_in_a_tool_is_a_result(code: ErrorCode) -> None:
    answer = parsed(encode.error(reply_to(4), ErrorBody(code, "no such model", {"model": "x"})))
    assert answer["id"] == 4
    result = answer["result"]
    assert result["isError"] is True
    assert result["content"] == [{"type": "text", "text": f"{code}: no such model"}]
    assert result["_meta"]["error"] == {
        "code": code.value,
        "message": "no such model",
        "details": {"model": "x"},
    }


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - TOOL_FAILURES))
def test_a_failure_before_a_tool_is_an_error(code: ErrorCode) -> None:
    answer = parsed(encode.error(reply_to(4), ErrorBody(code, "no", {"retry_after": 2})))
    assert answer["id"] == 4
    assert answer["error"]["message"] == "no"
    assert answer["error"]["data"] == {"code": code.value, "retry_after": 2}


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (ErrorCode.TOOL_NOT_FOUND, -32602),
        (ErrorCode.INVALID_REQUEST, -32602),
        (ErrorCode.INTERNAL_ERROR, -32603),
        (ErrorCode.OVER_CAPACITY, -32003),
        (ErrorCode.CANCELLED, -32800),
    ],
)
def test_numbers_of_the_specification_are_used(code: ErrorCode, number: int) -> None:
    assert parsed(encode.error(reply_to(), ErrorBody(code, "no")))["error"]["code"] == number


def test_tools_are_listed_in_mcps_form() -> None:
    described = (ToolDescription("chat", "Talk.", {"type": "object"}),)
    assert parsed(encode.tools(reply_of("tools/list", id=2), described)) == {
        "jsonrpc": "2.0",
        "id": 2,
        "result": {
            "tools": [{"name": "chat", "description": "Talk.", "inputSchema": {"type": "object"}}]
        },
    }


def test_a_ping_gets_an_empty_result() -> None:
    assert parsed(encode.pong(reply_of("ping", id="p"), NOW)) == {
        "jsonrpc": "2.0",
        "id": "p",
        "result": {},
    }


def test_only_a_cancel_with_an_id_is_answered() -> None:
    params = {"requestId": 1}
    notified = reply_of("notifications/cancelled", params=params)
    assert encode.cancelled(notified, NOW) is None
    asked = reply_of("notifications/cancelled", params=params, id=8)
    assert parsed(encode.cancelled(asked, NOW)) == {"jsonrpc": "2.0", "id": 8, "result": {}}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_known_version_is_confirmed(version: str) -> None:
    answer = parsed(encode.initialize_result(reply_of("initialize", id=1), version, "s"))
    assert answer["result"]["protocolVersion"] == version


def test_an_unknown_version_is_answered_with_the_newest() -> None:
    answer = parsed(encode.initialize_result(reply_of("initialize", id=1), "1999-01-01", "s"))
    assert answer["result"]["protocolVersion"] == "2025-11-25"
