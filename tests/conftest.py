"""Settings and fixtures of every test."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# In a fresh checkout Hypothesis builds its tables of characters during the first example, which
# would exceed a deadline; no test here is about time.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
# For finding new faults: --hypothesis-profile=explore
settings.register_profile(
    "explore", settings.get_profile("suite"), derandomize=False, max_examples=2_000
)
# For the coverage step: a branch is taken by a few examples or by none.
settings.register_profile("coverage", settings.get_profile("suite"), max_examples=10)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def nothing_is_left_behind(leak_check: None) -> None:
    """Fail a test that leaves actors, threads, tasks or held permits behind."""
