"""Handling together what several sockets brought at once."""

from __future__ import annotations

from typing import Protocol


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
