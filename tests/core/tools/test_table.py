"""The tools: their descriptions, the check of their arguments, and its errors."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from exai_actors.core.tools.chat_arguments import FORWARDED, NEUTRAL, REFUSED
from exai_actors.core.tools.table import (
    ALIASES,
    IGNORED,
    ChatRequest,
    LocalRequest,
    describe_tools,
    parse_call,
)
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.openai.completions import encode_request

ARGUMENTS = st.dictionaries(
    st.sampled_from(
        [
            "prompt",
            "model",
            "continuation_id",
            "temperature",
            "max_tokens",
            "timeout",
            "stream",
            "images",
            "files",
            "thinking_mode",
            "use_websearch",
            "text",
            "message",
            "unheard_of",
        ]
    ),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-1, 10**6),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.sampled_from(["high", "true", "https://x"]),
        st.lists(st.sampled_from(["https://x", "data:image/png", "x", 1]), max_size=3),
    ),
)


TOOLS = [each.name for each in describe_tools(())]


def schema_of(tool: str, models: tuple[str, ...] = ()) -> dict[str, Any]:
    return next(each.input_schema for each in describe_tools(models) if each.name == tool)


def refusal(tool: str, arguments: dict[str, Any]) -> ErrorBody:
    body = parse_call(tool, arguments)
    assert isinstance(body, ErrorBody)
    return body


def test_a_chat_needs_no_more_than_a_prompt() -> None:
    assert parse_call("chat", {"prompt": "hello"}) == ChatRequest(prompt="hello")


@pytest.mark.parametrize(
    "prompt", ["    if x:\n        return 1\n", "\tdiff", "- a\n- b\n\n", "\u3000\u6587"]
)
def test_a_prompt_arrives_as_it_was_sent(prompt: str) -> None:
    assert parse_call("chat", {"prompt": prompt}) == ChatRequest(prompt=prompt)


def test_every_argument_of_chat_arrives() -> None:
    arguments = {
        "prompt": "hello",
        "model": "k2",
        "continuation_id": "c1",
        "temperature": 0.5,
        "max_tokens": 100,
        "images": ["https://example.org/a.png"],
        "stream": "yes",
        "timeout": 30,
        "files": [],
        "thinking_mode": "HIGH",
        "use_websearch": False,
    }
    assert parse_call("chat", arguments) == ChatRequest(
        prompt="hello",
        model="k2",
        continuation_id="c1",
        temperature=0.5,
        max_tokens=100,
        images=("https://example.org/a.png",),
        stream=True,
        timeout_s=30.0,
    )


def test_an_empty_continuation_id_begins_a_new_conversation() -> None:
    request = parse_call("chat", {"prompt": "hello", "continuation_id": ""})
    assert request == ChatRequest(prompt="hello")


def test_arguments_that_are_null_are_left_out() -> None:
    arguments = {"prompt": "hello", "model": None, "unheard_of": None, "tools": None}
    assert parse_call("chat", arguments) == ChatRequest(prompt="hello")


@pytest.mark.parametrize(
    ("tool", "name", "suggestion"),
    [
        ("chat", "temperatur", "temperature"),
        ("chat", "Temperature", "temperature"),
        ("chat", "promt", "prompt"),
        ("chat", "models", "model"),
        ("chat", "maxTokens", "max_tokens"),
        ("chat", "max_completion_tokens", "max_tokens"),
        ("chat", "system_prompt", "system"),
        ("chat", "model_name", "model"),
        ("chat", "engine", "model"),
        ("chat", "question", "prompt"),
        ("chat", "instructions", "system"),
        ("chat", "responseFormat", "response_format"),
        ("chat", "conversation_id", "continuation_id"),
        ("chat", "top-p", "top_p"),
        ("echo", "txt", "text"),
    ],
)
def test_an_unknown_argument_is_refused_with_a_suggestion(
    tool: str, name: str, suggestion: str
) -> None:
    body = refusal(tool, {"prompt": "hello", name: 1})
    assert body.code is ErrorCode.VALIDATION_ERROR
    assert body.message == f"unknown argument '{name}'; did you mean '{suggestion}'?"
    assert body.details == {"field": name, "suggestion": suggestion}


@pytest.mark.parametrize(
    ("tool", "name", "takes"),
    [
        ("chat", "frobnicate", "chat takes prompt, model, continuation_id, "),
        ("chat", "x" * 5000, "chat takes prompt"),
        ("version", "verbose", "version takes none"),
        ("activity", "since", "activity takes none"),
    ],
)
def test_an_argument_like_no_other_is_refused_with_those_that_there_are(
    tool: str, name: str, takes: str
) -> None:
    body = refusal(tool, {"prompt": "x", name: 0} if tool == "chat" else {name: 0})
    assert body.message.startswith(f"unknown argument '{name[:100]}")
    assert takes in body.message
    assert "thinking_mode" not in body.message
    assert len(body.message) < 1000


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NEUTRAL.items() for value in values]
)
def test_a_value_that_leaves_the_answer_as_it_is_is_accepted(name: str, value: object) -> None:
    assert parse_call("chat", {"prompt": "hello", name: value}) == ChatRequest(prompt="hello")


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 2), ("functions", [{}]), ("logprobs", True), ("store", True), ("n", [1])],
)
def test_any_other_value_is_refused(name: str, value: object) -> None:
    assert f"argument '{name}'" in refusal("chat", {"prompt": "hello", name: value}).message


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_passed_on_is_refused_with_the_reason(name: str) -> None:
    body = refusal("chat", {"prompt": "hello", name: "something"})
    assert body.message == f"argument '{name}' is not supported: {REFUSED[name]}"
    assert body.details == {"field": name}


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (
            "chat",
            {"prompt": "x", "_session_id": "s", "thinking_mode": "max", "use_websearch": False},
        ),
        ("test_echo", {"prompt": "x", "delay_ms": 0, "include_metadata": True}),
        ("activity", {"lines": 50}),
        ("health", {"tail_lines": 20}),
        ("status", {"tail_lines": 20}),
        ("version", {"model": "glm-4.5-flash"}),
        ("listmodels", {"model": "glm-4.5-flash"}),
    ],
)
def test_what_old_clients_send_without_effect_is_ignored(
    tool: str, arguments: dict[str, Any]
) -> None:
    ignored = IGNORED[ALIASES.get(tool, tool)]
    plain = {name: value for name, value in arguments.items() if name not in ignored}
    assert plain != arguments
    assert parse_call(tool, arguments) == parse_call(tool, plain)


def upstream(arguments: dict[str, Any], system_prompt: str = "") -> dict[str, Any]:
    """The request that a provider gets."""
    request = parse_call("chat", arguments)
    assert isinstance(request, ChatRequest), request
    body: dict[str, Any] = json.loads(
        encode_request(request.to_upstream("m", system_prompt, (), stream=False))
    )
    return body


FORWARDED_VALUES = {
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "stop": ["END", "\n\n"],
    "seed": -1,
    "presence_penalty": -2,
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    "reasoning_effort": "high",
    "thinking": {"type": "disabled"},
    "enable_thinking": False,
    "user": "ada",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
}


def test_every_forwarded_argument_has_a_value_here() -> None:
    assert FORWARDED_VALUES.keys() == FORWARDED.keys()


@pytest.mark.parametrize("name", FORWARDED_VALUES)
def test_a_forwarded_argument_arrives_at_the_provider(name: str) -> None:
    value = FORWARDED_VALUES[name]
    assert upstream({"prompt": "x", name: value}) == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        name: value,
    }


def test_all_forwarded_arguments_arrive_together() -> None:
    body = upstream({"prompt": "x", "temperature": 2, "max_tokens": 131_072, **FORWARDED_VALUES})
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 2,
        "max_tokens": 131_072,
        **FORWARDED_VALUES,
    }


@pytest.mark.parametrize("name", FORWARDED_VALUES)
def test_a_forwarded_argument_makes_another_call(name: str) -> None:
    plain = parse_call("chat", {"prompt": "x"})
    with_it = parse_call("chat", {"prompt": "x", name: FORWARDED_VALUES[name]})
    assert hash(plain) != hash(with_it)
    assert with_it == parse_call("chat", {name: FORWARDED_VALUES[name], "prompt": "x"})


def test_the_order_of_members_makes_no_other_call() -> None:
    one = {"prompt": "x", "response_format": {"a": 1, "b": {"c": 2, "d": 3}}, "seed": 1}
    other = {"seed": 1, "response_format": {"b": {"d": 3, "c": 2}, "a": 1}, "prompt": "x"}
    assert hash(parse_call("chat", one)) == hash(parse_call("chat", other))


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [SYSTEM, USER, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "  x"}],
        [{"role": "user", "content": [{"type": "text", "text": "look"}, IMAGE, IMAGE]}],
        [USER, {"role": "assistant", "content": "The answer is"}],
    ],
)
def test_messages_arrive_as_they_were_sent(messages: list[dict[str, Any]]) -> None:
    assert upstream({"messages": messages})["messages"] == messages
    with_prompt = upstream({"messages": messages, "prompt": "more"})["messages"]
    assert with_prompt == [*messages, {"role": "user", "content": "more"}]


def test_a_system_prompt_of_the_call_takes_the_place_of_the_configured_one() -> None:
    configured = {"role": "system", "content": "configured"}
    assert upstream({"prompt": "x"}, "configured")["messages"][0] == configured
    assert upstream({"prompt": "x", "system": "Be brief."}, "configured")["messages"] == [
        SYSTEM,
        {"role": "user", "content": "x"},
    ]
    assert upstream({"messages": [USER]}, "configured")["messages"] == [configured, USER]
    assert upstream({"messages": [SYSTEM, USER]}, "configured")["messages"] == [SYSTEM, USER]
    assert upstream({"messages": [USER], "system": "Be brief."}, "c")["messages"] == [SYSTEM, USER]


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ("hello", "messages"),
        ([], "messages"),
        (["hello"], "messages[0]"),
        ([USER, {"role": "function", "content": "x"}], "messages[1].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": [IMAGE]}], "messages[0].content"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "audio"}]}],
            "messages[0].content[1]",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "x"},
                        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
                    ],
                }
            ],
            "messages[0].content[1]",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "x"},
                        {"type": "image_url", "image_url": {"url": "https://a", "detail": "low"}},
                    ],
                }
            ],
            "messages[0].content[1].image_url.detail",
        ),
        ([USER | {"name": 7}], "messages[0].name"),
        ([USER | {"audio": {}}], "messages[0].audio"),
        ([{"role": "assistant", "content": "x", "tool_calls": {}}], "messages[0].tool_calls"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "messages[0].content"),
    ],
)
def test_what_messages_cannot_carry_is_refused_where_it_is(messages: Any, field: str) -> None:
    body = refusal("chat", {"messages": messages})
    assert body.code is ErrorCode.VALIDATION_ERROR
    assert body.details is not None
    assert body.details["field"] == field
    assert not Draft202012Validator(schema_of("chat")).is_valid(
        {"prompt": "x", "messages": messages}
    )


def test_messages_and_a_conversation_of_the_broker_exclude_each_other() -> None:
    body = refusal("chat", {"messages": [USER], "continuation_id": "c"})
    assert "cannot be combined with continuation_id" in body.message


@pytest.mark.parametrize("arguments", [{}, {"prompt": None}, {"model": "k2"}])
def test_a_chat_needs_a_prompt(arguments: dict[str, Any]) -> None:
    body = refusal("chat", arguments)
    assert body.code is ErrorCode.VALIDATION_ERROR
    assert body.message == "Validation failed for 'prompt': is required"
    assert body.details == {"field": "prompt"}


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("prompt", 7, "must be string, got int"),
        ("prompt", "  ", "must not be empty"),
        ("model", "", "must not be empty"),
        ("temperature", 2.5, "must be between 0 and 2, got 2.5"),
        ("max_tokens", 0, "must be between 1 and 10000000, got 0"),
        ("top_p", 1.1, "must be between 0 and 1, got 1.1"),
        ("stop", [1], "must be string or list of strings, got list"),
        ("response_format", "json", "must be object, got str"),
        ("timeout", 4000, "must be between 0.1 and 3600, got 4000"),
        ("continuation_id", "x" * 201, "must have 0 to 200 characters, got 201"),
        ("thinking_mode", "deep", "must be one of minimal, low, medium, high, max"),
        ("stream", 1, "must be bool, got int"),
        ("files", ["a.py"], "must be empty: put the text of the files into the prompt"),
        (
            "images",
            ["file:///etc/passwd"],
            "must hold URLs that begin with https:// or http:// or data:image/",
        ),
    ],
)
def test_an_invalid_argument_is_reported_with_its_name_and_rule(
    field: str, value: Any, problem: str
) -> None:
    body = refusal("chat", {"prompt": "hello", field: value})
    assert body.code is ErrorCode.VALIDATION_ERROR
    assert body.message == f"Validation failed for '{field}': {problem}"
    assert body.details is not None
    assert body.details["field"] == field


def test_a_short_invalid_value_is_part_of_the_error() -> None:
    assert refusal("chat", {"prompt": "hello", "temperature": 9}).details == {
        "field": "temperature",
        "value": 9,
    }


def test_an_unknown_tool_is_refused_with_a_list_of_tools() -> None:
    body = refusal("char", {})
    assert (body.code, body.message) == (ErrorCode.TOOL_NOT_FOUND, "Unknown tool: char")
    assert body.details == {"requested_tool": "char", "available_tools": TOOLS}


@pytest.mark.parametrize(("alias", "tool"), ALIASES.items())
def test_old_names_still_call_their_tools(alias: str, tool: str) -> None:
    assert parse_call(alias, {"text": "hello"}) == parse_call(tool, {"text": "hello"})


def test_echo_takes_its_text_under_each_name() -> None:
    assert parse_call("test_echo", {"prompt": "hello"}) == LocalRequest("echo", "hello")
    assert parse_call("echo", {"prompt": "b", "text": "a", "message": "c"}) == LocalRequest(
        "echo", "a"
    )
    assert parse_call("echo", {"text": "hello"}) == LocalRequest("echo", "hello")
    assert parse_call("echo", {"message": "hello"}) == LocalRequest("echo", "hello")
    assert parse_call("echo", {}) == LocalRequest("echo", "")


def test_every_tool_is_described_with_a_schema() -> None:
    for each in describe_tools(()):
        assert each.description
        Draft202012Validator.check_schema(each.input_schema)


def test_the_models_are_the_choices_of_chat() -> None:
    model = schema_of("chat", ("k2", "glm-4.5"))["properties"]["model"]
    assert model["enum"] == ["k2", "glm-4.5", "auto"]
    assert model["default"] == "auto"
    model = schema_of("chat", ("auto", "glm-4.5"))["properties"]["model"]
    assert model["enum"] == ["auto", "glm-4.5"]
    assert "default" not in model


def test_one_description_does_not_show_in_the_next() -> None:
    describe_tools(("k2",))
    assert "enum" not in schema_of("chat")["properties"]["model"]


@pytest.mark.parametrize("tool", TOOLS)
@given(arguments=ARGUMENTS)
def test_arguments_that_fit_the_schema_are_never_refused(
    tool: str, arguments: dict[str, Any]
) -> None:
    if Draft202012Validator(schema_of(tool)).is_valid(arguments):
        assert not isinstance(parse_call(tool, arguments), ErrorBody)


@given(
    tool=st.one_of(st.sampled_from([*TOOLS, *ALIASES]), st.text(max_size=5)),
    arguments=ARGUMENTS,
)
def test_a_call_is_a_request_or_an_error_that_can_be_sent(
    tool: str, arguments: dict[str, Any]
) -> None:
    match parse_call(tool, arguments):
        case ErrorBody() as body:
            assert msgspec.json.decode(msgspec.json.encode(body), type=ErrorBody) == body
        case request:
            # A repeat is distinguished from another call by this hash.
            assert hash(request) == hash(parse_call(tool, arguments))


def test_a_conversation_with_tools_passes_unchanged() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "x", "name": "ada"},
        {"role": "user", "content": [{"type": "text", "text": "y"}, IMAGE], "name": "ada"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "r"},
        {"role": "tool", "content": "", "tool_call_id": "c"},
    ]
    assert upstream({"messages": messages})["messages"] == messages


def test_further_members_of_a_request_pass() -> None:
    extra = {"vendor_option": {"deep": [1.5]}, "safety": "off"}
    body = upstream({"prompt": "x", "top_p": 0.5, "extra_body": extra})
    assert {**extra, "top_p": 0.5}.items() <= body.items()
    assert parse_call("chat", {"prompt": "x", "extra_body": {}}) == ChatRequest(prompt="x")


@pytest.mark.parametrize("member", ["model", "messages", "stream", "n", "top_p", "timeout"])
def test_members_that_the_broker_makes_cannot_be_extra(member: str) -> None:
    body = refusal("chat", {"prompt": "x", "extra_body": {member: 1}})
    assert (body.details or {})["field"] == "extra_body"
    assert member in body.message
