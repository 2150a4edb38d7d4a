"""Durations as text."""

import pytest

from exai_actors.core.durations import format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.2512, "0.251 s"),
        (20.0, "20 s"),
        (99.96, "100 s"),
        (360.4, "360 s"),
        (104_321.0, "104,321 s"),
    ],
)
def test_seconds_are_written_without_a_power_of_ten(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
