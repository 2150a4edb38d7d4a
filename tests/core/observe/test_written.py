"""Durations, sizes and instants as people read them."""

from __future__ import annotations

import pytest

from exai_actors.core.observe.written import duration, instant, size

DURATIONS = [
    (0, "0 s"),
    (0.0000021, "2 µs"),
    (0.00005, "50 µs"),
    (0.0025, "2.5 ms"),
    (0.0123, "12 ms"),
    (0.9994, "999 ms"),
    (0.9996, "1.00 s"),
    (1, "1 s"),
    (3.254, "3.25 s"),
    (-1.5, "-1.50 s"),
    (30.0, "30 s"),
    (61.24, "61.2 s"),
    (99.96, "1 m 40 s"),
    (245, "4 m 05 s"),
    (4_000, "1 h 06 m"),
    (-7_380, "-2 h 03 m"),
    (90_061, "1 d 01 h"),
    (1e9, "11574 d 01 h"),
]
SIZES = [
    (0, "0 B"),
    (1_023, "1023 B"),
    (1_536, "1.5 KiB"),
    (20 * 1024**2, "20 MiB"),
    (-3 * 1024**3, "-3.0 GiB"),
    (5 * 1024**5, "5120.0 TiB"),
]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_a_duration_has_two_or_three_digits_that_mean_something(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), SIZES)
def test_a_size_has_its_unit(count: float, text: str) -> None:
    assert size(count) == text


def test_instants_are_local_and_other_texts_stay() -> None:
    assert instant("2026-11-29T00:15:00.524+00:00") == "11-29 00:15:00"
    assert instant("yesterday") == "yesterday"
