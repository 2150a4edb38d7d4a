"""The slow consumer rule: how long the outbox of a connection may stay above its high mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exai_actors.messages.connection import SlowConsumerTimeout
from exai_actors.runtime import Cancellable, LoopActor

if TYPE_CHECKING:
    from exai_actors.actors.connection.settings import ConnectionSettings
    from exai_actors.ports import Outbox


class SlowConsumer:
    """Aborts the socket of a client that reads too little while its outbox is above the high mark.

    In each ``slow_consumer_s`` it must reach the low mark or read ``slow_consumer_bytes``.

    The actor that owns this gets SlowConsumerTimeout and passes it to ``check``. No reference to it
    is kept: a cycle would keep the socket open until the garbage collector runs.
    """

    __slots__ = ("_outbox", "_settings", "_timer")

    def __init__(self, outbox: Outbox, settings: ConnectionSettings) -> None:
        self._outbox = outbox
        self._settings = settings
        self._timer: Cancellable | None = None

    @property
    def is_slow(self) -> bool:
        """Whether the outbox has been above its high mark, and not at the low mark since."""
        return self._timer is not None

    def outbox_high(self, owner: LoopActor) -> None:
        """Start the time that the client has, unless it has started already."""
        if self._timer is None:
            self._start_timer(owner)

    def outbox_low(self) -> None:
        """Stop the time that the client has, if it has started."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self, owner: LoopActor, taken_before: int) -> None:
        """Abort the socket unless the client has read enough since ``taken_before``."""
        if self._outbox.bytes_taken() - taken_before < self._settings.slow_consumer_bytes:
            self._outbox.abort()
        else:
            self._start_timer(owner)

    def _start_timer(self, owner: LoopActor) -> None:
        timeout = SlowConsumerTimeout(self._outbox.bytes_taken())
        self._timer = owner.schedule(self._settings.slow_consumer_s, timeout)
