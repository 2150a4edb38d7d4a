"""The trees of these tests run only when told, so their actors end with them."""

from __future__ import annotations

import pytest
from pykka import ActorRegistry

from exai_actors.runtime.pykka_api.registry import RefDict


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """pykka's registry is one for the process: it must not keep a tree's actors alive."""
    monkeypatch.setattr(ActorRegistry, "_actor_refs", RefDict())
