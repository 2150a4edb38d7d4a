"""What counts as an answer: cases from public reports and further ones of the same kinds."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import Completion, FailureKind, UpstreamFailure, Usage
from exai_actors.wire.openai.completions import parse_completion
from exai_actors.wire.openai.stream import MAX_PASSED_OVER, StreamReader
from tests.cases.answers import further_streams, streams, usage
from tests.cases.answers.streams import DONE, say


def encode(parts: list[Any]) -> bytes:
    return b"".join(
        part if isinstance(part, bytes) else b"data: " + json.dumps(part).encode() + b"\n\n"
        for part in parts
    )


def read(stream: bytes, portion: int | None = None) -> tuple[str, Completion | UpstreamFailure]:
    reader = StreamReader("m", 10_000)
    step = portion or max(1, len(stream))
    text = ""
    for at in range(0, len(stream), step):
        text += reader.feed(stream[at : at + step])
    text += reader.end_of_body()
    return text, reader.finish()


@pytest.mark.parametrize(
    "case", [*streams.CASES, *further_streams.CASES], ids=lambda case: case.name
)
@pytest.mark.parametrize("portion", [None, 1, 7])
def test_a_stream_has_the_answer_or_failure_of_its_case(
    case: streams.Case, portion: int | None
) -> None:
    sent, result = read(encode(case.stream), portion)
    if case.text is None:
        assert isinstance(result, UpstreamFailure), result
        assert result.kind is case.kind
    else:
        assert isinstance(result, Completion), result
        assert (result.text, result.finish_reason) == (case.text, case.finish_reason)
        assert sent == case.text


@pytest.mark.parametrize(("name", "source", "error", "kind"), streams.ERRORS)
def test_an_error_is_one_wherever_it_is(
    name: str, source: str, error: Any, kind: FailureKind
) -> None:
    around: list[list[Any]] = [[], [say("Hel")], [say("lo")], [say("", "stop")], [DONE]]
    for before, after in pairwise(around):
        for parts in (
            [*before, error, *after, DONE],
            [*before, error],
            [say("Hel", "stop"), error],
        ):
            _, result = read(encode(parts))
            assert isinstance(result, UpstreamFailure), parts
            assert result.kind is kind
    body = parse_completion(json.dumps(error).encode(), "m")
    assert isinstance(body, UpstreamFailure)
    assert body.kind is kind


@pytest.mark.parametrize(("name", "source", "event"), streams.FOREIGN)
def test_an_event_that_is_no_part_of_the_answer_is_passed_over(
    name: str, source: str, event: bytes
) -> None:
    for parts in (
        [event, say("Hel"), say("lo", "stop"), DONE],
        [say("Hel"), event, event, say("lo", "stop"), DONE],
        [say("Hel"), say("lo"), say("", "stop"), event, DONE],
        [say("Hel"), say("lo", "stop"), event],
        [say("Hel"), event, say("lo"), DONE],
    ):
        _, result = read(encode(parts))
        assert isinstance(result, Completion), parts
        assert result.text == "Hello"


@pytest.mark.parametrize(("name", "broken"), streams.BROKEN)
def test_a_broken_chunk_fails_the_answer(name: str, broken: bytes) -> None:
    for parts in (
        [broken, say("Hello", "stop"), DONE],
        [say("Hel"), broken, say("", "stop"), DONE],
    ):
        _, result = read(encode(parts))
        assert isinstance(result, UpstreamFailure), parts
        assert result.kind is FailureKind.MALFORMED


@pytest.mark.parametrize(("name", "source", "usages", "counts"), usage.CASES)
def test_token_counts_are_read_as_far_as_they_can_be(
    name: str, source: str, usages: list[Any], counts: Usage | None
) -> None:
    stream = [say("x", usage=each) for each in usages]
    _, result = read(encode([*stream, say("", "stop"), DONE]))
    assert isinstance(result, Completion)
    assert result.usage == counts
    _, result = read(encode([say("x"), say("", "stop"), *({"usage": u} for u in usages), DONE]))
    assert isinstance(result, Completion)
    assert result.usage == counts
    if len(usages) == 1:
        body = {"choices": [{"message": {"content": "x"}}], "usage": usages[0]}
        whole = parse_completion(json.dumps(body).encode(), "m")
        assert isinstance(whole, Completion)
        assert whole.usage == counts


def test_an_honest_count_of_no_completion_tokens_is_kept() -> None:
    _, result = read(encode([say("", "stop", usage={"prompt_tokens": 3, "completion_tokens": 0})]))
    assert isinstance(result, Completion)
    assert result.usage == Usage(3, 0)


def test_reasoning_in_a_repeated_message_is_not_doubled() -> None:
    thinking = {"choices": [{"delta": {"reasoning_content": "let me "}}]}
    message = {"content": "Hello", "reasoning_content": "let me think"}
    last = {"choices": [{"message": message, "finish_reason": "stop"}]}
    for parts in ([thinking, say("Hel"), last], [thinking, last]):
        _, result = read(encode(parts))
        assert isinstance(result, Completion)
        assert (result.text, result.reasoning) == ("Hello", "let me think")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([say("Hel"), say("lo"), ("Hello", "stop")], "Hello"),
        ([say("Hel"), ("Hello", "stop")], "Hello"),
        ([("Hello", "stop")], "Hello"),
        ([("ha", None), ("ha", "stop")], "haha"),
        ([("Hel", None), ("lo", None), ("", "stop")], "Hello"),
    ],
)
def test_the_text_of_a_choice_behind_deltas_is_the_whole_answer(
    parts: list[Any], text: str
) -> None:
    stream = [
        {"choices": [{"index": 0, "text": part[0], "finish_reason": part[1]}]}
        if isinstance(part, tuple)
        else part
        for part in parts
    ]
    streamed, result = read(encode([*stream, DONE]))
    assert isinstance(result, Completion)
    assert streamed == result.text == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "finish_reason",
                    "error",
                    "code",
                    "detail",
                    "usage",
                    "index",
                    "model",
                    "prompt_tokens",
                    "completion_tokens_details",
                    "base_resp",
                    "status",
                    "object",
                    "type",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=4), st.sampled_from(["", "ping", "error", "done"]))
def test_no_event_makes_the_reader_raise_or_streams_other_text_than_it_returns(
    values: list[Any], kind: str
) -> None:
    stream = b"".join(f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode() for value in values)
    for finish in ([], [say("x", "stop")]):
        raw = stream + encode(finish)
        sent, result = read(raw)
        if isinstance(result, Completion):
            assert sent == result.text
        assert read(raw, 3) == (sent, result)
    for value in values:
        parse_completion(json.dumps(value).encode(), "m")


def test_a_finish_reason_finishes_unless_text_follows() -> None:
    reader = StreamReader("m", 10_000)
    states = []
    for event in (say("Hel"), say("", "stop"), say("lo", "stop")):
        reader.feed(encode([event]))
        states.append((reader.complete, reader.finished))
    assert states == [(False, False), (True, True), (True, False)]


def message(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": finish}]}


def test_a_last_message_that_contradicts_messages_of_all_text_so_far_is_a_failure() -> None:
    _, result = read(encode([message("He"), message("Hello"), message("Bye", "stop"), DONE]))
    assert isinstance(result, UpstreamFailure)
    assert result.kind is FailureKind.MALFORMED


def test_an_answer_that_ends_within_the_read_of_a_flood_is_complete() -> None:
    sent, result = read(b":\n" * (MAX_PASSED_OVER + 1) + encode([say("Hello", "stop"), DONE]))
    assert isinstance(result, Completion)
    assert sent == "Hello"


def test_a_flood_before_an_answer_is_a_failure() -> None:
    _, result = read(b":\n" * (MAX_PASSED_OVER + 1) + encode([say("Hello")]))
    assert isinstance(result, UpstreamFailure)
    assert result.kind is FailureKind.MALFORMED


def test_nothing_after_the_end_is_read_not_even_at_the_end_of_the_body() -> None:
    _, result = read(encode([say("Hello", "stop"), DONE]) + b'data: {"error": "late"}')
    assert isinstance(result, Completion)


def test_an_answer_that_failed_after_its_finish_reason_is_not_complete() -> None:
    reader = StreamReader("m", 10_000)
    reader.feed(encode([say("Hello", "stop")]))
    assert reader.complete
    reader.feed(encode([{"error": {"message": "died"}}]))
    assert not reader.complete


@pytest.mark.parametrize(
    "case", [*streams.CASES, *further_streams.CASES], ids=lambda case: case.name
)
def test_no_failure_quotes_text_of_the_answer(case: streams.Case) -> None:
    _, result = read(encode(case.stream))
    assert isinstance(result, Completion) or "Hel" not in result.message


def test_a_line_of_a_bare_error_that_looks_like_a_comment_is_part_of_it() -> None:
    _, result = read(encode([say("Hel")]) + b'{"error"\n: {"message": "worker died"}}\n\n')
    assert isinstance(result, UpstreamFailure)
    assert "worker died" in result.message
