"""Taps find the end, the counts and the errors of an answer, wherever its bytes are cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exai_actors.core.calls import Usage
from exai_actors.core.families import Family
from exai_actors.wire.http_api import taps
from exai_actors.wire.http_api.taps import IS_USUAL, WORTH_READING, Tap


def event(content: Any, name: str = "") -> bytes:
    data = content if isinstance(content, bytes) else orjson.dumps(content)
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"


def choice(text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": reason, **more}]}


CHAT_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 4,
    "total_tokens": 20,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 6},
}
ANTHROPIC_USAGE = {
    "input_tokens": 1,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 7,
    "output_tokens": 4,
}
CASES: list[tuple[Family, list[bytes], Usage, str]] = [
    (
        "chat",
        [
            event(choice("a")),
            event(choice("", "stop")),
            event({"choices": [], "usage": CHAT_USAGE}),
        ],
        Usage(10, 4, 20, 8, 6),
        "stop",
    ),
    (
        "chat",
        [event(choice("a")), event(choice("", "length", usage={"prompt_tokens": 3}))],
        Usage(3, 0),
        "length",
    ),
    (
        "messages",
        [
            event({"type": "message_start", "message": {"usage": {"output_tokens": 1}}}),
            event(
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn"},
                    "usage": ANTHROPIC_USAGE,
                }
            ),
            event({"type": "message_stop"}),
        ],
        Usage(10, 4, None, 7),
        "end_turn",
    ),
    (
        "responses",
        [
            event({"type": "response.created", "response": {}}),
            event(
                {
                    "type": "response.incomplete",
                    "response": {
                        "status": "incomplete",
                        "usage": {"input_tokens": 2, "output_tokens": 3},
                    },
                }
            ),
        ],
        Usage(2, 3),
        "incomplete",
    ),
]


def read(family: Family, stream: bytes, cuts: list[int], **options: bool) -> Tap:
    tap = Tap(family, **options)
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for start, end in pairwise(ends):
        tap.stream(stream[start:end])
    tap.end_of_stream()
    return tap


@given(
    st.sampled_from(CASES),
    st.lists(st.integers(0, 900)),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sampled_from([b"", b": comment\n\n", b"\n\n", b"retry: 5\n"]),
    st.integers(0, 3),
)
def test_the_end_and_the_counts_are_found_wherever_the_stream_is_cut(
    case: tuple[Family, list[bytes], Usage, str],
    cuts: list[int],
    line_end: bytes,
    noise: bytes,
    missing: int,
) -> None:
    family, events, usage, reason = case
    stream = noise.join([b"", *events]).replace(b"\n", line_end)
    if missing and line_end == b"\n":
        stream = stream[:-missing] if missing < 3 else stream
    tap = read(family, stream, cuts)
    assert (tap.is_whole, tap.usage, tap.finish_reason) == (True, usage, reason)
    assert tap.error is None


@pytest.mark.parametrize("case", CASES)
def test_without_its_last_events_an_answer_is_not_whole(
    case: tuple[Family, list[bytes], Usage, str],
) -> None:
    family, events, _, _ = case
    assert not read(family, events[0], []).is_whole


@pytest.mark.parametrize(
    "text",
    [
        '"finish_reason":"stop"',
        "[DONE]",
        'data: {"error":{"a":1}}',
        '"type":"message_stop"',
        "\n\n",
    ],
)
@pytest.mark.parametrize("family", ["chat", "messages", "responses"])
def test_words_inside_of_an_answer_end_nothing(family: Family, text: str) -> None:
    content = choice(text) if family == "chat" else {"type": "delta", "delta": {"text": text}}
    tap = read(family, event(content) * 3, [40, 41])
    assert (tap.is_whole, tap.error, tap.events) == (False, None, 3)


@pytest.mark.parametrize(
    ("family", "stream", "error"),
    [
        ("chat", event({"error": {"message": "m"}}), {"message": "m"}),
        ("chat", event(b"not json", "error"), "not json"),
        ("chat", event({"error": "text"}), "text"),
        ("messages", event({"type": "error", "error": {"type": "t"}}, "error"), {"type": "t"}),
        ("messages", event({"type": "error"}), {"type": "error"}),
        ("responses", event({"type": "error", "message": "m"}), {"type": "error", "message": "m"}),
        (
            "responses",
            event({"type": "response.failed", "response": {"error": {"c": 1}}}),
            {"c": 1},
        ),
        (
            "responses",
            event({"type": "response.failed", "response": {}}),
            "the service gave no reason",
        ),
    ],
)
def test_the_services_errors_are_found(family: Family, stream: bytes, error: object) -> None:
    assert read(family, stream, [5]).error == error


BLANKS = st.text(" \t\n", max_size=2)
WORDS = st.sampled_from(
    [
        '"finish_reason"',
        '"usage"',
        '"error"',
        "[DONE]",
        "event",
        "error",
        '"type"',
        '"message_start"',
        '"message_delta"',
        '"message_stop"',
        '"response.created"',
        '"response.completed"',
        '"response.incomplete"',
        '"response.failed"',
        ":",
        "{",
        "null",
        '"stop"',
        "\\",
    ]
)


@given(st.lists(st.tuples(WORDS, BLANKS)), st.sampled_from(["chat", "messages", "responses"]))
def test_usual_data_contains_no_event_worth_reading(
    words: list[tuple[str, str]], family: Family
) -> None:
    data = "".join(word + blank for word, blank in words).encode()
    assert not (IS_USUAL[family](data) and WORTH_READING[family].search(data))


@pytest.mark.parametrize(
    ("family", "data"),
    [
        ("chat", event(choice("a", usage=None))),
        ("messages", event({"type": "content_block_delta", "delta": {"text": "a"}})),
        ("responses", event({"type": "response.output_text.delta", "delta": "a"})),
    ],
)
def test_the_pieces_of_an_answer_are_usual(family: Family, data: bytes) -> None:
    assert IS_USUAL[family](data)


@given(st.lists(st.sampled_from([10, 500, 3_000]), max_size=6), st.integers(0, 6))
def test_the_end_is_found_among_events_of_any_size(sizes: list[int], place: int) -> None:
    events = [event(choice("x" * size)) for size in sizes]
    events.insert(place, event(choice("x" * 3_000, "stop")))
    tap = read("chat", b"".join(events), [])
    assert (tap.is_whole, tap.events) == (True, len(events))


def test_several_answers_end_with_the_mark_of_the_end() -> None:
    stream = event(choice("", "stop"))
    assert not read("chat", stream, [], needs_done=True).is_whole
    assert read("chat", stream + event(b"[DONE]"), [], needs_done=True).is_whole
    assert read("chat", event(b"[DONE]"), []).is_whole


@pytest.mark.parametrize(
    ("family", "body", "usage", "error"),
    [
        ("chat", {"choices": [], "usage": CHAT_USAGE}, Usage(10, 4, 20, 8, 6), None),
        ("messages", {"content": [], "usage": ANTHROPIC_USAGE}, Usage(10, 4, None, 7), None),
        (
            "responses",
            {"output": [], "error": None, "usage": {"input_tokens": 2}},
            Usage(2, 0),
            None,
        ),
        ("embeddings", {"data": [], "usage": {"prompt_tokens": 9}}, Usage(9, 0), None),
        ("chat", {"error": {"message": "m"}}, None, {"message": "m"}),
        ("messages", {"type": "error", "error": {"type": "t"}}, None, {"type": "t"}),
        ("chat", {"usage": {"prompt_tokens": "many", "completion_tokens": -1}}, Usage(0, 0), None),
        ("chat", {"choices": [7, {"usage": []}], "usage": [1]}, None, None),
        ("chat", {"usage": {"prompt_tokens": True, "completion_tokens": 1e30}}, Usage(1, 0), None),
    ],
)
def test_an_answer_in_one_piece(
    family: Family, body: dict[str, Any], usage: Usage | None, error: object
) -> None:
    tap = Tap(family)
    assert tap.body(orjson.dumps(body))
    assert (tap.usage, tap.error, tap.is_whole) == (usage, error, True)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_no_answer(body: bytes) -> None:
    assert not Tap("chat").body(body)


def test_tokens_that_were_not_counted_are_estimated() -> None:
    assert read("chat", event(choice("a")) * 7, []).counted() == Usage(0, 7)
    tap = Tap("messages")
    tap.body(orjson.dumps({"content": "x" * 386}))
    assert tap.counted() == Usage(0, 100)


def test_an_event_without_an_end_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exai_actors.wire.http_api.taps.MAX_EVENT_BYTES", 1_000)
    tap = Tap("chat")
    for _ in range(100):
        tap.stream(b"x" * 100)
        assert len(tap._pending) <= 1_000


COUNTS = st.one_of(st.none(), st.integers(-2, 9), st.just(10**15), st.just(True), st.just("7"))
DETAILS = st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "other"]), COUNTS)
USAGE = st.fixed_dictionaries(
    {"prompt_tokens": COUNTS, "completion_tokens": COUNTS},
    optional={
        "total_tokens": COUNTS,
        "prompt_tokens_details": st.one_of(st.none(), DETAILS),
        "completion_tokens_details": st.one_of(st.none(), DETAILS),
        "input_tokens_details": DETAILS,
        "output_tokens_details": DETAILS,
        "cache_read_input_tokens": COUNTS,
        "cache_creation_input_tokens": COUNTS,
    },
)
CHOICE = st.fixed_dictionaries(
    {"message": st.just({"content": "text"})},
    optional={
        "finish_reason": st.sampled_from(["stop", "", None, 5]),
        "usage": st.one_of(st.none(), USAGE),
    },
)
CHAT = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.one_of(st.none(), st.lists(st.one_of(CHOICE, st.just(7)), max_size=2)),
        "usage": st.one_of(st.none(), st.just("odd"), USAGE),
        "model": st.sampled_from(["m", "", None, 1]),
        "error": st.sampled_from([None, "", {}, {"message": "no"}]),
    },
)
PLAIN_USAGE = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)},
    optional={"total_tokens": st.integers(0, 30), "prompt_tokens_details": DETAILS},
)
PLAIN_CHAT = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2), "usage": PLAIN_USAGE, "model": st.just("m")}
)


@given(st.one_of(CHAT, PLAIN_CHAT), st.sampled_from([b"", b"\xff", b"\\ud83d", "é".encode()]))
@settings(max_examples=500)
def test_a_whole_chat_by_the_letter_is_read_as_any_other(chat: Any, text: bytes) -> None:
    body = orjson.dumps(chat).replace(b"text", text)

    def read() -> tuple[Any, ...]:
        tap = Tap("chat")
        found = tap.body(body)
        return found, tap.is_whole, tap.model, tap.finish_reason, tap.usage, tap.error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taps, "_whole_chat", msgspec.json.Decoder(int).decode)
        expected = read()
    assert read() == expected


@pytest.mark.parametrize(
    "pieces",
    [
        (b"data: 1\r\n\r\ndata: 2\n\n",),
        (b"data: 1\r\n\r\n", b"data: 2\n\n"),
        (b"data: 1\n\n", b"data: 2\r\n\r", b"\n\n"),
    ],
)
def test_events_are_counted_whatever_ends_their_lines(pieces: tuple[bytes, ...]) -> None:
    tap = Tap("chat")
    for piece in pieces:
        tap.stream(piece)
    assert tap.events == 2
