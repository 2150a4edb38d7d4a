"""The manual clock moves both of its times together, and only forward."""

from __future__ import annotations

import pytest

from exai_actors.errors import UsageError
from exai_actors.ports import Clock
from exai_actors.testing.clock import ManualClock


def test_only_advance_moves_the_clock() -> None:
    manual = ManualClock(now=10.0, wall=1_000.0)
    clock: Clock = manual
    assert (clock.now(), clock.wall()) == (10.0, 1_000.0)
    manual.advance(2.5)
    assert (clock.now(), clock.wall()) == (12.5, 1_002.5)


def test_the_clock_cannot_go_back() -> None:
    with pytest.raises(UsageError, match="cannot go back"):
        ManualClock().advance(-1)
