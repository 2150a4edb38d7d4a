"""The holds of an account's models, which are bounded."""

from __future__ import annotations

from exai_actors.core.capacity.account import MAX_MODEL_HOLDS, Account
from exai_actors.core.capacity.settings import CapacitySettings


def test_a_model_has_one_hold_from_its_first_use_on() -> None:
    account = Account(CapacitySettings(limit=1, model_limits=(("star", 1),)))
    assert list(account.model_holds) == ["star"]
    moon = account.hold_of("moon", 0.0)
    assert account.hold_of("moon", 1.0) is moon
    assert list(account.holds()) == [account.hold, account.model_holds["star"], moon]


def test_beyond_the_limit_only_holds_that_are_over_and_not_configured_are_forgotten() -> None:
    account = Account(CapacitySettings(limit=1, model_limits=(("star", 1),)))
    held = account.hold_of("held", 0.0)
    held.extend(100.0, "quota", 0.0, 900.0)
    account.hold_of("over", 0.0).extend(5.0, "quota", 0.0, 900.0)
    star = account.hold_of("star", 0.0)
    number = 0
    while len(account.model_holds) < MAX_MODEL_HOLDS:
        account.hold_of(f"model {number}", 10.0)
        number += 1
    account.hold_of("one more", 10.0)
    assert set(account.model_holds) == {"star", "held", "one more"}
    assert (account.hold_of("held", 10.0), account.hold_of("star", 10.0)) == (held, star)
