"""A client that is behind with its reading, and how long that is borne."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exai_actors.messages.connection import SlowConsumerTimeout
from exai_actors.runtime import Cancellable, LoopActor

if TYPE_CHECKING:
    from exai_actors.actors.settings import ConnectionSettings
    from exai_actors.ports import Outbox


class SlowConsumer:
    """Drops the socket of a client that is over its outbox's high mark and hardly reads.

    It has ``slow_consumer_s`` to catch up or to take ``slow_consumer_bytes``, again and again.
    ``owner`` is told SlowConsumerTimeout and hands it to ``look_again``. It is not kept: the two
    would keep each other, and the socket, until the collector comes by.
    """

    __slots__ = ("_outbox", "_settings", "_timer")

    def __init__(self, outbox: Outbox, settings: ConnectionSettings) -> None:
        self._outbox = outbox
        self._settings = settings
        self._timer: Cancellable | None = None

    @property
    def is_behind(self) -> bool:
        return self._timer is not None

    def falls_behind(self, owner: LoopActor) -> bool:
        """It is over the mark; True unless that is known already."""
        if self._timer is not None:
            return False
        self._watch(owner)
        return True

    def catches_up(self) -> bool:
        """It is under the low mark again; True unless that is known already."""
        if self._timer is None:
            return False
        self._timer.cancel()
        self._timer = None
        return True

    def look_again(self, owner: LoopActor, taken_before: int) -> None:
        """Its time is over, since whose beginning it has taken what is beyond ``taken_before``."""
        if self._outbox.bytes_taken() - taken_before < self._settings.slow_consumer_bytes:
            self._outbox.abort()
        else:
            self._watch(owner)

    def _watch(self, owner: LoopActor) -> None:
        timeout = SlowConsumerTimeout(self._outbox.bytes_taken())
        self._timer = owner.schedule(self._settings.slow_consumer_s, timeout)
