"""Runs the tests of this folder on both event loops that the broker supports."""

from __future__ import annotations

import pytest

from tests.event_loops import BOTH, Factories


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Factories:
    return BOTH
