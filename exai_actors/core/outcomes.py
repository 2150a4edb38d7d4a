"""What became of a session's requests, so that a repeated id gets the same outcome.

Bounded by number, by characters of text and by age; the oldest goes first. A request whose
outcome is no longer here runs anew when it is repeated.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from exai_actors.core.calls import Outcome
from exai_actors.core.packing import Packer, size_of
from exai_actors.ids import RequestKey


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An outcome with the fingerprint of the call that led to it."""

    fingerprint: int
    outcome: Outcome
    expires: float


_packer: Packer[Remembered] = Packer(Remembered)


class OutcomeStore:
    """At most ``count`` outcomes and ``size`` characters of text, each for ``ttl_s`` seconds.

    ``now`` is in seconds and never goes back. ``kept`` may be looked into, to see at once that a
    request is not here. Room is made for several at a time, which is cheaper than one by one.
    """

    __slots__ = ("_size", "_spare", "count", "kept", "size", "ttl_s")

    def __init__(self, count: int, size: int, ttl_s: float) -> None:
        self.count = count
        self.size = size
        self.ttl_s = ttl_s
        self.kept: dict[RequestKey, bytes] = {}
        self._size = 0
        self._spare = count // 16

    def __len__(self) -> int:
        return len(self.kept)

    def remember(self, request: RequestKey, fingerprint: int, outcome: Outcome, now: float) -> None:
        """Keep an outcome in place of an earlier one, unless it alone is larger than the store."""
        kept = self.kept
        if request in kept:
            self._drop(request)
        result = outcome.result
        if result is not None and len(result.outputs) == 1:
            size = len(result.outputs[0]) + len(result.reasoning)
        else:
            size = _text_size(outcome)
        if size > self.size:
            return
        kept[request] = _packer.pack(Remembered(fingerprint, outcome, now + self.ttl_s), size)
        self._size += size
        if len(kept) > self.count:
            for oldest in tuple(islice(kept, len(kept) - self.count + self._spare)):
                self._drop(oldest)
        while self._size > self.size:
            self._drop(next(iter(kept)))

    def find(self, request: RequestKey, now: float) -> Remembered | None:
        """The outcome of a request that ended here less than ``ttl_s`` ago."""
        packed = self.kept.get(request)
        if packed is None:
            return None
        found = _packer.unpack(packed)
        if found.expires <= now:
            self._drop(request)
            return None
        return found

    def _drop(self, request: RequestKey) -> None:
        self._size -= size_of(self.kept.pop(request))


def _text_size(outcome: Outcome) -> int:
    size = 0 if outcome.error is None else len(outcome.error.message)
    if outcome.result is not None:
        size += len(outcome.result.reasoning)
        for text in outcome.result.outputs:
            size += len(text)
    return size
