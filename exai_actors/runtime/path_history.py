"""Remembers how many incarnations a path has had, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict


class PathHistory:
    """Incarnation numbers of a path only ever grow, also over paths long forgotten.

    The latest ``capacity`` ended paths are remembered. A path that is not remembered goes on above
    the highest number ever forgotten, so a number may be skipped but never given twice.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._ended: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._forgotten = 0

    def next_incarnation(self, path: str) -> tuple[int, int]:
        """The next incarnation's number, and how many earlier ones failed."""
        incarnation, failed = self._ended.get(path, (self._forgotten, 0))
        return incarnation + 1, failed

    def is_over(self, path: str, incarnation: int) -> bool:
        """Whether an incarnation of that number, or a higher one, is known to have ended."""
        return path in self._ended and self._ended[path][0] >= incarnation

    def remember(self, path: str, incarnation: int, failed: int) -> None:
        """An incarnation has ended, and so far ``failed`` of them with an error."""
        known = self._ended.pop(path, (0, 0))
        self._ended[path] = known if known[0] > incarnation else (incarnation, failed)
        if len(self._ended) > self._capacity:
            _, (oldest, _) = self._ended.popitem(last=False)
            self._forgotten = max(self._forgotten, oldest)
