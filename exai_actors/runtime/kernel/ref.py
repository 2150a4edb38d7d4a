"""References to actors: to one incarnation, and to the present incarnation at a path."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from exai_actors.messages.recipient import Offer
from exai_actors.runtime.kernel.cell import STOPPING, ActorCell
from exai_actors.runtime.kernel.dead_letters import DeadLetters
from exai_actors.runtime.kernel.events import DeadLetterReason


class Ref:
    """A reference to one incarnation of an actor. Every method may be called on any thread."""

    __slots__ = ("_cell",)

    def __init__(self, cell: ActorCell) -> None:
        self._cell = cell

    def __str__(self) -> str:
        return str(self._cell)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    @property
    def path(self) -> str:
        return self._cell.path

    @property
    def incarnation(self) -> int:
        return self._cell.incarnation

    def is_alive(self) -> bool:
        """Return whether the actor has not begun to end."""
        return self._cell.state < STOPPING

    def tell(self, message: Any) -> None:
        """Put a message in the user lane, in order.

        Never raises and never blocks: if the actor has ended or its lane is full, the message
        becomes a dead letter. A message with ``refusable = False`` goes into a full lane as well.
        """
        cell = self._cell
        mailbox = cell.mailbox
        lane = mailbox.user
        if len(lane) >= mailbox.limit:
            cell.tell_when_full(message)
            return
        lane.append(message)
        if not cell.scheduled:
            cell.scheduler.enqueue(cell)

    def tell_system(self, message: Any) -> None:
        """Put a message in the system lane: before all user messages, never refused for space."""
        cell = self._cell
        if cell.offer_system(message) is Offer.CLOSED:
            cell.dead_letter(message, DeadLetterReason.DEAD)

    def offer(self, message: Any) -> Offer:
        """Put a message in the user lane and return whether that succeeded.

        ACCEPTED means that it will be handled, or become a dead letter if the actor ends first.
        FULL and CLOSED mean that it will never be handled, and leave no dead letter.
        """
        return self._cell.offer(message)


R = TypeVar("R", bound=Ref)
R_co = TypeVar("R_co", bound=Ref, covariant=True)


class Directory(Protocol[R_co]):
    """The actor system as a reference by path sees it."""

    @property
    def dead_letters(self) -> DeadLetters: ...

    def resolve(self, path: str, /) -> R_co | None: ...


class PathRef(Generic[R]):
    """A reference to a path: resolves to the incarnation that is alive there at that moment."""

    __slots__ = ("_system", "path")

    def __init__(self, system: Directory[R], path: str) -> None:
        self._system = system
        self.path = path

    def __repr__(self) -> str:
        return f"<PathRef {self.path}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PathRef):
            return NotImplemented
        return self.path == other.path and self._system is other._system

    def __hash__(self) -> int:
        return hash(self.path)

    def resolve(self) -> R | None:
        """The incarnation that is alive at the path, if any."""
        return self._system.resolve(self.path)

    def tell_system(self, message: Any) -> None:
        """Like ``Ref.tell_system``; a dead letter if no actor is alive there."""
        ref = self._system.resolve(self.path)
        if ref is None:
            self._system.dead_letters.add(self.path, type(message).__name__, DeadLetterReason.DEAD)
        else:
            ref.tell_system(message)
