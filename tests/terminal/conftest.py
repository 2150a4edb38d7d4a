"""Screens show local times, here those of UTC, and change by themselves only where a test says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from exai_actors.terminal import app, reader

NEVER_S = 3_600.0


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, there are colours, and neither messages nor pages have timers that end."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.005)
    monkeypatch.setattr(app, "MESSAGE_S", NEVER_S)
    monkeypatch.setattr(reader, "REFRESH_S", NEVER_S)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
