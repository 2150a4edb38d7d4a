"""Actions of operators as data: their arguments, their effects, and how to undo them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from math import isfinite
from typing import Any

import msgspec

from exai_actors.core.operators import Role

MAX_REASON_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 200


class ActionError(ValueError):
    """An action that cannot be done; the text says why. ``code`` is that of the console protocol.

    ``bad_action``: its arguments or targets make no sense. ``unknown``: there is no such thing.
    ``forbidden``: the operator's role does not include it.
    """

    def __init__(self, text: str, code: str = "bad_action") -> None:
        super().__init__(text)
        self.code = code


class ArgumentKind(StrEnum):
    TEXT = "text"
    COUNT = "count"
    """A whole number from 0 up."""
    NUMBER = "number"


class Argument(msgspec.Struct, frozen=True):
    """One argument of an action; ``help`` is for people."""

    name: str
    kind: ArgumentKind
    help: str
    required: bool = True


class Action(msgspec.Struct, frozen=True):
    """Something that an operator can do to rows of a table.

    ``title`` is for menus, ``help`` a sentence. One without ``targets`` concerns the whole broker.
    """

    name: str
    title: str
    table: str
    role: Role
    help: str
    arguments: tuple[Argument, ...] = ()
    targets: bool = True


class Undo(msgspec.Struct, frozen=True):
    """The action that restores the state before, to one target."""

    action: str
    arguments: dict[str, Any] = {}


class Effect(msgspec.Struct, frozen=True):
    """What an action does to one target, in a plain sentence with figures.

    ``before`` is the state that it changes.
    """

    text: str
    before: str
    undo: Undo | None = None


def checked_arguments(action: Action, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, each of its kind. Raises ActionError for wrong, missing and unknown ones."""
    known = {each.name: each for each in action.arguments}
    for name in given:
        if name not in known:
            takes = ", ".join(known) or "none"
            raise ActionError(f"{action.name} has no argument '{name[:40]}'; it takes {takes}")
    for name, argument in known.items():
        if argument.required and given.get(name) is None:
            raise ActionError(f"{action.name} needs the argument '{name}': {argument.help}")
    return {
        name: _checked(action, known[name], value)
        for name, value in given.items()
        if value is not None
    }


def _checked(action: Action, argument: Argument, value: object) -> object:
    match argument.kind:
        case ArgumentKind.TEXT:
            fits = isinstance(value, str) and 0 < len(value) <= MAX_TEXT_CHARACTERS
        case ArgumentKind.COUNT:
            fits = type(value) is int and value >= 0
        case ArgumentKind.NUMBER:
            fits = isinstance(value, int | float) and _is_number(value)
    if not fits:
        raise ActionError(
            f"the argument '{argument.name}' of {action.name} is a {_KINDS[argument.kind]}"
        )
    return value


def _is_number(value: float) -> bool:
    try:
        return not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


_KINDS = {
    ArgumentKind.TEXT: f"text of at most {MAX_TEXT_CHARACTERS} characters",
    ArgumentKind.COUNT: "whole number from 0 up",
    ArgumentKind.NUMBER: "number",
}


def checked_reason(reason: str) -> str:
    """The reason as one line. Raises ActionError if it is too long."""
    line = " ".join(reason.split())
    if len(line) > MAX_REASON_CHARACTERS:
        raise ActionError(f"a reason has at most {MAX_REASON_CHARACTERS} characters")
    return line


def counted(count: int, one: str, many: str = "") -> str:
    """The number with its noun: ``1 call``, ``3 calls``."""
    return f"{count} {one if count == 1 else many or one + 's'}"
