"""The common form of an answer is read in one pass, with the same result as any other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import Completion, Usage
from exai_actors.wire.openai.common_answer import read_common_answer
from exai_actors.wire.openai.completions import parse_any_completion, parse_completion

OPENAI = {
    "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
    "object": "chat.completion",
    "created": 1741570283,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Grüße aus 北京 \U0001f600",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 1117,
        "completion_tokens": 46,
        "total_tokens": 1163,
        "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 7,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": "fp_fc9f1d7035",
}
REASONED = {
    "model": "kimi-k2",
    "choices": [
        {"message": {"content": "4", "reasoning_content": "2 + 2"}, "finish_reason": "length"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 9},
}
BARE = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("body", [OPENAI, REASONED, BARE], ids=["openai", "reasoned", "bare"])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_common_answer_is_read_in_one_pass(body: Any, ensure_ascii: bool) -> None:
    data = json.dumps(body, ensure_ascii=ensure_ascii).encode()
    found = read_common_answer(data, "m")
    assert found == parse_any_completion(data, "m") == parse_completion(data, "m")
    assert isinstance(found, Completion)


def test_its_counts_and_texts_are_those_of_the_body() -> None:
    assert read_common_answer(json.dumps(REASONED).encode(), "m") == Completion(
        "4", "kimi-k2", "length", Usage(3, 5, 9), "2 + 2"
    )
    found = read_common_answer(json.dumps(OPENAI).encode(), "m")
    assert found is not None
    assert found.usage == Usage(1117, 46, None, 5, 7)


def paths(value: Any) -> list[tuple[Any, ...]]:
    """The paths of all members and items of a value, outermost first."""
    if isinstance(value, dict):
        items: list[tuple[Any, Any]] = list(value.items())
    else:
        items = list(enumerate(value)) if isinstance(value, list) else []
    return [(key, *rest) for key, inner in items for rest in [(), *paths(inner)]]


def changed(body: Any, path: tuple[Any, ...], change: Any) -> Any:
    """A copy of the body with a member replaced by ``change``, or removed if that is ``...``."""
    copied = json.loads(json.dumps(body))
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    if change is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = change
    return copied


ODD_VALUES: list[Any] = [
    *(..., None, "", "0", "stop", "error", "\ud83d", "content_filter", "null"),
    *(0, -1, 1, 7.0, 0.5, 10**13, True, False),
    *([], [{}], {}, {"error": "no"}, {"text": "t"}, {"message": "m", "code": 400}),
]
MORE_MEMBERS = ("error", "text", "delta", "usage", "base_resp", "cost", "reasoning", "index", "x")


@pytest.mark.parametrize("body", [OPENAI, REASONED, BARE], ids=["openai", "reasoned", "bare"])
def test_any_other_value_of_a_member_means_the_same_on_both_paths(body: Any) -> None:
    places = paths(body)
    objects = [(), *(path for path in places if isinstance(_at(body, path), dict))]
    added = [(*path, name) for path in objects for name in MORE_MEMBERS]
    for path in [*places, *added]:
        for value in ODD_VALUES:
            if value is ... and path in added and path not in places:
                continue
            same_on_both_paths(json.dumps(changed(body, path, value)).encode())


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def same_on_both_paths(data: bytes) -> None:
    found = read_common_answer(data, "m")
    if found is not None:
        assert found == parse_any_completion(data, "m"), data


@given(
    at=st.integers(0, 10_000),
    length=st.integers(0, 3),
    other=st.sampled_from(
        [
            b"",
            b"\xff",
            b"\x00",
            b"\n",
            b" ",
            b"\\",
            b'"',
            b"}",
            b"[1,",
            b"NaN",
            b"1e400",
            b"\\ud83d",
        ]
    ),
)
def test_a_damaged_body_means_the_same_on_both_paths(at: int, length: int, other: bytes) -> None:
    data = json.dumps(OPENAI, ensure_ascii=False).encode()
    at %= len(data)
    same_on_both_paths(data[:at] + other + data[at + length :])


@pytest.mark.parametrize("before", [b"", b" \r\n\t", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("after", [b"", b"\n", b"}", b"\x00", b"{}"])
def test_data_around_a_body_means_the_same_on_both_paths(before: bytes, after: bytes) -> None:
    same_on_both_paths(before + json.dumps(OPENAI).encode() + after)
