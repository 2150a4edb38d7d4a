"""Access tokens: which one admits a client, and as which tenant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.authentication import MIN_TOKEN_CHARACTERS, Authenticator, Identity
from exai_actors.ids import DEFAULT_TENANT, TenantName

TOKEN = "correct horse battery"
NEXT = "staple of another horse"
BATCH = "token of the batch program"
# Client tokens come out of JSON, which can spell any code point, lone surrogates too.
ANY_TEXT = st.text(st.characters())
ANYBODY = Identity(DEFAULT_TENANT, None)
BATCH_TENANT = Identity(TenantName("batch"), 2)


def with_tenants() -> Authenticator:
    return Authenticator(TOKEN, ((BATCH, BATCH_TENANT),))


@pytest.mark.parametrize("token", [None, "", "anything", "\ud800"])
def test_without_tokens_every_client_is_admitted(token: str | None) -> None:
    authenticator = Authenticator("")
    assert not authenticator.required
    assert authenticator.identify(token) == ANYBODY


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\ud800"])
def test_with_a_token_only_an_exact_match_is_admitted(token: str | None) -> None:
    authenticator = Authenticator(TOKEN)
    assert authenticator.required
    assert authenticator.identify(token) is None
    assert authenticator.identify(TOKEN) == ANYBODY


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_can_be_a_token(token: str, tried: str) -> None:
    authenticator = Authenticator(TOKEN)
    new = token + "x" * MIN_TOKEN_CHARACTERS
    assert authenticator.rotate(TOKEN, new) is None
    assert authenticator.identify(new) is not None
    assert (authenticator.identify(tried) is not None) is (tried == new)


def test_a_token_identifies_its_tenant() -> None:
    authenticator = with_tenants()
    assert authenticator.identify(BATCH) == BATCH_TENANT
    assert authenticator.identify(TOKEN) == ANYBODY
    assert authenticator.identify(None) is None


def test_a_tenants_token_is_required_even_without_a_shared_one() -> None:
    authenticator = Authenticator("", ((BATCH, BATCH_TENANT),))
    assert authenticator.required
    assert authenticator.identify(None) is None
    assert authenticator.identify("") is None


@pytest.mark.parametrize("tenants_token", ["", TOKEN, BATCH])
def test_an_empty_or_repeated_token_is_rejected(tenants_token: str) -> None:
    with pytest.raises(ValueError, match="empty or occurs twice"):
        Authenticator(TOKEN, ((BATCH, BATCH_TENANT), (tenants_token, Identity())))


def test_a_rotation_replaces_one_token_and_keeps_its_tenant() -> None:
    authenticator = with_tenants()
    assert authenticator.rotate(BATCH, NEXT) is None
    assert authenticator.identify(NEXT) == BATCH_TENANT
    assert authenticator.identify(BATCH) is None
    assert authenticator.identify(TOKEN) == ANYBODY


def test_a_rotation_to_the_same_token_changes_nothing() -> None:
    authenticator = with_tenants()
    assert authenticator.rotate(BATCH, BATCH) is None
    assert authenticator.identify(BATCH) == BATCH_TENANT


def test_a_token_of_the_minimal_length_is_accepted() -> None:
    assert Authenticator(TOKEN).rotate(TOKEN, "x" * MIN_TOKEN_CHARACTERS) is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("", NEXT, "missing_params"),
        (TOKEN, "", "missing_params"),
        ("wrong", NEXT, "unauthorized"),
        ("wrong", "short", "unauthorized"),
        (TOKEN, "x" * (MIN_TOKEN_CHARACTERS - 1), "weak_token"),
        (BATCH, TOKEN, "token_in_use"),
        (TOKEN, BATCH, "token_in_use"),
    ],
)
def test_a_refused_rotation_gives_its_reason_and_changes_nothing(
    old: str, new: str, reason: str
) -> None:
    authenticator = with_tenants()
    assert authenticator.rotate(old, new) == reason
    assert authenticator.identify(TOKEN) == ANYBODY
    assert authenticator.identify(BATCH) == BATCH_TENANT
    assert authenticator.identify(NEXT) is None


def test_without_tokens_none_can_be_set_by_a_rotation() -> None:
    authenticator = Authenticator("")
    assert authenticator.rotate("anything", NEXT) == "unauthorized"
    assert not authenticator.required
