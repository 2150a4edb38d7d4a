"""Tool calls in answers: whole, in parts over a stream, and in the odd forms of services."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import Completion, FailureKind, UpstreamFailure
from exai_actors.wire.openai.completions import parse_completion
from exai_actors.wire.openai.stream import StreamReader
from exai_actors.wire.openai.tool_calls import MAX_CALLS

WEATHER = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Zürich"}'},
}
TIME = {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}


def answer(message: dict[str, Any], reason: str = "tool_calls") -> Completion | UpstreamFailure:
    body = {"choices": [{"message": message, "finish_reason": reason}]}
    return parse_completion(orjson.dumps(body), "m")


def calls(result: Completion | UpstreamFailure) -> Any:
    assert isinstance(result, Completion), result
    return orjson.loads(result.tool_calls or b"[]")


def stream(*deltas: Any, reason: str | None = "tool_calls", limit: int = 100_000) -> Any:
    reader = StreamReader("m", limit)
    for delta in deltas:
        event = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        reader.feed(b"data: %b\n\n" % orjson.dumps(event))
    if reason is not None:
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
        reader.feed(b"data: %b\n\n" % orjson.dumps(last))
    reader.feed(b"data: [DONE]\n\n")
    return reader.finish()


def parts(call: dict[str, Any], index: int, cuts: list[int]) -> list[dict[str, Any]]:
    """The call as deltas: its beginning, and its arguments cut into pieces."""
    function = call["function"]
    text = function["arguments"]
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    begin = {**call, "function": {"name": function["name"], "arguments": ""}, "index": index}
    pieces = [text[start:end] for start, end in pairwise(ends)]
    return [begin, *({"index": index, "function": {"arguments": piece}} for piece in pieces)]


def test_calls_in_a_message() -> None:
    result = answer({"content": None, "tool_calls": [WEATHER, TIME]})
    assert calls(result) == [WEATHER, TIME]
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason) == ("", "tool_calls")


@given(st.lists(st.integers(0, 20)), st.lists(st.integers(0, 3)), st.randoms(use_true_random=False))
def test_calls_in_parts(first: list[int], second: list[int], random: Any) -> None:
    one, two = parts(WEATHER, 0, first), parts(TIME, 1, second)
    deltas = [{"tool_calls": [one.pop(0)]}, {"tool_calls": [two.pop(0)]}]
    while one or two:
        queue = random.choice([each for each in (one, two) if each])
        deltas.append({"tool_calls": [queue.pop(0)]})
    found = calls(stream({"role": "assistant", "content": "Let me see."}, *deltas))
    assert found == [WEATHER, TIME]


def test_a_stream_of_calls_alone_has_begun_and_is_an_answer() -> None:
    assert calls(stream({"tool_calls": [{**TIME, "index": 0}]}, reason=None)) == [TIME]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([[TIME], [{"function": {"arguments": ""}}]], [TIME]),
        ([[WEATHER], [TIME]], [WEATHER, TIME]),
        ([TIME], [TIME]),
        ([[{**TIME, "function": {"name": "time", "arguments": {}}}]], [TIME]),
        ([[{**TIME, "index": 5}], [{**WEATHER, "index": 2}]], [TIME, WEATHER]),
        ([[{**TIME, "index": 0, "extra": {"a": 1}}]], [{**TIME, "extra": {"a": 1}}]),
        ([[{**TIME, "index": 0, "id": None}]], [{**TIME, "id": ""}]),
        ([[]], []),
        ([None], []),
    ],
)
def test_odd_forms(deltas: list[Any], expected: list[Any]) -> None:
    assert calls(stream({"content": "x"}, *({"tool_calls": each} for each in deltas))) == expected


@pytest.mark.parametrize("broken", ["text", [1], 7])
def test_calls_that_cannot_be_read_break_the_answer(broken: Any) -> None:
    for result in (stream({"tool_calls": broken}), answer({"content": "", "tool_calls": broken})):
        assert isinstance(result, UpstreamFailure)
        assert result.kind is FailureKind.MALFORMED


def test_calls_count_to_the_size_of_an_answer() -> None:
    many = [{"index": 0, "function": {"arguments": "x" * 600}}]
    result = stream(*[{"tool_calls": many}] * 2, limit=1_000)
    assert isinstance(result, UpstreamFailure)
    assert result.kind is FailureKind.TOO_LARGE
    many = [{"index": index} for index in range(MAX_CALLS + 1)]
    assert isinstance(stream({"tool_calls": many}), UpstreamFailure)
