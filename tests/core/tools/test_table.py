"""The tools: their descriptions, the check of their arguments, and its errors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from exai_actors.core.tools.table import (
    ALIASES,
    ChatRequest,
    LocalRequest,
    describe_tools,
    parse_call,
)
from exai_actors.errors import ErrorBody, ErrorCode

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
    assert parse_call("chat", {"prompt": " hello "}) == ChatRequest(prompt="hello")


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


def test_arguments_that_are_null_or_unknown_are_left_out() -> None:
    request = parse_call("chat", {"prompt": "hello", "model": None, "unheard_of": {"a": [1]}})
    assert request == ChatRequest(prompt="hello")


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
        ("temperature", 1.5, "must be between 0 and 1, got 1.5"),
        ("max_tokens", 0, "must be between 1 and 100000, got 0"),
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
