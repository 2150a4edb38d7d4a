"""Handling together what several sockets brought at once."""

from __future__ import annotations

from typing import Protocol

from exai_actors.edges.websocket.outbox import TurnEnd


class Batches(Protocol):
    """Who handles what a batch brings; the runtime's actor system is meant.

    With ``hold`` before and ``release`` after, that happens in the batch's own callback. ``hold``
    gives False when there is nothing to release.
    """

    def hold(self) -> bool: ...

    def release(self) -> None: ...


class Unbatched:
    """For recipients that handle each message as it comes."""

    def hold(self) -> bool:
        return False

    def release(self) -> None:
        """Nothing was held."""


UNBATCHED = Unbatched()


class AnsweredBatches:
    """Batches whose answers are written at their end."""

    def __init__(self, batches: Batches, turn_end: TurnEnd) -> None:
        self._batches = batches
        self._turn_end = turn_end

    def hold(self) -> bool:
        held = self._batches.hold()
        if held:
            self._turn_end.hold()
        return held

    def release(self) -> None:
        try:
            self._batches.release()
        finally:
            self._turn_end.release()
