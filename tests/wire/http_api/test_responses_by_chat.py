"""Responses on chat completions: the request, and the events that come back."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, get_args

import msgspec
import openai.types.responses as sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import RelayCall
from exai_actors.wire.http_api.responses_by_chat import NotTranslatable, by_chat

STREAM = (("content-type", "text/event-stream"),)
EVENTS: dict[str, Any] = {
    get_args(each.model_fields["type"].annotation)[0]: each
    for each in get_args(get_args(sdk.ResponseStreamEvent)[0])
}
"""The events of OpenAI's SDK by their type."""


class Sink:
    def __init__(self) -> None:
        self.status = 0
        self.fields: tuple[tuple[str, str], ...] = ()
        self.length: int | None = None
        self.body = b""
        self.is_whole = False

    def head(self, status: int, fields: tuple[tuple[str, str], ...], length: int | None, /) -> None:
        assert self.status == 0
        self.status, self.fields, self.length = status, fields, length

    def data(self, data: bytes, /) -> None:
        self.body += data

    def whole(self) -> None:
        self.is_whole = True

    def events(self) -> list[dict[str, Any]]:
        """The events, each valid for OpenAI's SDK and named as its type."""
        found = []
        for block in self.body.decode().split("\n\n")[:-1]:
            name, data = block.split("\n")
            content = json.loads(data.removeprefix("data: "))
            assert name == f"event: {content['type']}"
            EVENTS[name.removeprefix("event: ")].model_validate(content)
            found.append(content)
        assert [event["sequence_number"] for event in found] == list(range(len(found)))
        return found


def call(request: dict[str, Any], sink: Sink | None = None) -> RelayCall:
    return RelayCall(
        family="responses",
        path="responses",
        body=json.dumps({"model": "alias", **request}).encode(),
        headers=(),
        model="kimi-k2.6",
        stream=bool(request.get("stream")),
        characters=1.0,
        sink=sink or Sink(),
    )


def chat(**request: Any) -> dict[str, Any]:
    translated = by_chat(call(request))
    assert (translated.family, translated.path) == ("chat", "chat/completions")
    found: dict[str, Any] = json.loads(translated.body)
    assert found.pop("model") == "kimi-k2.6"
    return found


def text(role: str, words: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": words}]}


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
THOUGHT = {"type": "reasoning", "summary": [], "encrypted_content": "exai-reasoning:hm"}
CUSTOM = {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** x"}


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ("hi", [{"role": "user", "content": "hi"}]),
        ([text("user", "hi")], [{"role": "user", "content": "hi"}]),
        ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
        ([text("developer", "be short")], [{"role": "system", "content": "be short"}]),
        (
            [text("user", "hi"), CALL, OUTPUT],
            [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "done"},
            ],
        ),
        (
            [THOUGHT, text("assistant", "I look."), CALL, CALL | {"call_id": "c3"}],
            [
                {
                    "role": "assistant",
                    "content": "I look.",
                    "reasoning_content": "hm",
                    "tool_calls": [CHAT_CALL, CHAT_CALL | {"id": "c3"}],
                }
            ],
        ),
        (
            [THOUGHT, CALL],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": "hm",
                    "tool_calls": [CHAT_CALL],
                }
            ],
        ),
        (
            [CUSTOM, {"type": "custom_tool_call_output", "call_id": "c2", "output": "ok"}],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c2",
                            "type": "function",
                            "function": {"name": "patch", "arguments": '{"input":"*** x"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c2", "content": "ok"},
            ],
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": [{"type": "refusal", "refusal": "no"}, {"type": "x"}],
                }
            ],
            [{"role": "assistant", "content": "no"}],
        ),
        # The reasoning of another service, and items that no chat has.
        ([THOUGHT | {"encrypted_content": "gAAA"}, {"type": "web_search_call", "id": "w"}], []),
        ([3, "x", None], []),
        (None, []),
    ],
)
def test_items_become_messages(items: Any, messages: list[dict[str, Any]]) -> None:
    assert chat(input=items) == {"messages": messages}


def test_images_and_instructions() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}
    parts = [{"type": "input_text", "text": "see"}, image]
    found = chat(instructions="be short", input=[{"role": "user", "content": parts}])
    url = {"url": "data:image/png;base64,AA", "detail": "low"}
    assert found["messages"] == [
        {"role": "system", "content": "be short"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": url},
            ],
        },
    ]


FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
CHAT_FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"max_output_tokens": 9}, {"max_tokens": 9}),
        (
            {"temperature": 0, "top_p": 0.5, "user": "u"},
            {"temperature": 0, "top_p": 0.5, "user": "u"},
        ),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"summary": "auto"}}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            {"tools": [FUNCTION, {"type": "web_search"}], "parallel_tool_calls": True},
            {
                "tools": [{"type": "function", "function": CHAT_FUNCTION}],
                "parallel_tool_calls": True,
            },
        ),
        (
            {"tools": [{"type": "web_search"}], "tool_choice": "auto", "parallel_tool_calls": True},
            {},
        ),
        (
            {"tools": [FUNCTION | {"strict": True}], "tool_choice": "required"},
            {
                "tools": [{"type": "function", "function": CHAT_FUNCTION | {"strict": True}}],
                "tool_choice": "required",
            },
        ),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
            {
                "tools": [{"type": "function", "function": CHAT_FUNCTION}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            },
        ),
        (
            {
                "text": {
                    "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}
                }
            },
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {}, "strict": True},
                }
            },
        ),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"response_format": {"type": "json_object"}},
        ),
        ({"text": {"format": {"type": "text"}}, "store": False, "include": ["x"]}, {}),
        ({"metadata": {"a": "b"}, "prompt_cache_key": "k", "client_metadata": {"x": "y"}}, {}),
    ],
)
def test_members_of_the_request(members: dict[str, Any], expected: dict[str, Any]) -> None:
    assert chat(input=[], **members) == {"messages": [], **expected}


def test_a_free_form_tool_becomes_a_function_of_one_text() -> None:
    (tool,) = chat(input=[], tools=[{"type": "custom", "name": "patch"}])["tools"]
    assert tool["function"]["name"] == "patch"
    assert tool["function"]["parameters"]["required"] == ["input"]


@pytest.mark.parametrize("member", ["previous_response_id", "conversation", "background", "prompt"])
def test_a_request_that_needs_a_stored_response_is_refused(member: str) -> None:
    with pytest.raises(NotTranslatable) as raised:
        by_chat(call({"input": "hi", member: "resp_1"}))
    response = raised.value.response()
    error = json.loads(response.body)["error"]
    assert (response.status, error["code"]) == (400, "not_translatable")
    assert error["message"].startswith(f'"{member}" needs a service that keeps responses')


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","temperature":1e999}',
        b'{"model":"m","input":"\xff"}',
        b'{"model":"m","\xff":1}',
        b'{"model":"m","input":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(NotTranslatable, match="cannot be read"):
        by_chat(msgspec.structs.replace(call({}), body=body))


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    content = {"id": "c9", "created": 7, "choices": choices, **more}
    return b"data: " + json.dumps(content).encode() + b"\n\n"


USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 5,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2},
}
DONE = b"data: [DONE]\n\n"


def streamed(*pieces: bytes, whole: bool = True, **request: Any) -> Sink:
    sink = Sink()
    translated = by_chat(call({"input": "hi", "stream": True, **request}, sink))
    translated.sink.head(200, STREAM, None)
    for piece in pieces:
        translated.sink.data(piece)
    if whole:
        translated.sink.whole()
    return sink


def test_text_comes_piece_by_piece() -> None:
    usage = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
    first = chunk({"role": "assistant", "content": "he"})
    sink = streamed(b": wait\n\n", first, chunk({"content": "llo"}), chunk({}, "stop"), usage, DONE)
    events = sink.events()
    assert (sink.status, sink.fields, sink.length, sink.is_whole) == (200, STREAM, None, True)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["delta"] for event in events if "delta" in event] == ["he", "llo"]
    response = events[-1]["response"]
    assert (response["id"], response["created_at"], response["model"]) == (
        "resp_c9",
        7,
        "kimi-k2.6",
    )
    assert response["output"][0]["content"][0]["text"] == "hello"
    assert response["usage"]["input_tokens_details"] == {
        "cached_tokens": 2,
        "cache_write_tokens": 0,
    }
    assert (response["usage"]["input_tokens"], response["usage"]["output_tokens"]) == (3, 5)


def test_reasoning_and_calls_of_tools() -> None:
    begun = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}}
    second = {"index": 1, "id": "c2", "function": {"name": "patch", "arguments": ""}}
    sink = streamed(
        chunk({"reasoning_content": "h"}),
        chunk({"reasoning_content": "m"}),
        chunk({"content": "I look."}),
        chunk({"tool_calls": [begun]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}, second]}),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": '{"input":"*** x"}'}}]}),
        chunk({}, "tool_calls", usage=USAGE),
        DONE,
        tools=[FUNCTION, {"type": "custom", "name": "patch"}],
    )
    response = sink.events()[-1]["response"]
    reasoning, message, function, custom = response["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert message["content"][0]["text"] == "I look."
    assert {key: function[key] for key in ("call_id", "name", "arguments", "status")} == {
        "call_id": "c1",
        "name": "f",
        "arguments": '{"a":1}',
        "status": "completed",
    }
    assert (custom["type"], custom["call_id"], custom["input"]) == (
        "custom_tool_call",
        "c2",
        "*** x",
    )
    assert "arguments" not in custom
    # The items as the client sends them back are the chat that the service has seen.
    (back,) = chat(input=response["output"])["messages"]
    assert (back["content"], back["reasoning_content"]) == ("I look.", "hm")
    assert [each["function"]["arguments"] for each in back["tool_calls"]] == [
        '{"a":1}',
        '{"input":"*** x"}',
    ]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_half_an_answer_is_incomplete(finish: str, reason: str) -> None:
    last = streamed(chunk({"content": "he"}), chunk({}, finish), DONE).events()[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": reason}


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"message": "no room", "code": "overloaded"}, "overloaded", "no room"),
        ({"message": "no room"}, "server_error", "no room"),
        ("no room", "server_error", "no room"),
    ],
)
def test_an_error_of_the_service_is_a_failed_response(error: Any, code: str, message: str) -> None:
    said = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
    sink = streamed(chunk({"content": "he"}), said, DONE)
    name, data = sink.body.decode().split("\n\n")[-2].split("\n")
    last = json.loads(data.removeprefix("data: "))
    assert name == "event: response.failed"
    assert last["response"]["error"] == {"code": code, "message": message}
    assert sink.body.count(b"event: response.failed") == 1
    assert b"response.completed" not in sink.body


