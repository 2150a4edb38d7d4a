"""The outcomes of a session's requests, so that a repeated id gets the same outcome.

Limited by number, bytes and age; the oldest are dropped first. A repeat of a request whose outcome
has been dropped is a new request.
"""

from __future__ import annotations

import msgspec

from exai_actors.core.calls import Outcome
from exai_actors.core.session.packing import PackedStore, pack, unpacker
from exai_actors.ids import RequestKey


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An outcome with the fingerprint of the call that led to it."""

    fingerprint: int
    outcome: Outcome
    expires: float


_unpack = unpacker(Remembered)


class OutcomeStore(PackedStore[RequestKey]):
    """At most ``count`` outcomes and ``size`` bytes of them, each for ``lifetime_s`` seconds.

    ``now`` is in monotonic seconds.
    """

    __slots__ = ("lifetime_s",)

    def __init__(self, count: int, size: int, lifetime_s: float) -> None:
        super().__init__(count, size)
        self.lifetime_s = lifetime_s

    def remember(
        self, names: tuple[RequestKey, ...], fingerprint: int, outcome: Outcome, now: float
    ) -> None:
        """Store an outcome under each name in place of an earlier one.

        It is not stored if it alone exceeds the store. It counts once for each name.
        """
        # As bytes, a tuple is the same as a Remembered.
        packed = pack((fingerprint, outcome, now + self.lifetime_s))
        fits = len(packed) <= self.most_bytes
        for name in names:
            if fits:
                self._keep(name, packed)
            elif name in self.kept:
                self._drop(name)

    def share(self, known: RequestKey, request: RequestKey) -> None:
        """Store the outcome of ``known`` under another name, until the same instant.

        It counts again, but takes no memory.
        """
        packed = self.kept.get(known)
        if packed is not None and known != request:
            self._keep(request, packed)

    def find(self, request: RequestKey, now: float) -> Remembered | None:
        """The outcome of a request that ended less than ``lifetime_s`` ago, if it is stored."""
        packed = self.kept.get(request)
        if packed is None:
            return None
        found = _unpack(packed)
        if found.expires <= now:
            self._drop(request)
            return None
        return found
