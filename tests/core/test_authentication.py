"""Who may talk to the broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.authentication import MIN_TOKEN_CHARACTERS, Authenticator, Identity
from exai_actors.ids import EVERYBODY, TenantName

TOKEN = "correct horse battery"
NEXT = "staple of another horse"
# Client tokens come out of JSON, which can spell any code point, lone surrogates too.
ANY_TEXT = st.text(st.characters())


@pytest.mark.parametrize("token", [None, "", "anything", "\ud800"])
def test_without_a_token_everybody_may(token: str | None) -> None:
    access = Authenticator("")
    assert not access.required
    assert access.identify(token) is not None


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\ud800"])
def test_with_a_token_nobody_may_who_does_not_name_exactly_it(token: str | None) -> None:
    access = Authenticator(TOKEN)
    assert access.required
    assert access.identify(token) is None
    assert access.identify(TOKEN) is not None


def test_after_a_rotation_only_the_new_token_counts() -> None:
    access = Authenticator(TOKEN)
    assert access.rotate(TOKEN, NEXT) is None
    assert access.identify(NEXT) is not None
    assert access.identify(TOKEN) is None


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
    access = Authenticator(TOKEN)
    assert access.rotate(old, new) == why
    assert access.identify(TOKEN) is not None
    assert access.identify(new or None) is None


def test_where_no_token_is_asked_for_none_can_be_set_from_outside() -> None:
    access = Authenticator("")
    assert access.rotate("anything", NEXT) == "unauthorized"
    assert not access.required


@given(ANY_TEXT, ANY_TEXT)
def test_exactly_the_token_is_allowed_whatever_it_is_made_of(token: str, tried: str) -> None:
    access = Authenticator("first token of this test")
    new = token + "x" * MIN_TOKEN_CHARACTERS
    assert access.rotate("first token of this test", new) is None
    assert access.identify(new) is not None
    assert (access.identify(tried) is not None) is (tried == new)


BATCH = "token of the batch job"


def with_tenants() -> Authenticator:
    return Authenticator(TOKEN, ((BATCH, Identity(TenantName("batch"), 2)),))


def test_a_token_tells_whose_share_its_sessions_take() -> None:
    access = with_tenants()
    assert access.identify(BATCH) == Identity(TenantName("batch"), 2)
    assert access.identify(TOKEN) == Identity(EVERYBODY, None)
    assert access.identify(None) is None


def test_a_tenants_token_is_asked_for_even_where_there_is_no_shared_one() -> None:
    access = Authenticator("", ((BATCH, Identity(TenantName("batch"))),))
    assert access.required
    assert access.identify(None) is None
    assert access.identify("") is None


def test_a_rotation_replaces_one_token_and_leaves_the_others_and_its_tenant() -> None:
    access = with_tenants()
    assert access.rotate(BATCH, NEXT) is None
    assert access.identify(NEXT) == Identity(TenantName("batch"), 2)
    assert access.identify(BATCH) is None
    assert access.identify(TOKEN) == Identity(EVERYBODY, None)


def test_no_token_can_be_made_to_open_two_things() -> None:
    access = with_tenants()
    assert access.rotate(BATCH, TOKEN) == "token_in_use"
    assert access.identify(TOKEN) == Identity(EVERYBODY, None)
    assert access.rotate(BATCH, BATCH) is None
    with pytest.raises(ValueError, match="unlike"):
        Authenticator(TOKEN, ((TOKEN, Identity()),))
