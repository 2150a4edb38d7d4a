"""The adaptive limit: down when the service is overloaded, up again when its calls are answered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.capacity.adaptive_limit import AdaptiveLimit


@given(
    ceiling=st.integers(1, 100),
    steps=st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(["answer", "overload"])), max_size=200
    ),
)
def test_an_adaptive_limit_stays_between_one_and_its_ceiling(
    ceiling: int, steps: list[tuple[float, str]]
) -> None:
    adaptive = AdaptiveLimit(ceiling)
    now = 0.0
    for passed, what in steps:
        now += passed
        before = adaptive.limit
        if what == "answer":
            adaptive.on_success(now, adaptive.limit)
            assert adaptive.limit in (before, before + 1)
        else:
            adaptive.on_overload(now)
            assert min(before - 1, 0.9 * before) <= adaptive.limit <= before
        assert 1 <= adaptive.limit <= ceiling


def test_an_adaptive_limit_rises_by_one_for_each_round_of_answers() -> None:
    adaptive = AdaptiveLimit(10)
    assert adaptive.on_overload(0.0) == 9
    now = 1.0
    for _ in range(9):
        now += 1.0
        adaptive.on_success(now, 9)
    assert adaptive.limit == 10


def lowered(ceiling: int = 10) -> AdaptiveLimit:
    adaptive = AdaptiveLimit(ceiling)
    adaptive.on_overload(0.0)
    return adaptive


def test_an_adaptive_limit_does_not_rise_while_less_than_half_of_it_is_used() -> None:
    adaptive = lowered()
    for number in range(100):
        assert adaptive.on_success(1.0 + number, in_flight=4) is None
    assert adaptive.limit == 9
    risen = [adaptive.on_success(200.0 + number, in_flight=5) for number in range(9)]
    assert risen == [None] * 8 + [10]


def test_each_step_up_takes_as_many_answers_as_the_limit() -> None:
    adaptive = lowered()
    assert adaptive.on_overload(1.0) == 8
    risen = [adaptive.on_success(2.0 + number, in_flight=8) for number in range(17)]
    assert risen == [None] * 7 + [9] + [None] * 8 + [10]


def test_an_overload_starts_the_count_of_answers_again() -> None:
    adaptive = lowered()
    for _ in range(8):
        adaptive.on_success(5.0, in_flight=9)
    assert adaptive.on_overload(6.0) == 8
    assert [adaptive.on_success(9.0, in_flight=8) for _ in range(8)] == [None] * 7 + [9]


def test_a_limit_at_its_ceiling_follows_the_ceiling_and_a_lowered_one_stays_below_it() -> None:
    adaptive = AdaptiveLimit(10)
    adaptive.set_ceiling(20)
    assert adaptive.limit == 20
    adaptive = lowered()
    adaptive.set_ceiling(20)
    assert adaptive.limit == 9
    adaptive.set_ceiling(5)
    assert adaptive.limit == 5
    adaptive.set_ceiling(0)
    assert adaptive.limit == 0
    assert adaptive.on_overload(10.0) is None
