"""What holds for every test of this suite."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def nothing_is_left_behind(leak_check: None) -> None:
    """No test may leave actors, threads, tasks or held permits to the next."""
