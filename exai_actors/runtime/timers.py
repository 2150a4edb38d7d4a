"""Messages that an actor tells itself later, and notices of a watched actor's end.

Both travel in the system lane wrapped, and are unwrapped when their turn comes: what was cancelled
meanwhile, even after the timer fired, is never seen by the actor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exai_actors.runtime.signals import ExitReason, RuntimeInternal

if TYPE_CHECKING:
    from exai_actors.runtime.driver import Cancellable
    from exai_actors.runtime.mailbox import Mailbox


class ScheduledMessage(RuntimeInternal):
    """One message due later. ``cancel`` is idempotent and harmless once it was delivered."""

    __slots__ = ("_handle", "_mailbox", "cancelled", "message")

    def __init__(self, mailbox: Mailbox, delay_s: float, message: Any) -> None:
        self.message = message
        self.cancelled = False
        self._mailbox = mailbox
        if mailbox.timers is None:
            mailbox.timers = set()
        mailbox.timers.add(self)
        self._handle: Cancellable | None = mailbox.system.driver.call_later(delay_s, self._fire)

    def cancel(self) -> None:
        self.cancelled = True
        if self._handle is not None:
            self._handle.cancel()
        self._forget()

    def _fire(self) -> None:
        # The loop's handle refers to this: they would keep each other until the collector comes by.
        self._handle = None
        self._forget()
        self._mailbox.offer_system(self)

    def _forget(self) -> None:
        if self._mailbox.timers is not None:
            self._mailbox.timers.discard(self)


class DownNotice(RuntimeInternal):
    """A watched incarnation has ended; becomes Down if it is still watched on arrival."""

    __slots__ = ("reason", "target")

    def __init__(self, target: Mailbox | str, reason: ExitReason) -> None:
        self.target = target
        """Whose incarnation ended, or the path at which nobody lived."""
        self.reason = reason
