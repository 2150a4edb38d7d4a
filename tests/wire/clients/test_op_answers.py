"""Answers in the op dialect."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import ToolResult
from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics
from exai_actors.core.tools.table import ToolDescription
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.frames import CallTool, ReplyTo
from tests.wire.clients.wire_client import call, parsed, piece, read

NOW = 1_763_028_672.25
WRITTEN = "2025-11-13 10:11:12 UTC"


def reply_to(**fields: Any) -> ReplyTo:
    frame = read({"op": "call_tool", "name": "chat"} | fields)
    assert isinstance(frame, CallTool)
    return frame.reply


WITH_ID = reply_to(request_id="r-1")
SINGLE_FRAME = [reply_to(), reply_to(id=7), reply_to(op="tool_call", request_id="r-1")]


def test_an_accepted_call_gets_a_progress_frame() -> None:
    assert parsed(encode.accepted(WITH_ID, "chat", NOW)) == {
        "op": "progress",
        "request_id": "r-1",
        "name": "chat",
        "t": NOW,
        "note": "accepted, awaiting provider/session capacity",
    }


def test_a_running_call_is_acknowledged_with_its_timeout() -> None:
    assert parsed(encode.acknowledged(WITH_ID, "chat", 67.5)) == {
        "op": "call_tool_ack",
        "request_id": "r-1",
        "accepted": True,
        "timeout": 68,
        "name": "chat",
    }


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, {}),
        ({"note": "still running"}, {"note": "still running"}),
        ({"position": 3}, {"position": 3}),
        ({"position": 1, "estimate_s": 0.5}, {"position": 1, "estimate_s": 0.5}),
    ],
)
def test_progress_has_the_known_fields(given: Any, fields: dict[str, Any]) -> None:
    progress = parsed(encode.progress(WITH_ID, "chat", NOW, **given))
    assert progress == {"op": "progress", "request_id": "r-1", "name": "chat", "t": NOW} | fields


def test_a_stream_has_numbered_chunks_and_an_end() -> None:
    assert parsed(piece(WITH_ID, 0, 'a "€"\n')) == {
        "op": "stream_chunk",
        "request_id": "r-1",
        "chunk": 'a "€"\n',
        "sequence": 0,
        "timestamp": WRITTEN,
    }
    assert parsed(encode.stream_complete(WITH_ID, 2, NOW)) == {
        "op": "stream_complete",
        "request_id": "r-1",
        "chunks": 2,
        "timestamp": WRITTEN,
    }


def test_a_stream_without_chunks_has_no_end() -> None:
    assert encode.stream_complete(WITH_ID, 0, NOW) is None


@pytest.mark.parametrize("reply", SINGLE_FRAME)
def test_a_single_frame_client_gets_nothing_before_its_result(reply: ReplyTo) -> None:
    assert encode.accepted(reply, "chat", NOW) is None
    assert encode.acknowledged(reply, "chat", 1.0) is None
    assert encode.progress(reply, "chat", NOW, note="note") is None
    assert encode.piece_frame(reply, lambda: NOW) is None
    assert encode.reasoning_frame(reply, lambda: NOW) is None
    assert encode.stream_complete(reply, 1, NOW) is None


def test_a_result_has_its_outputs_and_their_text() -> None:
    assert parsed(encode.result(WITH_ID, ToolResult(("hello",)))) == {
        "op": "call_tool_res",
        "request_id": "r-1",
        "ok": True,
        "outputs": [{"type": "text", "text": "hello"}],
        "text": "hello",
    }


def test_a_call_without_id_is_answered_with_a_null_id() -> None:
    assert parsed(encode.result(reply_to(), ToolResult(("a",))))["request_id"] is None


def test_the_old_envelope_wraps_each_text_in_json() -> None:
    result = ToolResult(("hi",), continuation_id="c-1", model="m", provider="kimi")
    answer = parsed(encode.result(WITH_ID, result, tool="chat", envelope="ex-ai"))
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


def test_the_old_envelope_without_conversation_is_a_success() -> None:
    answer = parsed(encode.result(WITH_ID, ToolResult(("hi",)), tool="version", envelope="ex-ai"))
    wrapped = json.loads(answer["outputs"][0]["text"])
    assert wrapped == {
        "status": "success",
        "content": "hi",
        "content_type": "text",
        "metadata": {"tool_name": "version"},
    }


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_of_a_call_is_its_result_frame(code: ErrorCode) -> None:
    body = ErrorBody(code, "went wrong", {"retry_after": 1.5})
    assert parsed(encode.error(WITH_ID, body)) == {
        "op": "call_tool_res",
        "request_id": "r-1",
        "ok": False,
        "error": {"code": code.value, "message": "went wrong", "details": {"retry_after": 1.5}},
    }


def test_an_error_aside_is_not_a_result_frame() -> None:
    answer = parsed(encode.error(WITH_ID.aside(), ErrorBody(ErrorCode.DUPLICATE, "used")))
    assert (answer["op"], answer["request_id"]) == ("error", "r-1")


@pytest.mark.parametrize(
    ("ids", "echo"),
    [
        ({}, {}),
        ({"request_id": "z"}, {"request_id": "z"}),
        ({"id": 3}, {"request_id": "3", "id": 3}),
    ],
)
def test_other_operations_are_answered_under_their_id(
    ids: dict[str, Any], echo: dict[str, Any]
) -> None:
    def reply(op: str) -> ReplyTo:
        frame: Any = read({"op": op} | ids)
        assert isinstance(frame.reply, ReplyTo)
        return frame.reply

    described = ToolDescription("chat", "Talk to a model.", {"type": "object"})
    listed = {"name": "chat", "description": "Talk to a model.", "inputSchema": {"type": "object"}}
    tools = parsed(encode.tools(reply("list_tools"), (described,)))
    assert tools == {"op": "list_tools_res", "tools": [listed]} | echo
    pong = parsed(encode.pong(reply("ping"), NOW))
    assert pong == {"op": "pong", "timestamp": WRITTEN} | echo
    rotated = parsed(encode.rotated(reply("rotate_token"), None))
    assert rotated == {"op": "rotate_token_res", "ok": True} | echo
    refused = parsed(encode.rotated(reply("rotate_token"), "missing_params"))
    assert refused == {"op": "rotate_token_res", "ok": False, "error": "missing_params"} | echo
    error = parsed(encode.error(reply("list_tools"), ErrorBody(ErrorCode.DRAINING, "bye")))
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
def test_a_cancel_is_answered_with_whether_it_found_a_request(
    found: bool,
) -> None:
    frame: Any = read({"op": "cancel", "request_id": "r-1"})
    assert parsed(encode.cancelled(frame.reply, NOW, found=found)) == {
        "op": "cancelled",
        "request_id": "r-1",
        "ok": True,
        "found": found,
        "timestamp": WRITTEN,
    }


def provider(**counts: int) -> ProviderStatistics:
    fields = msgspec.structs.fields(ProviderStatistics)
    zeros = {field.name: 0 for field in fields if field.type is int}
    facts = {"name": "kimi", "kind": "openai", "models": (), "mean_service_s": None}
    return msgspec.convert(zeros | facts | counts, ProviderStatistics)


def test_health_has_the_figures_of_the_old_daemon() -> None:
    frame: Any = read({"op": "health"})
    statistics = BrokerStatistics(
        version="1",
        uptime_s=93_784.9,
        connections=1,
        sessions=3,
        draining=False,
        dead_letters=0,
        providers=(provider(limit=20, in_flight=2), provider(limit=4, in_flight=3)),
    )
    answer = encode.health(frame.reply, statistics, now_wall=NOW, tool_count=6)
    assert parsed(answer) == {
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
def test_any_text_is_sent_as_valid_json(text: str, tool: str) -> None:
    chunk = parsed(piece(WITH_ID, 0, text))
    answer = parsed(encode.result(WITH_ID, ToolResult((text,), model=text), tool=tool))
    carried = text.encode("utf-8", "replace").decode()
    assert chunk["chunk"] == answer["text"] == answer["metadata"]["model_used"] == carried
    wrapped = parsed(encode.result(WITH_ID, ToolResult((text,)), tool=tool, envelope="ex-ai"))
    assert json.loads(wrapped["text"])["content"] == carried
    failed = parsed(
        encode.error(WITH_ID, ErrorBody(ErrorCode.INTERNAL_ERROR, text, {"text": text}))
    )
    assert failed["error"]["details"]["text"] == carried


@given(st.text(max_size=512))
def test_any_request_id_is_echoed_unchanged(text: str) -> None:
    frame = call({"op": "call_tool", "name": "chat", "request_id": text})
    for answer in (
        encode.result(frame.reply, ToolResult(("a",))),
        encode.error(frame.reply, ErrorBody(ErrorCode.CANCELLED, "x")),
    ):
        assert parsed(answer)["request_id"] == text
