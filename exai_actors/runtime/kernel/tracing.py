"""Tracing an actor: its next messages are reported with their times. Others pay nothing for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exai_actors.runtime.kernel.cell import ActorCell

Note = Callable[[Any, float, float], bool]
"""Takes a message, when its handler began, and how long that took; False to be called no more."""


class Tracer:
    """Stands in for the handler of one incarnation while something traces it; loop thread only."""

    def __init__(self, cell: ActorCell, now: Callable[[], float]) -> None:
        self._cell = cell
        self._now = now
        self._handle = cell.receive
        self._notes: list[Note] = []
        cell.receive = self._receive

    @staticmethod
    def of(cell: ActorCell, now: Callable[[], float]) -> Tracer:
        """The tracer of the actor, a new one if it has none."""
        present = getattr(cell.receive, "__self__", None)
        return present if isinstance(present, Tracer) else Tracer(cell, now)

    def add(self, note: Note) -> Callable[[], None]:
        """Report to ``note`` from now on; the result ends that."""
        self._notes.append(note)

        def remove() -> None:
            if note in self._notes:
                self._notes.remove(note)
                self._leave_if_unused()

        return remove

    def _receive(self, message: Any) -> Any:
        began = self._now()
        try:
            return self._handle(message)
        finally:
            took = self._now() - began
            self._notes = [note for note in self._notes if note(message, began, took)]
            self._leave_if_unused()

    def _leave_if_unused(self) -> None:
        if not self._notes:
            self._cell.receive = self._handle
