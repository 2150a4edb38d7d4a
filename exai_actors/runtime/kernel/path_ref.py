"""A reference to a path, whichever incarnation is alive there."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from exai_actors.messages.recipient import Offer
from exai_actors.runtime.kernel.events import DeadLetterReason
from exai_actors.runtime.kernel.ref import Ref
from exai_actors.runtime.kernel.system import System

R = TypeVar("R", bound=Ref)


class PathRef(Generic[R]):
    """Resolves to the incarnation that is alive at the path at that moment."""

    __slots__ = ("_system", "path")

    def __init__(self, system: System[R], path: str) -> None:
        self._system = system
        self.path = path

    def resolve(self) -> R | None:
        """The incarnation that is alive at the path, if any."""
        return self._system.resolve(self.path)

    def tell(self, message: Any) -> None:
        """Like ``Ref.tell``; a dead letter if no actor is alive there."""
        ref = self.resolve()
        if ref is not None:
            ref.tell(message)
        else:
            self._dead_letter(message)

    def tell_system(self, message: Any) -> None:
        """Like ``Ref.tell_system``; a dead letter if no actor is alive there."""
        ref = self.resolve()
        if ref is not None:
            ref.tell_system(message)
        else:
            self._dead_letter(message)

    def offer(self, message: Any) -> Offer:
        """Like ``Ref.offer``."""
        ref = self.resolve()
        return "closed" if ref is None else ref.offer(message)

    def _dead_letter(self, message: Any) -> None:
        letters = self._system.dead_letters
        letters.add(self.path, type(message).__name__, DeadLetterReason.DEAD)
