"""An actor's ``actor_inbox``: pykka's envelopes into its mailbox."""

from __future__ import annotations

from typing import Any

from pykka import ActorDeadError, Future
from pykka._envelope import Envelope

from exai_actors.runtime.kernel.cell import ActorCell
from exai_actors.runtime.kernel.requests import request


class Inbox:
    """pykka's inbox protocol, but for ``get``: only the scheduler takes messages out."""

    __slots__ = ("_cell",)

    def __init__(self, cell: ActorCell) -> None:
        self._cell = cell

    def put(self, envelope: Envelope[Any], /) -> None:
        if envelope.reply_to is None:
            self._cell.tell_when_full(envelope.message)
        else:
            request(self._cell, envelope.message, PykkaReply(envelope.reply_to))

    def empty(self) -> bool:
        return not len(self._cell.mailbox)


class PykkaReply:
    """Answers an ask whose reply goes to a future of any kind."""

    __slots__ = ("future",)

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def settle(self, value: Any) -> None:
        self.future.set(value)

    def settle_error(self, error: BaseException) -> None:
        self.future.set_exception((type(error), error, error.__traceback__))

    def settle_dead(self, reason: str) -> None:
        self.settle_error(ActorDeadError(reason))
