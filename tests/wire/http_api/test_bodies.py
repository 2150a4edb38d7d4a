"""Another name of the model replaces its value, and no other byte."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.relay import with_model
from exai_actors.wire.http_api.families import read_body

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
    | st.sampled_from(["m", '"model":"m"', "model", '\\"model\\": \\"m\\"']),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["model", "a", "é", '"model":"m"']), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip
QUOTE = '\\"'
QUOTED = '\\"model\\": \\"m\\", '
INNER = '{"model": "m"}, '
EQUAL = '{"x": "m"}, '
HALF = "\\ud83d"
NAMES = st.text(min_size=1, max_size=8) | st.sampled_from(["m", "kimi/k2", 'quote"', "é\\"])


def spaced(content: dict[str, Any], spaces: list[str]) -> bytes:
    """The object with white space between its members."""
    gaps = spaces or [""]
    members = [
        f"{gaps[at % len(gaps)]}{orjson.dumps(key).decode()}{gaps[(at + 1) % len(gaps)]}:"
        f"{gaps[(at + 2) % len(gaps)]}{orjson.dumps(value).decode()}"
        for at, (key, value) in enumerate(content.items())
    ]
    return ("{" + ",".join(members) + "}").encode()


@given(
    st.lists(st.tuples(st.sampled_from(["messages", "x", "tools", "metadata"]), JSON), max_size=4),
    st.lists(st.tuples(st.sampled_from(["stream", "y", "z"]), JSON), max_size=3),
    NAMES,
    NAMES,
    st.lists(st.sampled_from(["", " ", "\n", "\t  "]), max_size=4),
)
def test_only_the_value_of_the_model_changes(
    before: list[tuple[str, Any]],
    after: list[tuple[str, Any]],
    old: str,
    new: str,
    spaces: list[str],
) -> None:
    content = {**dict(before), "model": old, **dict(after)}
    body = spaced(content, spaces)
    expected = spaced({**content, "model": "\0"}, spaces).replace(
        orjson.dumps("\0"), orjson.dumps(new), 1
    )
    assert with_model(body, new) == expected


def test_a_member_that_is_named_with_escapes_is_found() -> None:
    changed = with_model(b'{"x":[1.50],"mod\\u0065l":"m"}', "n")
    assert orjson.loads(changed) == {"x": [1.5], "model": "n"}
    assert b"[1.50]" in changed


def test_half_a_character_is_no_reason_to_refuse_a_body() -> None:
    body = b'{"messages":["cut \\uD83D", "\\ud83d\\ude00"],"model":"m","user":"ann"}'
    found = read_body(body)
    assert not isinstance(found, str)
    assert (found.model, found.user) == ("m", "ann")
    assert with_model(body, "n") == body.replace(b'"m"', b'"n"')
    assert isinstance(read_body(body[:-1]), str)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "value",
    [
        f'"{QUOTE * 400_000}"',
        f'"{QUOTED * 50_000}"',
        f"[{INNER * 50_000}{{}}]",
        f"[[{EQUAL * 50_000}{{}}]]",
        f'"{HALF * 50_000}"',
    ],
    ids=["quotation marks", "quoted models", "inner models", "equal values", "half characters"],
)
def test_a_long_body_before_the_model_is_passed_over_once(value: str) -> None:
    # Looking at the rest of the body for each of them took from minutes to hours.
    body = '{"messages": %s, "model": "%s"}'
    assert with_model((body % (value, "m")).encode(), "n") == (body % (value, "n")).encode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "model": "m"}',
        b'{"a": 1, "model": "x", "a": 1, "model": "m"}',
        b'{"model": "m", "a": "m", "model": "m"}',
        b'{"a": {}, "a": {"model": "m"}, "model": "m"}',
    ],
)
def test_a_member_that_is_there_twice_is_sent_once(body: bytes) -> None:
    changed = with_model(body, "n")
    assert changed.count(b'"model":"n"') == 1
    assert orjson.loads(changed) == {**orjson.loads(body), "model": "n"}
