"""The outcomes of a session's requests, so that a repeated id gets the same outcome.

Limited by number, bytes and age; the oldest are dropped first. A repeat of a request whose outcome
has been dropped is a new request.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from exai_actors.core.calls import Outcome
from exai_actors.core.session.packing import pack, unpacker
from exai_actors.ids import RequestKey


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An outcome with the fingerprint of the call that led to it."""

    fingerprint: int
    outcome: Outcome
    expires: float


_unpack = unpacker(Remembered)


class OutcomeStore:
    """At most ``count`` outcomes and ``size`` bytes of them, each for ``lifetime_s`` seconds.

    ``now`` is in monotonic seconds. A full store drops several outcomes at a time, which is cheaper
    than one by one.
    """

    __slots__ = ("_size", "_spare", "count", "kept", "lifetime_s", "size")

    def __init__(self, count: int, size: int, lifetime_s: float) -> None:
        self.count = count
        self.size = size
        self.lifetime_s = lifetime_s
        self.kept: dict[RequestKey, bytes] = {}
        """Each stored outcome, possibly one that has expired; packed. To be changed only here."""
        self._size = 0
        self._spare = count // 16

    @property
    def kept_bytes(self) -> int:
        """The size of all stored outcomes."""
        return self._size

    def shrink(self, size: int) -> None:
        """Drop the oldest outcomes until the rest has at most ``size`` bytes."""
        while self._size > size:
            self._drop(next(iter(self.kept)))

    def __len__(self) -> int:
        return len(self.kept)

    def remember(
        self, names: tuple[RequestKey, ...], fingerprint: int, outcome: Outcome, now: float
    ) -> None:
        """Store an outcome under each name in place of an earlier one.

        It is not stored if it alone exceeds the store. It counts once for each name.
        """
        kept = self.kept
        # As bytes, a tuple is the same as a Remembered.
        packed = pack((fingerprint, outcome, now + self.lifetime_s))
        size = len(packed)
        for name in names:
            if name in kept:
                self._drop(name)
            if size <= self.size:
                kept[name] = packed
                self._size += size
        if len(kept) > self.count or self._size > self.size:
            self._make_room()

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

    def _keep(self, request: RequestKey, packed: bytes) -> None:
        if request in self.kept:
            self._drop(request)
        self.kept[request] = packed
        self._size += len(packed)
        self._make_room()

    def _make_room(self) -> None:
        kept = self.kept
        if len(kept) > self.count:
            surplus = len(kept) - self.count + self._spare
            self._size -= sum([len(kept.pop(old)) for old in tuple(islice(kept, surplus))])
        while self._size > self.size:
            self._drop(next(iter(kept)))

    def _drop(self, request: RequestKey) -> None:
        self._size -= len(self.kept.pop(request))
