"""How often a child may be restarted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.restarts import RestartBudget


def test_one_restart_too_many_within_the_period_is_not_allowed() -> None:
    budget = RestartBudget(intensity=2, period_s=10.0)
    assert budget.allow(0.0)
    assert budget.allow(1.0)
    assert not budget.allow(2.0)


def test_a_restart_counts_no_more_after_its_period() -> None:
    budget = RestartBudget(intensity=1, period_s=10.0)
    assert budget.allow(0.0)
    assert not budget.allow(9.9)
    assert budget.allow(10.0)


def test_a_restart_that_was_not_allowed_does_not_count() -> None:
    budget = RestartBudget(intensity=1, period_s=10.0)
    assert budget.allow(0.0)
    assert not budget.allow(9.0)
    assert budget.allow(11.0)


def test_an_intensity_of_zero_allows_none() -> None:
    assert not RestartBudget(intensity=0, period_s=10.0).allow(0.0)


@given(st.lists(st.integers(0, 8), max_size=60), st.integers(0, 4), st.integers(1, 20))
def test_no_window_of_the_period_holds_more_than_the_intensity_and_none_is_denied_below_it(
    pauses: list[int], intensity: int, period_s: int
) -> None:
    budget = RestartBudget(intensity, period_s)
    allowed: list[int] = []
    now = 0
    for pause in pauses:
        now += pause
        within = sum(instant > now - period_s for instant in allowed)
        assert budget.allow(now) is (within < intensity)
        if within < intensity:
            allowed.append(now)
