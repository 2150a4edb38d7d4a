"""The questions that consoles can ask, and who may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exai_actors.core.operations.action import ActionError
from exai_actors.core.operators import Role

Answer = Callable[[str], dict[str, Any]]
"""Answers a question of the thing that the text names. Raises ActionError with ``unknown``."""


class Questions:
    """The questions of a broker by name."""

    def __init__(self) -> None:
        self._questions: dict[str, tuple[Role, Answer, tuple[Role, Answer] | None]] = {}

    def add(
        self, name: str, role: Role, answer: Answer, *, more: tuple[Role, Answer] | None = None
    ) -> None:
        """``more`` is a part of the answer that only a higher role gets."""
        self._questions[name] = role, answer, more

    def names(self, role: Role) -> list[str]:
        """The questions that this role may ask."""
        return [name for name, (needed, _, _) in self._questions.items() if role.may(needed)]

    def answer(self, name: str, of: str, role: Role) -> dict[str, Any]:
        """Raises ActionError if there is no such question or thing, or the role may not ask."""
        if name not in self._questions:
            known = ", ".join(self._questions) or "none"
            raise ActionError(f"there is no question '{name}'; choose from {known}", "unknown")
        needed, answer, more = self._questions[name]
        if not role.may(needed):
            raise ActionError(f"'{name}' needs the role {needed}; yours is {role}", "forbidden")
        answered = answer(of)
        if more is not None and role.may(more[0]):
            answered |= more[1](of)
        return answered
