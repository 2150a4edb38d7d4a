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

    def remember(self, path: str, incarnation: int, failed: int) -> None:
        """An incarnation has ended, and so far ``failed`` of them with an error."""
        self._ended.pop(path, None)
        self._ended[path] = (incarnation, failed)
        if len(self._ended) > self._capacity:
            _, (oldest, _) = self._ended.popitem(last=False)
            self._forgotten = max(self._forgotten, oldest)
