"""Messages that will never be handled: counted by reason, with a record of the latest.

A record holds the class of a message, never the message: it may be large, and it may contain text
that must not appear in a console.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType

from exai_actors.runtime.kernel.events import DeadLetter, DeadLetterReason


class DeadLetters:
    """A bounded ring of records, and counters that include the records dropped from it.

    Safe on any thread.
    """

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
        """How many there were for each reason."""
        return MappingProxyType(self._counts)

    def __len__(self) -> int:
        """How many there were in all."""
        return sum(self._counts.values())

    def recent(self) -> tuple[DeadLetter, ...]:
        """The latest records, oldest first."""
        with self._lock:
            return tuple(self._ring)

    def add(self, path: str, message_type: str, reason: DeadLetterReason) -> None:
        letter = DeadLetter(self._now(), path, message_type, reason)
        with self._lock:
            self._ring.append(letter)
            self._counts[reason] += 1
        self._publish(letter)
