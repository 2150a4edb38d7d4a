"""Poison: the second failure with the same call in hand is a verdict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.suspects import Suspects


def test_the_second_failure_is_a_verdict() -> None:
    suspects = Suspects(memory_s=10.0)
    assert not suspects.accuse(1, 0.0)
    assert not suspects.accuse(2, 1.0)
    assert not suspects.is_poison(1, 1.0)
    assert suspects.accuse(1, 2.0)
    assert suspects.is_poison(1, 2.0)
    assert not suspects.is_poison(2, 2.0)


def test_a_suspicion_lapses() -> None:
    suspects = Suspects(memory_s=10.0)
    suspects.accuse(1, 0.0)
    suspects.accuse(1, 10.0)
    assert not suspects.is_poison(1, 10.0)
    suspects.accuse(1, 19.0)
    assert suspects.is_poison(1, 19.0)


def test_a_verdict_lapses() -> None:
    suspects = Suspects(memory_s=10.0)
    suspects.accuse(1, 0.0)
    suspects.accuse(1, 1.0)
    assert suspects.is_poison(1, 10.9)
    assert not suspects.is_poison(1, 11.0)
    assert suspects.poison == {}


@given(st.lists(st.integers(0, 40), max_size=200))
def test_only_the_latest_are_kept(fingerprints: list[int]) -> None:
    suspects = Suspects(memory_s=1e9, kept=3)
    for now, fingerprint in enumerate(fingerprints):
        suspects.accuse(fingerprint, float(now))
        assert len(suspects.poison) <= 3
        assert len(suspects._failed_at) <= 3
    if len(fingerprints) > 1 and fingerprints[-1] == fingerprints[-2]:
        poisoned = suspects.is_poison(fingerprints[-1], float(len(fingerprints)))
        assert poisoned or fingerprints[:-1].count(fingerprints[-1]) > 1
