"""The manual clock moves both times together and never back."""

from __future__ import annotations

import pytest

from exai_actors.errors import UsageError
from exai_actors.ports import Clock
from exai_actors.testing.clock import ManualClock


def test_time_stands_still_until_it_is_advanced() -> None:
    manual = ManualClock(now=10.0, wall=1_000.0)
    clock: Clock = manual
    assert (clock.now(), clock.wall()) == (10.0, 1_000.0)
    manual.advance(2.5)
    assert (clock.now(), clock.wall()) == (12.5, 1_002.5)


def test_time_does_not_go_back() -> None:
    with pytest.raises(UsageError, match="cannot go back"):
        ManualClock().advance(-1)
