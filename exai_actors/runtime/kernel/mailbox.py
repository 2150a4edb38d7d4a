"""The two lanes of messages that wait for an actor."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

_NO_LANE: deque[Any] = deque(maxlen=0)

# Taken once in an actor's life at most. Re-entrant, because a garbage collection inside may run a
# finalizer that sends a message.
_opening = threading.RLock()


class Mailbox:
    """A bounded user lane, and a system lane that goes first and is never refused for space."""

    __slots__ = ("limit", "system", "user")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """How many messages the user lane holds; 0 once the mailbox is closed."""
        self.user: deque[Any] = deque()
        # An empty deque takes 760 bytes, and most actors never get a system message.
        self.system: deque[Any] = _NO_LANE

    def put_system(self, message: Any) -> None:
        if self.system is _NO_LANE:
            with _opening:
                if self.system is _NO_LANE:
                    self.system = deque()
        self.system.append(message)

    def __len__(self) -> int:
        return len(self.system) + len(self.user)

    def close(self) -> None:
        """Have room for no more messages; those that wait stay."""
        self.limit = 0
