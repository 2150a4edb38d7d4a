"""Runs the tests on real sockets on both event loops that the broker supports."""

from __future__ import annotations

import pytest

from tests.event_loops import ASYNCIO, BOTH, Factories

_ON_REAL_SOCKETS = (
    "test_listener",
    "test_server",
    "test_exchange",
    "test_framing",
    "test_aborts_while_connecting",
    "test_upstream_connections",
    "test_odd_heads",
    "test_stale_connections",
)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Factories:
    return BOTH if item.path.stem in _ON_REAL_SOCKETS else ASYNCIO
