"""Paths of actors, and how many incarnations each has had."""

from __future__ import annotations

import re
from collections import OrderedDict

from exai_actors.runtime.kernel.errors import InvalidPath

_PATH = re.compile(r"/|(?:/[^/]+)+")


def check_path(path: str) -> None:
    """Raise InvalidPath unless it is ``/`` or names that each follow a slash."""
    if not _PATH.fullmatch(path):
        raise InvalidPath(f"{path!r} is not a path: write names after slashes, like '/a/b'")


class PathHistory:
    """Gives numbers to incarnations, so that no path ever gets a number twice, in bounded memory.

    The latest ``capacity`` ended paths are remembered. A path that is not remembered continues
    above the highest number ever forgotten, so a number may be skipped but never repeated.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._ended: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._highest_forgotten = 0

    def next_incarnation(self, path: str) -> tuple[int, int]:
        """The next incarnation's number, and how many earlier ones failed."""
        incarnation, failed = self._ended.get(path, (self._highest_forgotten, 0))
        return incarnation + 1, failed

    def is_over(self, path: str, incarnation: int) -> bool:
        """Return whether an incarnation of that number or a higher one is known to have ended."""
        return path in self._ended and self._ended[path][0] >= incarnation

    def drop(self, path: str) -> None:
        """Remember nothing of a path at which there will be no other incarnation."""
        self._ended.pop(path, None)

    def remember(self, path: str, incarnation: int, failed: int) -> None:
        """Record that an incarnation has ended, ``failed`` of all so far with an error."""
        known = self._ended.pop(path, (0, 0))
        self._ended[path] = known if known[0] > incarnation else (incarnation, failed)
        if len(self._ended) > self._capacity:
            _, (oldest, _) = self._ended.popitem(last=False)
            self._highest_forgotten = max(self._highest_forgotten, oldest)
