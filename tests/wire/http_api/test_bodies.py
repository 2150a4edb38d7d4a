"""Another name of the model replaces its value, and no other byte."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.relay import with_model

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
    | st.sampled_from(["m", '"model":"m"', "model", '\\"model\\": \\"m\\"']),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["model", "a", "é", '"model":"m"']), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip
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
