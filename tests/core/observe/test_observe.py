"""Histograms, tables and their changes, and alarms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.observe.alarms import AlarmRule, Alarms, Reading, Severity
from exai_actors.core.observe.histogram import Histogram
from exai_actors.core.observe.tables import Cell, Row, TableChange, difference

CELLS: st.SearchStrategy[Cell] = st.one_of(
    st.none(), st.booleans(), st.integers(0, 3), st.sampled_from([0.0, 1.0, 2.5]), st.text("ab")
)
ROWS = st.tuples(CELLS, CELLS, CELLS)
TABLES: st.SearchStrategy[dict[str, Row]] = st.dictionaries(st.sampled_from("abcdef"), ROWS)


def apply(old: dict[str, Row], change: TableChange) -> dict[str, Row]:
    """The state after a change, as consoles compute it."""
    rows = {key: row for key, row in old.items() if key not in change.gone}
    for key, cells in change.cells.items():
        row = list(rows[key])
        for column, cell in cells.items():
            row[column] = cell
        rows[key] = tuple(row)
    rows.update(change.rows)
    return rows if change.order is None else {key: rows[key] for key in change.order}


@given(TABLES, TABLES)
def test_a_change_turns_one_state_of_a_table_into_the_other(
    old: dict[str, Row], new: dict[str, Row]
) -> None:
    change = difference(old, new)
    after = apply(old, change)
    assert repr(after) == repr(new)
    assert bool(change) is (repr(old) != repr(new))


def test_a_change_contains_only_cells_that_differ() -> None:
    old: dict[str, Row] = {"a": (1, "x", None), "b": (2, "y", None)}
    new: dict[str, Row] = {"a": (1, "z", None), "b": (2, "y", None), "c": (3, "", True)}
    change = difference(old, new)
    assert (change.rows, change.cells) == ({"c": (3, "", True)}, {"a": {1: "z"}})
    assert (change.gone, change.order) == ((), None)
    assert difference(new, old).gone == ("c",)


@given(st.lists(st.floats(0, 30), min_size=1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(values: list[float], share: float) -> None:
    bounds = (1.0, 2.0, 5.0, 10.0, 30.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.add(value)
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(sum(values))
    quantile = histogram.quantile(share)
    assert quantile is not None
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    upper = next(bound for bound in bounds if exact <= bound)
    lower = max((bound for bound in (0.0, *bounds) if bound < upper), default=0.0)
    assert lower <= quantile <= upper


def test_values_beyond_the_last_bound_are_counted() -> None:
    histogram = Histogram((1.0, 2.0))
    assert histogram.quantile(0.5) is None
    for value in (1.0, 2.0, 3.0):
        histogram.add(value)
    assert histogram.counts == [1, 1, 1]
    assert histogram.quantile(1.0) == 2.0


RULE = AlarmRule("queue", Severity.WARNING, 0.9, 0.7, raise_after_s=5.0, clear_after_s=10.0)


def read(value: float, subject: str = "kimi") -> list[Reading]:
    return [Reading("queue", subject, value, f"the queue is {value:.0%} full")]


def test_an_alarm_is_raised_once_its_condition_has_lasted() -> None:
    alarms = Alarms([RULE])
    assert alarms.update(read(0.95), 0.0) == []
    assert alarms.update(read(0.95), 4.9) == []
    [change] = alarms.update(read(0.92), 5.0)
    assert (change.alarm.text, change.cleared_at) == ("the queue is 92% full", None)
    assert alarms.update(read(0.99), 6.0) == []
    assert [(alarm.value, alarm.raised_at) for alarm in alarms.raised()] == [(0.99, 5.0)]


def test_a_condition_that_comes_and_goes_raises_nothing() -> None:
    alarms = Alarms([RULE])
    for second in range(0, 40, 4):
        assert alarms.update(read(0.95), float(second)) == []
        assert alarms.update(read(0.80), second + 2.0) == []
    assert alarms.raised() == ()


def test_an_alarm_clears_once_its_figure_has_stayed_low() -> None:
    alarms = Alarms([AlarmRule("queue", Severity.WARNING, 0.9, 0.7, 0.0, 10.0)])
    alarms.update(read(0.95), 0.0)
    assert alarms.update(read(0.8), 20.0) == []
    assert alarms.update(read(0.6), 21.0) == []
    assert alarms.update(read(0.75), 25.0) == []
    assert alarms.update(read(0.6), 26.0) == []
    [change] = alarms.update(read(0.6), 36.0)
    assert (change.cleared_at, alarms.raised()) == (36.0, ())
    assert alarms.update(read(0.6), 37.0) == []


def test_an_alarm_clears_when_its_subject_is_gone() -> None:
    alarms = Alarms([AlarmRule("queue", Severity.WARNING, 0.9, 0.7, 0.0, 10.0)])
    alarms.update(read(0.95), 0.0)
    assert alarms.update([], 1.0) == []
    [change] = alarms.update([], 11.0)
    assert change.alarm.subject == "kimi"


def test_each_subject_has_its_own_alarm_and_critical_ones_come_first() -> None:
    alarms = Alarms(
        [
            AlarmRule("queue", Severity.WARNING, 0.9, 0.7),
            AlarmRule("fault", Severity.CRITICAL, 1.0, 1.0),
        ]
    )
    alarms.update(read(0.95, "kimi") + read(0.95, "glm"), 0.0)
    alarms.update(read(1.0, "kimi") + read(1.0, "glm") + [Reading("fault", "glm", 1, "")], 1.0)
    assert [(alarm.rule, alarm.subject) for alarm in alarms.raised()] == [
        ("fault", "glm"),
        ("queue", "kimi"),
        ("queue", "glm"),
    ]


def test_a_rule_that_would_flap_is_refused() -> None:
    with pytest.raises(ValueError, match="would clear above"):
        AlarmRule("queue", Severity.WARNING, 0.5, 0.6)
