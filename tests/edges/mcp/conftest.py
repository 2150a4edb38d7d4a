"""Each test has a pykka registry of its own: its trees are not stopped, but end with the test."""

from __future__ import annotations

import pytest
from pykka import ActorRegistry

from exai_actors.runtime.pykka_api.registry import RefDict


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace pykka's registry, which would keep the actors of a tree alive."""
    monkeypatch.setattr(ActorRegistry, "_actor_refs", RefDict())
