"""Trees of these tests are not stopped, but end with the test."""

from __future__ import annotations

from tests.actors.conftest import own_registry

__all__ = ["own_registry"]
