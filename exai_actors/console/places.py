"""The places for consoles. Only admitted ones have one: others could keep operators out."""

from __future__ import annotations

MAX_CONSOLES = 16


class ConsolePlaces:
    """At most ``limit`` consoles, by the paths of their actors."""

    def __init__(self, limit: int = MAX_CONSOLES) -> None:
        self.limit = limit
        self._taken: set[str] = set()

    def take(self, console: str) -> bool:
        """Give the console a place; True if it has one now."""
        if console not in self._taken and len(self._taken) >= self.limit:
            return False
        self._taken.add(console)
        return True

    def free(self, console: str) -> None:
        """Free the place of a console, if it has one."""
        self._taken.discard(console)
