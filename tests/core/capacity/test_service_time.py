"""The usual time that a permit is held, and the wait that follows from it."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.capacity.service_time import ServiceTime

SECONDS = st.floats(0, 1e4)


def of(*samples: float, weight: float = 0.125) -> ServiceTime:
    service_time = ServiceTime(weight)
    for sample in samples:
        service_time.observe(sample)
    return service_time


def test_no_wait_is_known_before_the_first_sample() -> None:
    assert of().mean_s is None
    assert of().wait_s(1, 1) is None


def test_the_first_sample_is_the_mean() -> None:
    assert of(4.0).mean_s == 4.0


def test_the_first_samples_count_equally_and_later_ones_by_their_weight() -> None:
    assert of(4.0, 12.0).mean_s == 8.0
    assert of(4.0, 12.0, 8.0).mean_s == 8.0
    assert of(*[4.0] * 50, 12.0).mean_s == pytest.approx(5.0)
    assert of(*[4.0] * 50, 12.0, weight=0.5).mean_s == 8.0


def test_the_wait_grows_with_the_position_and_falls_with_the_limit() -> None:
    service_time = of(6.0)
    assert service_time.wait_s(position=1, limit=1) == 6.0
    assert service_time.wait_s(position=4, limit=1) == 24.0
    assert service_time.wait_s(position=4, limit=3) == 8.0


def test_no_wait_is_known_with_a_limit_of_zero() -> None:
    assert of(6.0).wait_s(position=1, limit=0) is None


@given(st.lists(SECONDS, min_size=1), st.floats(0.01, 1))
def test_the_mean_lies_between_the_shortest_and_the_longest(
    samples: list[float], weight: float
) -> None:
    mean = of(*samples, weight=weight).mean_s
    assert mean is not None
    assert min(samples) - 1e-6 <= mean <= max(samples) + 1e-6


@given(SECONDS, SECONDS)
def test_the_mean_follows_a_lasting_change(before: float, after: float) -> None:
    assert of(*[before] * 20, *[after] * 200).mean_s == pytest.approx(after, abs=1e-3)


def test_each_permit_comes_free_after_the_mean_again_and_again() -> None:
    waits = of(6.0).waits_s([10.0, 8.0], limit=2, now=12.0)
    assert list(islice(waits, 4)) == [2.0, 4.0, 8.0, 10.0]


def test_an_overdue_permit_comes_free_soon() -> None:
    waits = of(6.0).waits_s([0.0], limit=2, now=12.0)
    assert list(islice(waits, 3)) == [0.0, 1.5, 6.0]


def test_permits_beyond_a_lowered_limit_shorten_no_wait() -> None:
    waits = of(6.0).waits_s([7.0, 8.0, 9.0], limit=1, now=12.0)
    assert list(islice(waits, 2)) == [3.0, 9.0]


def test_a_quarantined_permit_comes_free_when_its_rest_ends() -> None:
    waits = of(6.0).waits_s([10.0], limit=2, now=12.0, rest_ends=[21.0])
    assert list(islice(waits, 3)) == [4.0, 9.0, 10.0]


def test_no_waits_are_known_before_the_first_sample() -> None:
    assert list(islice(of().waits_s([], limit=1, now=0.0), 2)) == [None, None]
    assert list(islice(of(6.0).waits_s([0.0], limit=0, now=0.0), 2)) == [None, None]


def test_an_unanswered_call_shorter_than_the_mean_does_not_count() -> None:
    service_time = of(6.0)
    service_time.at_least(0.01)
    assert service_time.mean_s == 6.0
    assert of().mean_s is None


def test_an_unanswered_call_longer_than_the_mean_raises_it() -> None:
    service_time = of(6.0)
    service_time.at_least(14.0)
    assert service_time.mean_s == 10.0
    unknown = of()
    unknown.at_least(14.0)
    assert unknown.mean_s is None
