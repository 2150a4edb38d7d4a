"""What was told and will never be handled: counted by reason, the latest kept for a look.

Only what happened is kept, never the message: it may be large, and it may hold what nobody should
read in a console.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from exai_actors.runtime.events import DeadLetter, DeadLetterReason, message_type_of


class DeadLetters:
    """A bounded ring of records, and counters that never forget. Safe on any thread."""

    def __init__(
        self, capacity: int, now: Callable[[], float], publish: Callable[[DeadLetter], object]
    ) -> None:
        self._ring: deque[DeadLetter] = deque(maxlen=capacity)
        self._counts = dict.fromkeys(DeadLetterReason, 0)
        self._now = now
        self._publish = publish
        # Senders on any thread count here; an unguarded += would lose some of them.
        self._lock = threading.RLock()

    @property
    def counts(self) -> Mapping[DeadLetterReason, int]:
        """How many there were for each reason, those fallen out of the ring included."""
        return MappingProxyType(self._counts)

    def __len__(self) -> int:
        """How many there were in all."""
        return sum(self._counts.values())

    def recent(self) -> tuple[DeadLetter, ...]:
        """The latest records, oldest first."""
        with self._lock:
            return tuple(self._ring)

    def dead(self, path: str, message: Any) -> None:
        self._add(path, message, DeadLetterReason.DEAD)

    def full(self, path: str, message: Any) -> None:
        self._add(path, message, DeadLetterReason.FULL)

    def stopped_behind(self, path: str, message: Any) -> None:
        self._add(path, message, DeadLetterReason.STOPPED_BEHIND)

    def _add(self, path: str, message: Any, reason: DeadLetterReason) -> None:
        letter = DeadLetter(self._now(), path, message_type_of(message), reason)
        with self._lock:
            self._ring.append(letter)
            self._counts[reason] += 1
        self._publish(letter)
