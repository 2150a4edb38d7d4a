"""One limit on the buffers of the whole process, as a high and a low watermark.

Each connection and session has limits of its own, but a thousand of them at their limits fill any
machine. Above the high mark those that hold most take in nothing more, so that they drain while
all others are served as usual; below the low mark they continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

LOW_MARK = 0.75
"""Part of the limit. The distance keeps the alarm from flickering."""
SPARED = 0.5
"""Part of the limit below which nothing more needs to be restrained."""
ENDING_MARK = 1.25
"""Multiple of the limit above which restraint has not been enough."""
SMALL_BYTES = 64 * 1024
"""A holder of no more than this is never restrained."""

H = TypeVar("H")


class Measures(msgspec.Struct, Generic[H], frozen=True):
    """The result of one look at the buffers; ``changed`` if the alarm was raised or cleared."""

    restrain: tuple[H, ...] = ()
    """Holders that are to take in nothing more."""
    release: tuple[H, ...] = ()
    """Holders that are no longer restrained."""
    give_up: tuple[H, ...] = ()
    """Holders to free the memory of now, regardless of their loss."""
    changed: bool = False


class BufferBudget(Generic[H]):
    """Decides which holders are restrained. ``limit`` is in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.is_short = False
        self._restrained: set[H] = set()

    @property
    def restrained(self) -> int:
        """The number of restrained holders."""
        return len(self._restrained)

    def restrained_holders(self) -> tuple[H, ...]:
        """Those that take in nothing more."""
        return tuple(self._restrained)

    def look(self, held: Sequence[tuple[H, int]], other: int = 0) -> Measures[H]:
        """Compare all holders with the limit; ``other`` bytes belong to none of them."""
        total = other + sum(size for _, size in held)
        if not self.is_short:
            if total <= self.limit:
                return Measures()
            self.is_short = True
            return self._restrain(held, total, changed=True)
        if total > self.limit * LOW_MARK:
            return self._restrain(held, total, changed=False)
        self.is_short = False
        released, self._restrained = self._restrained, set()
        alive = {holder for holder, _ in held}
        return Measures(release=tuple(released & alive), changed=True)

    def _restrain(self, held: Sequence[tuple[H, int]], total: int, *, changed: bool) -> Measures[H]:
        biggest_first = sorted(held, key=lambda each: each[1], reverse=True)
        restrain: list[H] = []
        spared = total
        for holder, size in biggest_first:
            if spared <= self.limit * SPARED or size <= SMALL_BYTES:
                break
            spared -= size
            restrain.append(holder)
        give_up: list[H] = []
        if total > self.limit * ENDING_MARK:
            for holder, size in biggest_first:
                if total <= self.limit or size <= SMALL_BYTES:
                    break
                total -= size
                give_up.append(holder)
        new = [holder for holder in restrain if holder not in self._restrained]
        alive = {holder for holder, _ in held}
        self._restrained = (self._restrained & alive) | set(new)
        return Measures(tuple(new), (), tuple(give_up), changed)
