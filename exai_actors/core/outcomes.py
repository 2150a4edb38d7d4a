"""What became of a session's requests, so that a repeated id gets the same outcome.

Bounded by number, by characters of text and by age; the oldest goes first. A request whose
outcome is no longer here runs anew when it is repeated.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from exai_actors.core.calls import Outcome
from exai_actors.ids import RequestKey


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """An outcome with the fingerprint of the call that led to it."""

    fingerprint: int
    outcome: Outcome
    expires: float


class OutcomeStore:
    """At most ``count`` outcomes and ``size`` characters of text, each for ``ttl_s`` seconds.

    ``now`` is in seconds and never goes back. ``kept`` may be looked into, to see at once that a
    request is not here. Room is made for several at a time, which is cheaper than one by one.
    """

    __slots__ = ("_is_counting", "_small", "_spare", "count", "kept", "size", "ttl_s")

    def __init__(self, count: int, size: int, ttl_s: float) -> None:
        self.count = count
        self.size = size
        self.ttl_s = ttl_s
        self.kept: dict[RequestKey, Remembered] = {}
        self._spare = count // 16
        # So many characters each, and all that may be kept fit without being counted.
        self._small = size // max(1, count)
        self._is_counting = False

    def __len__(self) -> int:
        return len(self.kept)

    def remember(self, request: RequestKey, fingerprint: int, outcome: Outcome, now: float) -> None:
        """Keep an outcome in place of an earlier one, unless it alone is larger than the store."""
        kept = self.kept
        if request in kept:
            del kept[request]
        kept[request] = Remembered(fingerprint, outcome, now + self.ttl_s)
        result = outcome.result
        if (
            self._is_counting
            or result is None
            or len(result.outputs) != 1
            or len(result.outputs[0]) + len(result.reasoning) > self._small
        ):
            self._fit(request, now)
        if len(kept) > self.count:
            self.expire(now)
            if len(kept) > self.count:
                self._drop_oldest(len(kept) - self.count + self._spare)

    def find(self, request: RequestKey, now: float) -> Remembered | None:
        """The outcome of a request that ended here less than ``ttl_s`` ago."""
        found = self.kept.get(request)
        if found is None:
            return None
        if found.expires <= now:
            self.expire(now)
            return None
        return found

    def _fit(self, newest: RequestKey, now: float) -> None:
        """Count the characters, and drop the oldest until they are few enough."""
        kept = self.kept
        if newest in kept and _text_size(kept[newest].outcome) > self.size:
            del kept[newest]
        self.expire(now)
        sizes = {request: _text_size(each.outcome) for request, each in kept.items()}
        excess = sum(sizes.values()) - self.size
        while excess > 0:
            oldest = next(iter(kept))
            del kept[oldest]
            excess -= sizes.pop(oldest)
        self._is_counting = any(size > self._small for size in sizes.values())

    def expire(self, now: float) -> None:
        """Forget all that is too old; they stand in order of age."""
        expired = 0
        for each in self.kept.values():
            if each.expires > now:
                break
            expired += 1
        self._drop_oldest(expired)

    def _drop_oldest(self, number: int) -> None:
        for request in tuple(islice(self.kept, number)):
            del self.kept[request]


def _text_size(outcome: Outcome) -> int:
    size = 0 if outcome.error is None else len(outcome.error.message)
    if outcome.result is not None:
        size += len(outcome.result.reasoning)
        for text in outcome.result.outputs:
            size += len(text)
    return size
