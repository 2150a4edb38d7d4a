"""The common events of a stream are read in one pass, with the same result as by the general path.

Streams of all kinds are cut anywhere, and what each portion gives is compared.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import Completion, Usage
from exai_actors.wire.openai import stream as stream_module
from exai_actors.wire.openai.common_delta import (
    MAX_BYTES,
    Template,
    read_common_events,
    read_counts,
    template_of,
)
from exai_actors.wire.openai.stream import StreamReader
from tests.cases.answers import further_streams, odd_streams, streams
from tests.wire.openai.test_answers import encode

OPENAI = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1741570283,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "system_fingerprint": "fp_1",
    "choices": [
        {
            "index": 0,
            "delta": {"content": "Gr\u00fc\u00dfe"},
            "logprobs": None,
            "finish_reason": None,
        }
    ],
    "usage": None,
    "obfuscation": "x1",
}
KIMI = {
    "id": "cmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "kimi-k2",
    "choices": [{"index": 0, "delta": {"reasoning_content": "hm", "role": "assistant"}}],
}
BARE = {"choices": [{"delta": {"content": "hi"}}]}
COUNTS = {
    **OPENAI,
    "choices": [],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": None},
        "completion_tokens_details": None,
    },
}
FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def event(value: Any, *, ascii_only: bool = True, colon: bytes = b": ") -> bytes:
    return b"data%b%b\n\n" % (colon, json.dumps(value, ensure_ascii=ascii_only).encode())


def feed_both(stream: bytes, cuts: list[int], *, max_bytes: int = 10_000) -> StreamReader:
    """Read a stream by both paths, in the same portions; return the reader of the usual one."""
    usual, general = StreamReader("m", max_bytes), StreamReader("m", max_bytes)
    for start, end in pairwise([0, *sorted(set(cuts)), len(stream)]):
        portion = stream[start:end]
        if not portion:
            continue
        assert usual.feed(portion) == general.feed_any(portion)
        assert list(usual.in_order()) == list(general.in_order())
        for name in ("ended", "expects_more", "has_begun", "finished", "complete", "failure"):
            assert getattr(usual, name) == getattr(general, name), name
        if usual.ended:
            break
    assert usual.end_of_body() == general.end_of_body()
    assert usual.finish() == general.finish()
    return usual


@pytest.mark.parametrize(
    "value", [OPENAI, KIMI, BARE, FINISH], ids=["openai", "kimi", "bare", "end"]
)
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("colon", [b":", b": "])
def test_a_common_event_is_read_in_one_pass(value: Any, ascii_only: bool, colon: bytes) -> None:
    data = event(value, ascii_only=ascii_only, colon=colon)
    chunks, rest = read_common_events(data * 3 + data[:-1])
    assert (len(chunks), rest) == (3, data[:-1])
    feed_both(data * 3 + event(FINISH), [])


def test_its_texts_and_its_model_are_those_of_the_events() -> None:
    reader = StreamReader("m", 10_000)
    assert reader.feed(event(KIMI) + event(OPENAI) + event(BARE)) == "Gr\u00fc\u00dfehi"
    reader.feed(event(FINISH))
    result = reader.finish()
    assert isinstance(result, Completion)
    assert (result.text, result.reasoning) == ("Gr\u00fc\u00dfehi", "hm")
    assert (result.model, result.finish_reason) == ("gpt-4o-2024-08-06", "stop")


@pytest.mark.parametrize(
    "data",
    [
        event(BARE).replace(b"\n\n", b"\r\n\r\n"),
        event(BARE).replace(b"\n\n", b"\n"),
        event(BARE)[:-2] + b"\nid: 5\n\n",
        b"id: 5\n" + event(BARE),
        b": comment\n\n",
        b"data: [DONE]\n\n",
        b"data: \n\n",
        b"data\n\n",
        b"\n",
        b"DATA: {}\n\n",
        event({**BARE, "error": "broke"}),
        event({**BARE, "base_resp": {"status_code": 7}}),
        event({"choices": []}),
        event({"choices": [*BARE["choices"], *BARE["choices"]]}),
        event({"choices": [{"delta": {"content": "x"}, "index": 1}]}),
        event({"choices": [{"delta": {"content": "x"}, "index": "0"}]}),
        event({"choices": [{"delta": {"content": ["x"]}}]}),
        event({"choices": [{"delta": "x"}]}),
        event({"choices": [{"delta": {"content": "x"}, "message": {"content": "x"}}]}),
        event({"choices": [{"delta": {"content": "x"}, "finish_reason": "error"}]}),
        event({"choices": [{"delta": {"content": "x"}, "finish_reason": ""}]}),
        event({"choices": [{"delta": {"content": "x"}, "usage": {"prompt_tokens": 1}}]}),
        event({"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 1}}),
        event({"choices": [{"delta": {"content": "\ud83d"}}]}),
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"x"}}]} {}\n\n',
        b'data: {"choices":[{"index":0.0,"delta":{"content":"x"}}]}\n\n',
        event(BARE, colon=b": " + b" " * MAX_BYTES),
    ],
)
def test_another_event_is_left_to_the_general_path(data: bytes) -> None:
    assert read_common_events(data) == ([], data)
    for before in (b"", event(BARE), event(OPENAI), b"\xef\xbb\xbf"):
        for after in (b"", event(BARE), event(OPENAI), event(FINISH)):
            stream = before + data + after
            feed_both(stream, [], max_bytes=4 * MAX_BYTES)
    if len(data) < 1000:
        stream = event(BARE) + data + event(KIMI)
        for at in range(1, len(stream), 3):
            feed_both(stream, [at])


@pytest.mark.parametrize("colon", [b":", b": "])
@pytest.mark.parametrize("members", [{}, {"model": "other"}, {"error": None}, {"obfuscation": ""}])
def test_the_counts_behind_the_last_choice_are_read_in_one_pass(
    colon: bytes, members: dict[str, Any]
) -> None:
    data = event({**COUNTS, **members}, colon=colon)
    found = read_counts(data + b"data: [DONE]\n\n")
    assert found is not None
    counts, document, rest = found
    assert (counts.usage, json.loads(document)) == (COUNTS["usage"], {**COUNTS, **members})
    assert rest == b"data: [DONE]\n\n"
    stream = event(OPENAI) + event(FINISH) + data + b"data: [DONE]\n\n"
    for at in range(0, len(stream), 7):
        result = feed_both(stream, [at]).finish()
        assert isinstance(result, Completion)
        assert result.usage == Usage(9, 5, cached_tokens=4)
        assert result.model == members.get("model", "gpt-4o-2024-08-06")


@pytest.mark.parametrize(
    "data",
    [
        event(COUNTS)[:-1],
        event(COUNTS).replace(b"\n\n", b"\r\n\r\n"),
        event(COUNTS)[:-2] + b"\nid: 5\n\n",
        b"id: 5\n" + event(COUNTS),
        event({**COUNTS, "object": "error"}),
        event({**COUNTS, "error": "broke"}),
        event({**COUNTS, "status": 500}),
        event({**COUNTS, "message": "no"}),
        event({**COUNTS, "usage": None}),
        event({**COUNTS, "usage": {"prompt_tokens": "9"}}),
        event({**COUNTS, "usage": {"prompt_tokens": 9.0}}),
        event({**COUNTS, "usage": {"prompt_tokens": -9, "completion_tokens": 5}}),
        event({**COUNTS, "usage": {"prompt_tokens": 9, "completion_tokens": 5, "cost": 0.25}}),
        event({**COUNTS, "choices": None}),
        event({**COUNTS, "choices": OPENAI["choices"]}),
        event({"choices": []}),
        event(COUNTS, colon=b": " + b" " * MAX_BYTES),
        event(COUNTS).replace(b"{", b"{\n", 1),
        event(COUNTS).replace(b"{", b"{\r", 1),
    ],
)
def test_other_counts_are_left_to_the_general_path(data: bytes) -> None:
    assert read_counts(data) is None
    for before in (b"", event(BARE), event(BARE) + event(FINISH)):
        for after in (b"", event(FINISH), event(COUNTS), b"data: [DONE]\n\n"):
            feed_both(before + data + after, [], max_bytes=4 * MAX_BYTES)


def test_counts_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_PASSED_OVER", 10)
    for many in (1, 10, 11):
        feed_both(event(COUNTS) * many + b"data: [DONE]\n\n", [])


def test_an_answer_that_becomes_too_large_fails_where_it_does_by_the_general_path() -> None:
    for size in range(1, 12):
        feed_both(event(BARE) * 6, [], max_bytes=size)
        feed_both((event(KIMI) + event(OPENAI)) * 3, [], max_bytes=size)


texts = st.text(st.sampled_from('ab \u00fc\u5317\U0001f600"\\\n\ud83d\ude00'), max_size=4)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": texts | st.none() | st.just([{"type": "text", "text": "x"}]) | st.just(5),
        "reasoning_content": texts | st.none(),
        "reasoning": texts | st.none(),
        "role": st.sampled_from(["assistant", None, "user"]),
        "refusal": st.none() | texts,
        "tool_calls": st.none() | st.just([]) | st.just([{"index": 0}]),
        "extra": st.none(),
    },
)
choices: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"delta": deltas | st.none() | texts},
    optional={
        "index": st.sampled_from([0, 1, None, "0", "1", 0.0, False]),
        "finish_reason": st.sampled_from([None, "stop", "length", "", "null", "error", "abort", 3]),
        "logprobs": st.none() | st.just({"content": []}),
        "text": texts,
        "message": st.none() | st.fixed_dictionaries({"content": texts}),
        "usage": st.just({"prompt_tokens": 3, "completion_tokens": 5}),
        "error": st.none() | st.just({"message": "broke"}),
    },
)
chunks: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=2) | choices.map(lambda each: [each])},
    optional={
        "model": st.sampled_from(["m", "other", "", None, 4, "\ud83d"]),
        "object": st.sampled_from(["chat.completion.chunk", "error", None]),
        "created": st.sampled_from([1, 1.5, None, 10**30]),
        "usage": st.none() | st.just({"prompt_tokens": 3, "completion_tokens": 5}),
        "error": st.none() | st.just({}) | st.just({"message": "no"}) | st.just("boom"),
        "status": st.sampled_from([200, 500, "error"]),
    },
)
common = st.sampled_from([OPENAI, KIMI, BARE, FINISH, COUNTS])
lines = st.sampled_from(
    [
        b": keepalive\n\n",
        b"data: [DONE]\n\n",
        b"event: ping\ndata: {}\n\n",
        b"event: error\n",
        b"id: 1\n",
        b"\n",
        b"\r\n",
        b"data: null\n\n",
        b"data: \n\n",
        b'{"error":{"message":"worker died"}}\n\n',
        b"upstream connect error\n\n",
        b'data: {"choices":[{"delta":{"content":"',
        b"\xef\xbb\xbf",
        b"\xff\n",
    ]
)
events = st.builds(
    lambda value, ascii_only, colon, end: (
        event(value, ascii_only=ascii_only, colon=colon)[:-2] + end
    ),
    common | chunks,
    st.just(True),
    st.sampled_from([b": ", b":", b":  ", b" : "]),
    st.sampled_from([b"\n\n"] * 5 + [b"\r\n\r\n", b"\n", b"\n\n\n", b"\r\r", b""]),
)
anything = st.lists(events | lines, min_size=1, max_size=8).map(b"".join)


@given(anything, st.lists(st.integers(0, 400), max_size=6))
def test_the_one_pass_changes_nothing_for_any_stream_cut_anywhere(
    stream: bytes, cuts: list[int]
) -> None:
    feed_both(stream, [cut for cut in cuts if cut < len(stream)])


values = (
    texts.map(json.dumps)
    | texts.map(lambda text: json.dumps(text, ensure_ascii=False))
    | st.sampled_from(["null", "5", '["x"]', '"x" ', '"a","content":"b"', '"a","role":"user"', '"'])
).map(lambda text: text.encode("utf-8", "replace"))
envelopes = st.sampled_from(
    [
        (b'data: {"choices":[{"index":0,"delta":{"content":', b'},"finish_reason":null}]}\n\n'),
        (b'data:{"model":"m2","choices":[{"delta":{"content": ', b',"role":null}}]}\n\n'),
        (b'data: {"model":"m3","choices":[{"delta":{"content":', b',"reasoning":"r"}}]}\n\n'),
        (b'data: {"choices":[{"index":0,"delta":{"content":', b'},"finish_reason":"stop"}]}\n\n'),
        (b'data: {"choices":[{"delta":{"content":"1","content":', b"}}]}\n\n"),
        (b'data: {"choices":[{"delta":{"content":', b',"content":"2"}}]}\n\n'),
        (b'data: {"choices":[{"index":1,"delta":{"content":', b"}}]}\n\n"),
    ]
)
like_pieces = st.builds(lambda envelope, value: value.join(envelope), envelopes, values)
runs = st.builds(
    lambda envelope, each: b"".join(value.join(envelope) for value in each),
    envelopes,
    st.lists(values, min_size=2, max_size=4),
)
mixtures = st.lists(runs | runs | like_pieces | events | lines, min_size=1, max_size=6)


@given(mixtures, st.lists(st.integers(0, 400), max_size=3))
def test_bytes_that_are_alike_around_each_piece_change_nothing(
    parts: list[bytes], cuts: list[int]
) -> None:
    ends = [len(b"".join(parts[: number + 1])) for number in range(len(parts))]
    stream = b"".join(parts)
    feed_both(stream, [cut for cut in ends + cuts if cut < len(stream)])


def template(value: Any) -> Template:
    data = event(value)
    (chunk,), _ = read_common_events(data)
    found = template_of(data[:-2], chunk)
    assert found is not None
    return found


def test_of_events_like_one_before_only_the_texts_are_read() -> None:
    alike = template(OPENAI)
    data = event(OPENAI)
    other = data.replace(b'"Gr\\u00fc\\u00dfe"', b'"a \\"b\\""')
    assert alike.read(other) == ('a "b"', b"")
    assert alike.read(other + data) == ('a "b"Gr\u00fc\u00dfe', b"")
    for rest in (b"data: []\n\n", event(BARE), data[:-1], b"\n"):
        assert alike.read(other + data + rest) == ('a "b"Gr\u00fc\u00dfe', rest)
    # Not even those at the beginning: the one between may change what follows it.
    between = other + event(BARE) + data
    assert alike.read(between) == ("", between)
    assert alike.read(event(BARE)) == ("", event(BARE))
    assert alike.read(data * (MAX_BYTES // len(data) + 1))[0] == ""


@pytest.mark.parametrize(
    "value",
    [b'a"\n"b', b'a"\r', b'a","b', b'a" , "b', b'a"\r"b', b'"', b"\xff", b'a"}\n\ndata: {"'],
)
def test_an_event_is_like_another_only_with_one_whole_text(value: bytes) -> None:
    alike, data = template(BARE), event(BARE)
    odd = data.replace(b"hi", value)
    for stream in (odd, data + odd, odd + data, data + odd + data):
        assert alike.read(stream) == ("", stream)
        feed_both(data + stream + event(FINISH), [len(data)])


def test_the_first_event_with_text_is_an_example_for_those_behind_it() -> None:
    first = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    data = event(BARE)
    chunks, rest = read_common_events(first + data + data, until_text=True)
    assert [each.choices[0].delta.content for each in chunks] == ["", "hi"]
    assert rest == data
    feed_both(first + data * 5 + event(FINISH), [len(first + data)])


@pytest.mark.parametrize(
    "data",
    [
        event(KIMI),
        event({"choices": [{"delta": {"content": 'a "b"'}}]}),
        b'data: {"choices":[{"delta":{"content":"1","content":"2"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"1","con\\u0074ent":"2"}}]}\n\n',
    ],
)
def test_an_event_whose_text_cannot_be_replaced_gives_no_template(data: bytes) -> None:
    (chunk,), _ = read_common_events(data)
    assert template_of(data[:-2], chunk) is None


def test_a_template_is_lost_with_the_model_that_it_names() -> None:
    old, new = event(BARE | {"model": "old"}), event(BARE | {"model": "new"})
    reader = feed_both(old + old + new + old + event(FINISH), [len(old), 2 * len(old)])
    result = reader.finish()
    assert isinstance(result, Completion)
    assert result.model == "old"


@pytest.mark.parametrize(
    "case", [*streams.CASES, *further_streams.CASES], ids=lambda case: case.name
)
def test_the_one_pass_changes_nothing_for_reported_streams(case: streams.Case) -> None:
    stream = encode(case.stream)
    feed_both(stream, [])
    for step in (3, 50):
        feed_both(stream, list(range(step, len(stream), step)))


def test_the_one_pass_changes_nothing_for_odd_streams() -> None:
    for number, odd in enumerate(odd_streams.odd_streams(150, seed=1)):
        stream, step = odd.encoded(), 1 + number % 90
        feed_both(stream, [])
        feed_both(stream, list(range(step, len(stream), step)))
