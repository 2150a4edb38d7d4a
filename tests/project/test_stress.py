"""The stress run: it passes on a small load, and its judge does notice."""

from __future__ import annotations

from collections import Counter

import pytest

from tools import stress
from tools.limited_upstream import LimitedUpstream, Order, order_of
from tools.stress_cases import Account


@pytest.mark.parametrize("case", ["40 at once", "deadlines", "clients that vanish"])
async def test_a_small_run_accounts_for_every_request(case: str) -> None:
    result = await stress.run(3, 0.0, 1, case, quiet=True)
    assert result.complaints == []
    assert result.most_at_once == 3
    assert result.account.ended["completed"] >= 40
    assert result.account.unaccounted == 0


def test_what_a_prompt_asks_for_is_known_from_the_prompt_alone() -> None:
    order = Order("n0000001", 20, 3)
    assert order_of(order.prompt) == order
    assert order.answer == "n0000001 00010 00011 00012"


@pytest.mark.parametrize(
    ("account", "upstream", "said"),
    [
        (Account(sent=2, ended=Counter(completed=1)), LimitedUpstream(1), "1 requests never ended"),
        (Account(sent=1, ended=Counter(completed=2)), LimitedUpstream(1), "ended twice"),
        (
            Account(sent=1, wrong=1, ended=Counter(completed=1)),
            LimitedUpstream(1),
            "1 answers were not those that were asked for",
        ),
        (Account(), LimitedUpstream(1, most=2), "saw 2 at once, its limit is 1"),
        (
            Account(),
            LimitedUpstream(1, ended=Counter({"429 for too many at once": 4})),
            "had to refuse 4 calls",
        ),
    ],
)
def test_the_judge_complains(account: Account, upstream: LimitedUpstream, said: str) -> None:
    (complaint,) = stress.judge(account, upstream)
    assert said in complaint
