"""The interface to a receiver of messages. Actor references and test probes implement it."""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar

M_contra = TypeVar("M_contra", contravariant=True)


Offer = Literal["accepted", "full", "closed"]
"""The result of offering a message."""


class Recipient(Protocol[M_contra]):
    """A receiver of the messages of one closed union.

    ``tell`` never raises: a message to a recipient that has ended or is full becomes a dead letter.
    ``offer`` returns whether the message was accepted. ``tell_system`` uses the system lane: such a
    message is handled before all others and never refused.
    """

    def tell(self, message: M_contra, /) -> None: ...

    def tell_system(self, message: M_contra, /) -> None: ...

    def offer(self, message: M_contra, /) -> Offer: ...
