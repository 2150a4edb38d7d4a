"""Messages that an actor sends to itself later.

A scheduled message travels in the system lane wrapped and is unwrapped when its turn comes: the
actor never sees one that was cancelled in the meantime, even after the timer fired.
"""

from __future__ import annotations

from typing import Any

from exai_actors.runtime.kernel.cell import ActorCell, Wrapper, message_type_of
from exai_actors.runtime.kernel.driver import Cancellable


class ScheduledMessage(Wrapper):
    """One message due later. ``cancel`` is idempotent, and harmless after delivery."""

    __slots__ = ("_cell", "_handle", "cancelled", "message")

    def __init__(self, cell: ActorCell, delay_s: float, message: Any) -> None:
        self.message = message
        self.cancelled = False
        self._cell = cell
        if cell.timers is None:
            cell.timers = set()
        cell.timers.add(self)
        self._handle: Cancellable | None = cell.host.driver.call_later(delay_s, self._fire)

    def cancel(self) -> None:
        self.cancelled = True
        if self._handle is not None:
            self._handle.cancel()
        self._forget()

    def message_type(self) -> str:
        return message_type_of(self.message)

    def deliver(self, cell: ActorCell, /) -> None:
        if not self.cancelled:
            cell.handle(self.message)

    def _fire(self) -> None:
        # The loop's handle refers to this: together they would be left to the cycle collector.
        self._handle = None
        self._forget()
        self._cell.offer_system(self)

    def _forget(self) -> None:
        timers = self._cell.timers
        if timers is not None:
            timers.discard(self)
            if not timers:
                # An empty set takes 216 bytes, and most actors set one timer in their life.
                self._cell.timers = None