def test_a_stream_that_breaks_off_has_no_last_event() -> None:
    sink = streamed(chunk({"content": "he"}), whole=False)
    assert sink.events()[-1]["type"] == "response.output_text.delta"
    assert not sink.is_whole


def test_a_compressed_stream_is_a_failure() -> None:
    sink = Sink()
    translated = by_chat(call({"input": "hi", "stream": True}, sink))
    translated.sink.head(200, (*STREAM, ("content-encoding", "gzip")), None)
    translated.sink.data(b"\x1f\x8b")
    assert sink.fields == STREAM
    assert b"the service compressed its answer" in sink.body


def test_an_answer_in_one_piece() -> None:
    sink = Sink()
    translated = by_chat(call({"input": "hi", "tools": [FUNCTION]}, sink))
    message = {"role": "assistant", "content": "I look.", "tool_calls": [CHAT_CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = json.dumps({"id": "c9", "created": 7, "choices": [choice], "usage": USAGE}).encode()
    translated.sink.head(200, (("content-type", "application/json"),), len(body))
    translated.sink.data(body[:20])
    translated.sink.data(body[20:])
    assert sink.status == 0
    translated.sink.whole()
    found = json.loads(sink.body)
    assert (sink.status, sink.length, sink.is_whole) == (200, len(sink.body), True)
    response = sdk.Response.model_validate(found)
    assert (response.status, response.output_text) == ("completed", "I look.")
    assert found["output"][1]["arguments"] == '{"a":1}'
    assert found["usage"]["total_tokens"] == 8


WHOLE = (
    chunk({"reasoning": "hm"})
    + chunk({"content": "hé"})
    + b"\r\n: comment\r\n\r\ndata: no json\r\n\r\n"
    + chunk({"content": "llo"}, "stop", usage=USAGE)
    + DONE
)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=5))
def test_cuts_between_any_bytes_change_nothing(cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[a:b] for a, b in pairwise(marks)]
    assert streamed(*pieces).body == streamed(WHOLE).body


@given(
    st.dictionaries(
        st.sampled_from(["input", "tools", "text", "reasoning", "instructions", "tool_choice"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["type", "role", "content", "name", "format", "effort", "text"]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_no_request_is_too_odd(request: dict[str, Any]) -> None:
    by_chat(call(request))


@pytest.mark.parametrize("odd", [5, None, True, ["a"], {"text": "a"}])
@pytest.mark.parametrize("kind", ["input_text", "refusal"])
def test_a_part_whose_text_is_no_text_is_empty(odd: Any, kind: str) -> None:
    part = {"type": kind, "refusal" if kind == "refusal" else "text": odd}
    image = {"type": "input_image", "image_url": "http://x/y.png"}
    for parts in ([part], [part, part], [part, image]):
        content = chat(input=[{"role": "user", "content": parts}])["messages"][0]["content"]
        texts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        assert texts[0]["text"].strip() == ""


@pytest.mark.parametrize("odd", ["5", [5], {"a": 5}, -5, 1e300, "five"])
def test_a_count_of_tokens_that_is_no_number_is_none(odd: Any) -> None:
    details = {"cached_tokens": odd, "reasoning_tokens": odd}
    usage = {
        "prompt_tokens": odd,
        "completion_tokens": odd,
        "prompt_tokens_details": details,
        "completion_tokens_details": details,
    }
    sink = streamed(chunk({"content": "hello"}, "stop", usage=usage), DONE)
    counted = sink.events()[-1]["response"]["usage"]
    assert (counted["input_tokens"], counted["output_tokens"], counted["total_tokens"]) == (0, 0, 0)
    assert counted["input_tokens_details"]["cached_tokens"] == 0
    assert counted["output_tokens_details"]["reasoning_tokens"] == 0
