"""Passes: made with a token, valid for one use, for a time, and only as long as the token is."""

from __future__ import annotations

import pytest

from exai_actors.core.operators import Operator, Operators, Role
from exai_actors.core.passes import LIFE_S, Use

ADA, BOB = Operator("ada", Role.ADMIN), Operator("bob", Role.VIEWER)
TOKENS = (("token-of-ada-0001", ADA), ("token-of-bob-0001", BOB))
OPERATORS = Operators(TOKENS, on_loopback=True)
NOW = 1_800_000_000.0


def cookie(token: str = "token-of-ada-0001") -> str:
    made = OPERATORS.new_pass(token, NOW)
    assert made is not None
    return made


@pytest.mark.parametrize(("token", "operator"), TOKENS)
def test_a_pass_names_its_operator(token: str, operator: Operator) -> None:
    assert OPERATORS.identify_pass(cookie(token), Use.COOKIE, NOW) == operator


def test_it_survives_a_restart_and_not_another_token() -> None:
    restarted = Operators(TOKENS, on_loopback=True)
    assert restarted.identify_pass(cookie(), Use.COOKIE, NOW) == ADA
    replaced = Operators((("token-of-ada-0002", ADA),), on_loopback=True)
    assert replaced.identify_pass(cookie(), Use.COOKIE, NOW) is None


def test_it_takes_the_role_that_the_configuration_gives_now() -> None:
    demoted = Operators((("token-of-ada-0001", Operator("ada", Role.VIEWER)),), on_loopback=True)
    found = demoted.identify_pass(cookie(), Use.COOKIE, NOW)
    assert found is not None
    assert found.role is Role.VIEWER


def test_it_ends() -> None:
    assert OPERATORS.identify_pass(cookie(), Use.COOKIE, NOW + LIFE_S - 1) == ADA
    assert OPERATORS.identify_pass(cookie(), Use.COOKIE, NOW + LIFE_S) is None


def test_the_pass_of_a_page_is_no_cookie_and_ends_with_it() -> None:
    feed = OPERATORS.feed_pass(cookie(), NOW + 100)
    assert feed is not None
    assert OPERATORS.identify_pass(feed, Use.FEED, NOW) == ADA
    assert OPERATORS.identify_pass(feed, Use.COOKIE, NOW) is None
    assert OPERATORS.identify_pass(cookie(), Use.FEED, NOW) is None
    assert OPERATORS.identify_pass(feed, Use.FEED, NOW + LIFE_S) is None
    assert OPERATORS.feed_pass(feed, NOW) is None


@pytest.mark.parametrize("token", ["", "wrong", "token-of-ada-000", "token-of-ada-0001 "])
def test_no_pass_for_another_token(token: str) -> None:
    assert OPERATORS.new_pass(token, NOW) is None


def test_no_pass_where_no_token_exists() -> None:
    nobody = Operators((), on_loopback=True)
    assert nobody.new_pass("", NOW) is None
    assert nobody.identify_pass(cookie(), Use.COOKIE, NOW) is None


def later(text: str) -> str:
    use, ends_at, signature = text.split(".")
    return f"{use}.{int(ends_at) + 1}.{signature}"


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "cookie",
        "cookie.1800000100.",
        "cookie.1800000100.AAAA",
        f"cookie.{'9' * 400}.AAAA",
        "cookie.-1.AAAA",
        "cookie.١٢.AAAA",
        "\ud800.1.2",
        later(cookie()),
        cookie() + "x",
        cookie()[:-1],
        cookie().replace("cookie", "Cookie"),
        cookie().replace(".", "\n"),
    ],
)
def test_a_forged_pass_is_refused(forged: str) -> None:
    assert OPERATORS.identify_pass(forged, Use.COOKIE, NOW) is None
    assert OPERATORS.feed_pass(forged, NOW) is None
