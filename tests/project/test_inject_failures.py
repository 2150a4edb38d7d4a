"""The judge of injected failures complains about everything that must not happen."""

from __future__ import annotations

from collections import Counter

import pytest

from tools.inject_failures import LIMIT, Account, Load, judge
from tools.limited_upstream import TOO_MANY, LimitedUpstream


def load(*uses: int) -> Load:
    """A load whose service was used like this, one window of 0.05 s after the other from 100 s."""
    found = Load("ws://127.0.0.1:1", LimitedUpstream(LIMIT), Account())
    found.samples = [(100.0 + number * 0.05 + 0.01, use) for number, use in enumerate(uses)]
    return found


@pytest.mark.parametrize(
    ("uses", "seconds"),
    [
        ((4, 4, 4), 0.0),
        ((4, 0, 0, 4, 4), 0.15),
        ((0, 0, 4, 4, 1, 4), 0.1),
        ((4, 1, 4, 0, 2, 2), 0.3),
    ],
)
def test_full_use_is_back_after_the_longest_time_without_it(
    uses: tuple[int, ...], seconds: float
) -> None:
    assert load(*uses).full_use_after(100.0) == pytest.approx(seconds)


def test_a_good_run_has_no_complaints() -> None:
    account = Account(Counter(answered=9), {"BrokerActor": [0.0, 0.9]})
    judge(account, LimitedUpstream(LIMIT, most=LIMIT))
    assert account.complaints == []


@pytest.mark.parametrize(
    ("account", "upstream"),
    [
        (Account(without_outcome=1), LimitedUpstream(LIMIT)),
        (Account(wrong=1), LimitedUpstream(LIMIT)),
        (Account(), LimitedUpstream(LIMIT, most=LIMIT + 1)),
        (Account(), LimitedUpstream(LIMIT, ended=Counter({TOO_MANY: 1}))),
        (
            Account(recoveries={"BrokerActor": [0.1], "SessionActor": [0.1, 1.05]}),
            LimitedUpstream(4),
        ),
    ],
)
def test_each_fault_is_one_complaint(account: Account, upstream: LimitedUpstream) -> None:
    judge(account, upstream)
    assert len(account.complaints) == 1
