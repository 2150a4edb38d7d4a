"""How often something is logged."""

from __future__ import annotations

from exai_actors.core.log_budget import LogBudget


def test_a_burst_passes_and_the_rest_is_counted() -> None:
    budget = LogBudget(2, 10.0)
    assert [budget.allow(now) for now in (0.0, 1.0, 2.0, 9.9)] == [True, True, False, False]
    assert budget.allow(10.0)
    assert budget.take_suppressed() == 2
    assert budget.take_suppressed() == 0


def test_a_flood_gets_no_more_than_its_budget() -> None:
    budget = LogBudget(5, 10.0)
    allowed = sum(budget.allow(step / 100) for step in range(6000))
    assert allowed == 30
    assert budget.suppressed == 5970


def test_a_rare_event_is_always_logged() -> None:
    budget = LogBudget(1, 10.0)
    assert all(budget.allow(10.0 * step) for step in range(20))
