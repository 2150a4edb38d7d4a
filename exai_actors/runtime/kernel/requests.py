"""Messages that are answered: a request, and the request to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from exai_actors.runtime.kernel import lifecycle
from exai_actors.runtime.kernel.cell import ActorCell, Wrapper, message_type_of
from exai_actors.runtime.kernel.errors import MailboxFull
from exai_actors.runtime.kernel.signals import ExitReason


class Reply(Protocol):
    """Takes the one answer to a request. A second answer, or a late one, is ignored."""

    def settle(self, value: Any, /) -> object: ...

    def settle_error(self, error: BaseException, /) -> object: ...

    def settle_dead(self, reason: str, /) -> object:
        """The actor has ended without handling the request."""


class Request(Wrapper):
    """A message whose handler's return value, or error, goes to ``reply``."""

    __slots__ = ("message", "reply")

    def __init__(self, message: Any, reply: Reply) -> None:
        self.message = message
        self.reply = reply

    @property
    def refusable(self) -> bool:
        return getattr(self.message, "refusable", True)

    def message_type(self) -> str:
        return message_type_of(self.message)

    def deliver(self, cell: ActorCell, /) -> None:
        try:
            value = cell.handle(self.message)
        except BaseException as error:  # noqa: BLE001 - one failure rule, whatever was raised
            # First, so that a reader of the error finds the actor dead and its end reported.
            lifecycle.fail(cell, error, ExitReason.FAILED, self.message_type())
            self.reply.settle_error(error)
        else:
            self.reply.settle(value)

    def drop(self, cell: ActorCell, /) -> None:
        self.reply.settle_dead(f"{cell.path} stopped before it handled the message")


class StopRequest(Wrapper):
    """Ends the actor; ``done`` is called with True once it has ended by this or another stop."""

    __slots__ = ("done",)

    def __init__(self, done: Callable[[bool], object] | None = None) -> None:
        self.done = done

    def message_type(self) -> str:
        return "stop"

    def deliver(self, cell: ActorCell, /) -> None:
        lifecycle.stop(cell)
        self.drop(cell)

    def drop(self, _cell: ActorCell, /) -> None:
        if self.done is not None:
            self.done(True)


def request(cell: ActorCell, message: Any, reply: Reply) -> None:
    """Put a request in the user lane; if it is refused, the reply is an error immediately."""
    match cell.offer(Request(message, reply)):
        case "accepted":
            pass
        case "full":
            mailbox = cell.mailbox
            reply.settle_error(
                MailboxFull(
                    f"the mailbox of {cell.path} is full: {len(mailbox.user)} messages wait"
                    f" and its limit is {mailbox.limit}"
                )
            )
        case "closed":
            reply.settle_dead(f"{cell} takes no messages")


def request_stop(cell: ActorCell, done: Callable[[bool], object] | None = None) -> None:
    """End an actor after its present message, before its backlog; False if it had ended."""
    if not cell.offer_system(StopRequest(done)) and done is not None:
        done(False)
