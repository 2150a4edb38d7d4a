"""The same fixture as for tests/actors."""

from __future__ import annotations

from tests.actors.conftest import own_registry

__all__ = ["own_registry"]
