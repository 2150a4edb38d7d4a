"""Who may talk to the broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.access import MIN_TOKEN_CHARACTERS, Access

TOKEN = "correct horse battery"
NEXT = "staple of another horse"
# Client tokens come out of JSON, which can spell any code point, lone surrogates too.
ANY_TEXT = st.text(st.characters())


@pytest.mark.parametrize("token", [None, "", "anything", "\ud800"])
def test_without_a_token_everybody_may(token: str | None) -> None:
    access = Access("")
    assert not access.required
    assert access.allows(token)


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\ud800"])
def test_with_a_token_nobody_may_who_does_not_name_exactly_it(token: str | None) -> None:
    access = Access(TOKEN)
    assert access.required
    assert not access.allows(token)
    assert access.allows(TOKEN)


def test_after_a_rotation_only_the_new_token_counts() -> None:
    access = Access(TOKEN)
    assert access.rotate(TOKEN, NEXT) is None
    assert access.allows(NEXT)
    assert not access.allows(TOKEN)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("", NEXT, "missing_params"),
        (TOKEN, "", "missing_params"),
        ("wrong", NEXT, "unauthorized"),
        ("wrong", "short", "unauthorized"),
        (TOKEN, "x" * (MIN_TOKEN_CHARACTERS - 1), "weak_token"),
    ],
)
def test_a_rotation_that_is_refused_says_why_and_changes_nothing(
    old: str, new: str, why: str
) -> None:
    access = Access(TOKEN)
    assert access.rotate(old, new) == why
    assert access.allows(TOKEN)
    assert not access.allows(new or None)


def test_where_no_token_is_asked_for_none_can_be_set_from_outside() -> None:
    access = Access("")
    assert access.rotate("anything", NEXT) == "unauthorized"
    assert not access.required


@given(ANY_TEXT, ANY_TEXT)
def test_exactly_the_token_is_allowed_whatever_it_is_made_of(token: str, tried: str) -> None:
    access = Access("first token of this test")
    new = token + "x" * MIN_TOKEN_CHARACTERS
    assert access.rotate("first token of this test", new) is None
    assert access.allows(new)
    assert access.allows(tried) is (tried == new)
