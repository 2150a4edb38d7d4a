"""As for tests/actors: the trees run only when told, so their actors end with them."""

from __future__ import annotations

from tests.actors.conftest import own_registry

__all__ = ["own_registry"]
