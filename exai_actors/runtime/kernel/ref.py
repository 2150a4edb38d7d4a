"""A reference to one incarnation of an actor."""

from __future__ import annotations

from typing import Any

from exai_actors.messages.recipient import Offer
from exai_actors.runtime.kernel.cell import STOPPING, ActorCell
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
        if not (cell.scheduled or cell.state):
            # The fast path of an idle actor, which has room.
            cell.mailbox.user.append(message)
            if cell.state >= STOPPING:
                # It has ended meanwhile.
                cell.scheduler.enqueue(cell)
            else:
                cell.scheduled = True
                scheduler = cell.scheduler
                cell.work.waiting_since = scheduler.clock
                scheduler.ready.append(cell)
                if not scheduler.armed:
                    scheduler.request_turn_for(cell)
            return
        mailbox = cell.mailbox
        if len(mailbox.user) >= mailbox.limit:
            cell.tell_when_full(message)
            return
        mailbox.user.append(message)
        if not cell.scheduled:
            cell.scheduler.enqueue(cell)

    def tell_system(self, message: Any) -> None:
        """Put a message in the system lane: before all user messages, never refused for space."""
        cell = self._cell
        if not cell.offer_system(message):
            cell.dead_letter(message, DeadLetterReason.DEAD)

    def offer(self, message: Any) -> Offer:
        """Put a message in the user lane and return whether that succeeded.

        ACCEPTED means that it will be handled, or become a dead letter if the actor ends first.
        FULL and CLOSED mean that it will never be handled, and leave no dead letter.
        """
        cell = self._cell
        if not (cell.scheduled or cell.state):
            # The fast path of an idle actor, which has room.
            cell.mailbox.user.append(message)
            if cell.state >= STOPPING:
                # It has ended meanwhile.
                cell.scheduler.enqueue(cell)
            else:
                cell.scheduled = True
                scheduler = cell.scheduler
                cell.work.waiting_since = scheduler.clock
                scheduler.ready.append(cell)
                if not scheduler.armed:
                    scheduler.request_turn_for(cell)
            return "accepted"
        mailbox = cell.mailbox
        if len(mailbox.user) >= mailbox.limit:
            return cell.offer(message)
        mailbox.user.append(message)
        if not cell.scheduled:
            cell.scheduler.enqueue(cell)
        return "accepted"
