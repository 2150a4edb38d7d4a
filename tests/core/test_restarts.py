"""The budget of restarts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.restarts import RestartBudget


def test_a_restart_above_the_intensity_is_not_allowed() -> None:
    budget = RestartBudget(intensity=2, period_s=10.0)
    assert budget.allow(0.0)
    assert budget.allow(1.0)
    assert not budget.allow(2.0)


def test_a_restart_stops_counting_after_the_period() -> None:
    budget = RestartBudget(intensity=1, period_s=10.0)
    assert budget.allow(0.0)
    assert not budget.allow(9.9)
    assert budget.allow(10.0)


def test_a_denied_restart_does_not_count() -> None:
    budget = RestartBudget(intensity=1, period_s=10.0)
    assert budget.allow(0.0)
    assert not budget.allow(9.0)
    assert budget.allow(11.0)


def test_an_intensity_of_zero_allows_none() -> None:
    assert not RestartBudget(intensity=0, period_s=10.0).allow(0.0)


@given(st.lists(st.integers(0, 8), max_size=60), st.integers(0, 4), st.integers(1, 20))
def test_a_restart_is_denied_exactly_if_the_period_is_full(
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
