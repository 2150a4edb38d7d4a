"""What became of a session's requests, so that a repeated id gets the same outcome.

Bounded by number, by characters of text and by age; the oldest goes first. A request whose
outcome is no longer here runs anew when it is repeated.
"""

from __future__ import annotations

import msgspec

from exai_actors.core.calls import Outcome
from exai_actors.ids import RequestKey


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """An outcome with the fingerprint of the call that led to it."""

    fingerprint: int
    outcome: Outcome
    size: int
    expires: float


class OutcomeStore:
    """At most ``count`` outcomes and ``size`` characters of text, each for ``ttl_s`` seconds.

    ``now`` is in seconds and never goes back.
    """

    __slots__ = ("_size", "count", "kept", "size", "ttl_s")

    def __init__(self, count: int, size: int, ttl_s: float) -> None:
        self.count = count
        self.size = size
        self.ttl_s = ttl_s
        self.kept: dict[RequestKey, Remembered] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self.kept)

    def remember(self, request: RequestKey, fingerprint: int, outcome: Outcome, now: float) -> None:
        """Keep an outcome in place of an earlier one, unless it alone is larger than the store."""
        kept = self.kept
        if request in kept:
            self._forget(request)
        result = outcome.result
        if result is not None and len(result.outputs) == 1:
            size = len(result.outputs[0]) + len(result.reasoning)
        else:
            size = _text_size(outcome)
        if size > self.size or self.count == 0:
            return
        kept[request] = Remembered(fingerprint, outcome, size, now + self.ttl_s)
        self._size += size
        if next(iter(kept.values())).expires <= now:
            self.expire(now)
        while len(kept) > self.count or self._size > self.size:
            self._drop_oldest()

    def find(self, request: RequestKey, now: float) -> Remembered | None:
        """The outcome of a request that ended here less than ``ttl_s`` ago."""
        found = self.kept.get(request)
        if found is None:
            return None
        if found.expires <= now:
            self.expire(now)
            return None
        return found

    def expire(self, now: float) -> None:
        """Forget all that is too old; they stand in order of age."""
        while self.kept and next(iter(self.kept.values())).expires <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        dropped = self.kept.pop(next(iter(self.kept)))
        self._size -= dropped.size

    def _forget(self, request: RequestKey) -> None:
        known = self.kept.pop(request, None)
        if known is not None:
            self._size -= known.size


def _text_size(outcome: Outcome) -> int:
    size = 0 if outcome.error is None else len(outcome.error.message)
    if outcome.result is not None:
        size += len(outcome.result.reasoning)
        for text in outcome.result.outputs:
            size += len(text)
    return size
