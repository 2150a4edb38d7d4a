"""The stress run passes on a small load, and its judge complains."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tools import stress
from tools.capacity_live import broker_before
from tools.limited_upstream import TOO_MANY, LimitedUpstream, Order, limited_upstream, order_of
from tools.stress_cases import Account, Stage, at_once


@pytest.mark.parametrize("case", ["40 at once", "deadlines", "clients that vanish"])
async def test_a_small_run_accounts_for_every_request(case: str) -> None:
    result = await stress.run(3, 0.0, 1, case, quiet=True)
    assert result.complaints == []
    assert result.most_at_once == 3
    assert result.account.ended["completed"] >= 40
    assert result.account.unaccounted == 0


async def test_a_broker_that_answers_no_request_does_not_pass() -> None:
    async with limited_upstream(1) as upstream:
        upstream.refuse_with = 400
        async with broker_before(upstream.url, limit=1) as (url, _):
            account = Account()
            await at_once(4, 2)(Stage(url, upstream, account, random.Random(1)))
    assert account.ended == Counter(failed=4)
    assert stress.judge(account, upstream) == [
        "4 requests had no answer though nothing prevented one"
    ]


def test_an_order_can_be_read_from_its_prompt() -> None:
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
            "1 answers belonged to other requests",
        ),
        (
            Account(sent=1, denied=1, ended=Counter(failed=1)),
            LimitedUpstream(1),
            "1 requests had no answer though nothing prevented one",
        ),
        (Account(), LimitedUpstream(1, most=2), "had 2 calls, its limit is 1"),
        (
            Account(),
            LimitedUpstream(1, ended=Counter({TOO_MANY: 4})),
            "refused 4 calls above its limit",
        ),
    ],
)
def test_the_judge_complains(account: Account, upstream: LimitedUpstream, said: str) -> None:
    (complaint,) = stress.judge(account, upstream)
    assert said in complaint
