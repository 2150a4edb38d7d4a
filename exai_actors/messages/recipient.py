"""Where messages can be told: an actor's reference and a test probe alike."""

from __future__ import annotations

from enum import Enum
from typing import Protocol, TypeVar

M_contra = TypeVar("M_contra", contravariant=True)


class Offer(Enum):
    """What became of an offered message."""

    ACCEPTED = "accepted"
    FULL = "full"
    CLOSED = "closed"


class Recipient(Protocol[M_contra]):
    """Something that takes messages of one closed union.

    ``tell`` never raises for a recipient that is gone or full: the message becomes a dead letter.
    ``offer`` says whether the message was taken. ``tell_system`` goes before all told messages and
    is never refused, so it may overtake them.
    """

    def tell(self, message: M_contra, /) -> None: ...

    def tell_system(self, message: M_contra, /) -> None: ...

    def offer(self, message: M_contra, /) -> Offer: ...
