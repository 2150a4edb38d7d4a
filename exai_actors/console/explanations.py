"""The questions about one request: why it waits, and its way so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exai_actors.console.parts import Parts
from exai_actors.console.questions import Answer, Questions
from exai_actors.core.operations.action import ActionError
from exai_actors.core.operators import Role


def register_explanations(questions: Questions, parts: Parts) -> None:
    """Add ``why`` and ``request``; every role may ask them."""
    questions.add("why", Role.VIEWER, _found(parts.why))
    questions.add("request", Role.VIEWER, _found(parts.timeline))


def _found(answer: Callable[[str], dict[str, Any]]) -> Answer:
    def find(of: str) -> dict[str, Any]:
        try:
            return answer(of)
        except LookupError as error:
            raise ActionError(str(error), "unknown") from None

    return find
