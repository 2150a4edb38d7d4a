"""Operators: who is one, and what a role includes."""

from __future__ import annotations

import pytest

from exai_actors.core.operators import ANONYMOUS, Operator, Operators, Role

ADA = Operator("ada", Role.ADMIN)
BOB = Operator("bob", Role.VIEWER)


def test_each_role_includes_those_before_it() -> None:
    allowed = {role: [needed for needed in Role if role.may(needed)] for role in Role}
    assert allowed == {
        Role.VIEWER: [Role.VIEWER],
        Role.OPERATOR: [Role.VIEWER, Role.OPERATOR],
        Role.ADMIN: [Role.VIEWER, Role.OPERATOR, Role.ADMIN],
    }


@pytest.mark.parametrize("on_loopback", [True, False])
def test_a_token_names_its_operator_and_others_name_none(on_loopback: bool) -> None:
    operators = Operators((("token-of-ada", ADA), ("token-of-bob", BOB)), on_loopback=on_loopback)
    assert operators.identify("token-of-ada") == ADA
    assert operators.identify("token-of-bob") == BOB
    for other in (None, "", "token-of-ad", "token-of-ada ", "TOKEN-OF-ADA", "\ud800"):
        assert operators.identify(other) is None


def test_without_operators_a_broker_on_loopback_can_be_looked_at() -> None:
    assert Operators((), on_loopback=True).identify(None) == ANONYMOUS
    assert Operators((), on_loopback=True).identify("anything") == ANONYMOUS
    assert Operators((), on_loopback=False).identify(None) is None
    assert ANONYMOUS.role is Role.VIEWER


@pytest.mark.parametrize("tokens", [(("", ADA),), (("same", ADA), ("same", BOB))])
def test_tokens_are_not_empty_and_occur_once(tokens: tuple[tuple[str, Operator], ...]) -> None:
    with pytest.raises(ValueError, match="empty or occurs twice"):
        Operators(tokens, on_loopback=True)
