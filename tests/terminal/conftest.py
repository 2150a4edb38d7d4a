"""Screens show local times, here those of UTC, and tests wait no longer for them than needed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC during the test, and colours are those of a terminal that has them."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.005)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
