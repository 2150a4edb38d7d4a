"""Finds the containers that a part of the broker should have emptied."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from exai_actors.actors.directory import Directory
from exai_actors.actors.memory_board import MemoryBoard, SessionMemory
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.observe.request_ends import RequestFigures

_DECIDING_OR_ACTING = ("exai_actors.core.", "exai_actors.actors.")


def leftovers(owner: object) -> dict[str, int]:
    """The sizes of all non-empty containers of ``owner`` and its parts, by attribute path.

    Parts are mutable objects of ``core`` and ``actors``, except those that all actors share and
    those that only count. A new attribute counts without being listed anywhere.
    """
    found: dict[str, int] = {}
    pending, seen = [("", owner)], {id(owner)}
    while pending:
        path, part = pending.pop()
        for name, value in _attributes(part):
            here = f"{path}.{name}" if path else name
            if isinstance(value, dict | list | set | deque):
                if value:
                    found[here] = len(value)
            elif _is_part(value) and id(value) not in seen:
                seen.add(id(value))
                pending.append((here, value))
            elif isinstance(value, tuple):
                pending += [
                    (f"{here}[{i}]", each) for i, each in enumerate(value) if _is_part(each)
                ]
    return found


def _is_part(value: object) -> bool:
    if isinstance(value, Directory | StatisticsBoard | MemoryBoard | SessionMemory):
        return False
    if isinstance(value, RequestFigures | CallFigures):
        return False
    if isinstance(value, msgspec.Struct) and value.__struct_config__.frozen:
        return False
    return type(value).__module__.startswith(_DECIDING_OR_ACTING)


def _attributes(part: object) -> Iterator[tuple[str, Any]]:
    names = list(getattr(part, "__struct_fields__", ())) + list(getattr(part, "__dict__", ()))
    for kind in type(part).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    for name in names:
        if hasattr(part, name):
            yield name, getattr(part, name)
