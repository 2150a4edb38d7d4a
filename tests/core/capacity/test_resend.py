"""When a call whose request was not worked on is granted once more."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.capacity.account import Mode
from tests.core.capacity.dispatching import Bench

UNPROCESSED = UpstreamFailure(FailureKind.TRUNCATED, "closed", resend=True)


def is_sent_again(now: float = 1.0, mode: Mode | None = None, **more: Any) -> bool:
    bench = Bench(limit=1)
    bench.admit("a", **more)
    call = bench.running.pop("a")
    bench.dispatcher.release(call.permit)
    if mode is not None:
        bench.account.mode = mode
    again = bench.dispatcher.settlement.failed(call, UNPROCESSED, now, 0.5)
    assert again == (next(bench.dispatcher.pump(now), None) is call)
    return again


def test_a_call_is_sent_again_at_that_instant() -> None:
    assert is_sent_again()


@pytest.mark.parametrize(("deadline", "again"), [(1.1, True), (1.0, False), (0.5, False)])
def test_a_call_is_sent_again_before_its_deadline_only(deadline: float, again: bool) -> None:
    assert is_sent_again(deadline=deadline) is again


def test_a_call_is_not_sent_again_while_the_provider_drains() -> None:
    assert not is_sent_again(mode=Mode.DRAINING)
