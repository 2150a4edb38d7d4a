"""Answers in the op dialect: sections 0, 5 and 8 of the protocol notes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import ToolResult, Usage
from exai_actors.core.tools.table import ToolDescription
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.answers import HealthSummary
from exai_actors.wire.clients.frames import CallTool, ReplyTo
from tests.wire.clients.wire_client import call, read, said

NOW = 1_763_028_672.25
WRITTEN = "2025-11-13 10:11:12 UTC"


def reply_to(**fields: Any) -> ReplyTo:
    frame = read({"op": "call_tool", "name": "chat"} | fields)
    assert isinstance(frame, CallTool)
    return frame.reply


WITH_ID = reply_to(request_id="r-1")
SINGLE_FRAME = [reply_to(), reply_to(id=7), reply_to(op="tool_call", request_id="r-1")]


def test_a_call_is_told_that_it_was_accepted() -> None:
    assert said(encode.accepted(WITH_ID, "chat", NOW)) == {
        "op": "progress",
        "request_id": "r-1",
        "name": "chat",
        "t": NOW,
        "note": "accepted, awaiting provider/session capacity",
    }


def test_a_call_that_runs_is_acknowledged_with_its_timeout_in_whole_seconds() -> None:
    assert said(encode.acknowledged(WITH_ID, "chat", 67.5)) == {
        "op": "call_tool_ack",
        "request_id": "r-1",
        "accepted": True,
        "timeout": 68,
        "name": "chat",
    }


@pytest.mark.parametrize(
    ("told", "fields"),
    [
        ({}, {}),
        ({"note": "still running"}, {"note": "still running"}),
        ({"position": 3}, {"position": 3}),
        ({"position": 1, "estimate_s": 0.5}, {"position": 1, "estimate_s": 0.5}),
    ],
)
def test_progress_holds_what_there_is_to_tell(told: Any, fields: dict[str, Any]) -> None:
    progress = said(encode.progress(WITH_ID, "chat", NOW, **told))
    assert progress == {"op": "progress", "request_id": "r-1", "name": "chat", "t": NOW} | fields


def test_a_stream_is_numbered_pieces_and_an_end() -> None:
    assert said(encode.chunk(WITH_ID, 0, 'a "€"\n', NOW)) == {
        "op": "stream_chunk",
        "request_id": "r-1",
        "chunk": 'a "€"\n',
        "sequence": 0,
        "timestamp": WRITTEN,
    }
    assert said(encode.stream_complete(WITH_ID, 2, NOW)) == {
        "op": "stream_complete",
        "request_id": "r-1",
        "chunks": 2,
        "timestamp": WRITTEN,
    }


def test_a_stream_without_pieces_has_no_end_which_old_clients_would_take_as_final() -> None:
    assert encode.stream_complete(WITH_ID, 0, NOW) is None


@pytest.mark.parametrize("reply", SINGLE_FRAME)
def test_a_client_of_one_frame_gets_nothing_before_it(reply: ReplyTo) -> None:
    assert encode.accepted(reply, "chat", NOW) is None
    assert encode.acknowledged(reply, "chat", 1.0) is None
    assert encode.progress(reply, "chat", NOW, "note") is None
    assert encode.chunk(reply, 0, "a", NOW) is None
    assert encode.stream_complete(reply, 1, NOW) is None


def test_a_result_has_its_outputs_and_their_text() -> None:
    assert said(encode.result(WITH_ID, ToolResult(("hello",)))) == {
        "op": "call_tool_res",
        "request_id": "r-1",
        "ok": True,
        "outputs": [{"type": "text", "text": "hello"}],
        "text": "hello",
    }


def test_a_result_tells_how_it_came_to_be() -> None:
    result = ToolResult(
        ("hello",),
        continuation_id="c-1",
        model="m",
        provider="kimi",
        finish_reason="stop",
        usage=Usage(3, 4),
        reasoning="thought",
    )
    answer = said(encode.result(WITH_ID, result))
    assert answer["continuation_id"] == "c-1"
    assert answer["metadata"] == {
        "model_used": "m",
        "provider_used": "kimi",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        "reasoning": "thought",
    }


def test_several_outputs_are_joined_and_empty_ones_left_out_of_the_text() -> None:
    answer = said(encode.result(WITH_ID, ToolResult(("a", "", "b"))))
    assert [output["text"] for output in answer["outputs"]] == ["a", "", "b"]
    assert answer["text"] == "a\n\nb"


def test_a_result_without_outputs_has_one_empty_one() -> None:
    answer = said(encode.result(WITH_ID, ToolResult(())))
    assert answer["outputs"] == [{"type": "text", "text": ""}]
    assert answer["text"] == ""


def test_the_joined_text_can_be_left_out() -> None:
    assert "text" not in said(encode.result(WITH_ID, ToolResult(("a",)), compat_text=False))


@pytest.mark.parametrize("reply", SINGLE_FRAME)
def test_a_client_of_one_frame_finds_its_outputs_as_result_too(reply: ReplyTo) -> None:
    answer = said(encode.result(reply, ToolResult(("a", "b"))))
    assert (
        answer["result"]
        == answer["outputs"]
        == [
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
        ]
    )


def test_a_call_without_any_id_is_answered_with_a_null_one() -> None:
    assert said(encode.result(reply_to(), ToolResult(("a",))))["request_id"] is None


def test_the_old_envelope_wraps_each_text_in_the_json_of_the_old_chat() -> None:
    result = ToolResult(("hi",), continuation_id="c-1", model="m", provider="kimi")
    answer = said(encode.result(WITH_ID, result, tool="chat", envelope="ex-ai"))
    wrapped = json.loads(answer["text"])
    assert wrapped["status"] == "continuation_available"
    assert (wrapped["content"], wrapped["content_type"]) == ("hi", "text")
    assert wrapped["metadata"] == {
        "tool_name": "chat",
        "model_used": "m",
        "provider_used": "kimi",
    }
    assert wrapped["continuation_offer"]["continuation_id"] == "c-1"
    assert answer["continuation_id"] == "c-1"


def test_the_old_envelope_without_a_conversation_is_a_plain_success() -> None:
    answer = said(encode.result(WITH_ID, ToolResult(("hi",)), tool="version", envelope="ex-ai"))
    wrapped = json.loads(answer["outputs"][0]["text"])
    assert wrapped == {
        "status": "success",
        "content": "hi",
        "content_type": "text",
        "metadata": {"tool_name": "version"},
    }


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_of_a_call_is_its_result(code: ErrorCode) -> None:
    body = ErrorBody(code, "went wrong", {"retry_after": 1.5})
    assert said(encode.error(WITH_ID, body)) == {
        "op": "call_tool_res",
        "request_id": "r-1",
        "ok": False,
        "error": {"code": code.value, "message": "went wrong", "details": {"retry_after": 1.5}},
    }


def test_an_error_aside_is_not_the_result_of_the_call_that_has_the_id() -> None:
    answer = said(encode.error(WITH_ID.aside(), ErrorBody(ErrorCode.DUPLICATE, "used")))
    assert (answer["op"], answer["request_id"]) == ("error", "r-1")


@pytest.mark.parametrize(
    ("ids", "echo"),
    [
        ({}, {}),
        ({"request_id": "z"}, {"request_id": "z"}),
        ({"id": 3}, {"request_id": "3", "id": 3}),
    ],
)
def test_the_small_operations_are_answered_under_the_id_if_there_is_one(
    ids: dict[str, Any], echo: dict[str, Any]
) -> None:
    def reply(op: str) -> ReplyTo:
        frame: Any = read({"op": op} | ids)
        assert isinstance(frame.reply, ReplyTo)
        return frame.reply

    described = ToolDescription("chat", "Talk to a model.", {"type": "object"})
    listed = {"name": "chat", "description": "Talk to a model.", "inputSchema": {"type": "object"}}
    tools = said(encode.tools(reply("list_tools"), (described,)))
    assert tools == {"op": "list_tools_res", "tools": [listed]} | echo
    pong = said(encode.pong(reply("ping"), NOW))
    assert pong == {"op": "pong", "timestamp": WRITTEN} | echo
    rotated = said(encode.rotated(reply("rotate_token"), None))
    assert rotated == {"op": "rotate_token_res", "ok": True} | echo
    refused = said(encode.rotated(reply("rotate_token"), "missing_params"))
    assert refused == {"op": "rotate_token_res", "ok": False, "error": "missing_params"} | echo
    error = said(encode.error(reply("list_tools"), ErrorBody(ErrorCode.DRAINING, "bye")))
    assert (
        error
        == {
            "op": "error",
            "ok": False,
            "error": {"code": "DRAINING", "message": "bye"},
        }
        | echo
    )


@pytest.mark.parametrize("found", [True, False])
def test_a_cancel_is_answered_itself_and_says_whether_there_was_something_to_cancel(
    found: bool,
) -> None:
    frame: Any = read({"op": "cancel", "request_id": "r-1"})
    assert said(encode.cancelled(frame.reply, NOW, found=found)) == {
        "op": "cancelled",
        "request_id": "r-1",
        "ok": True,
        "found": found,
        "timestamp": WRITTEN,
    }


def test_health_gives_the_figures_the_old_daemon_gave() -> None:
    frame: Any = read({"op": "health"})
    vitals = HealthSummary(NOW, 93_784.9, 3, 24, 5, 6)
    assert said(encode.health(frame.reply, vitals)) == {
        "op": "health_res",
        "ok": True,
        "health": {
            "t": NOW,
            "uptime_human": "26:03:04",
            "sessions": 3,
            "global_capacity": 24,
            "global_inflight": 5,
            "tool_count": 6,
        },
    }


@given(st.text(st.characters(exclude_categories=())), st.text())
def test_any_text_at_all_reaches_the_client_as_proper_json(text: str, tool: str) -> None:
    chunk = said(encode.chunk(WITH_ID, 0, text, NOW))
    answer = said(encode.result(WITH_ID, ToolResult((text,), model=text), tool=tool))
    carried = text.encode("utf-8", "replace").decode()
    assert chunk["chunk"] == answer["text"] == answer["metadata"]["model_used"] == carried
    wrapped = said(encode.result(WITH_ID, ToolResult((text,)), tool=tool, envelope="ex-ai"))
    assert json.loads(wrapped["text"])["content"] == carried
    failed = said(encode.error(WITH_ID, ErrorBody(ErrorCode.INTERNAL_ERROR, text, {"said": text})))
    assert failed["error"]["details"]["said"] == carried


@given(st.text(max_size=512))
def test_a_request_id_of_any_text_comes_back_as_it_was(text: str) -> None:
    frame = call({"op": "call_tool", "name": "chat", "request_id": text})
    for answer in (
        encode.result(frame.reply, ToolResult(("a",))),
        encode.error(frame.reply, ErrorBody(ErrorCode.CANCELLED, "x")),
    ):
        assert said(answer)["request_id"] == text
