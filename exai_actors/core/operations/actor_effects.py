"""The effects of actions on actors, and the state of an actor without what clients sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from enum import Enum
from itertools import islice
from typing import Any

import msgspec

from exai_actors.core.operations.action import Effect, Undo, counted
from exai_actors.core.statistics import ProviderStatistics

MAX_STATE_ENTRIES = 200
PACKAGE = "exai_actors"
_OF_THE_RUNTIME = {"_cell", "actor_ref", "now", "system"}


class Lost(msgspec.Struct, frozen=True):
    """Everything that ends with an actor: the actors ``below`` it, what its providers have at
    present, the requests of its sessions, and its clients; None if it has none of the kind.
    """

    below: int = 0
    providers: Sequence[ProviderStatistics] = ()
    requests: int | None = None
    clients: int | None = None


def suspended(waiting: int, below: int | None, state: str) -> Effect:
    """``below`` counts the actors of the subtree, None without it."""
    text = f"it handles no message until it is resumed; {_waiting(waiting)} now"
    return Effect(text + _with_subtree(below), state, Undo("actor.resume", _subtree(below)))


def resumed(waiting: int, below: int | None, state: str) -> Effect:
    text = f"it handles messages again; {_waiting(waiting)}"
    return Effect(text + _with_subtree(below), state, Undo("actor.suspend", _subtree(below)))


def stopped(waiting: int, lost: Lost, state: str) -> Effect:
    text = f"it ends after its present message and stays so until it is restarted{_in_text(lost)}"
    return Effect(f"{text}; {_waiting(waiting)} in it", state, Undo("actor.restart"))


def restarted(waiting: int, lost: Lost, state: str) -> Effect:
    text = f"it ends after its present message and is started again{_in_text(lost)}"
    return Effect(f"{text}; {_waiting(waiting)} in it", state)


def _waiting(messages: int) -> str:
    return counted(messages, "message waits", "messages wait")


def _in_text(lost: Lost) -> str:
    text = _with_subtree(lost.below) if lost.below else ""
    if lost.providers:
        text += _lost_calls(lost.providers)
    if lost.requests is not None:
        text += f"; {counted(lost.requests, 'request ends', 'requests end')} with INTERNAL_ERROR"
    if lost.clients is not None:
        text += f"; {counted(lost.clients, 'client')} disconnected"
    return text


def _lost_calls(providers: Sequence[ProviderStatistics]) -> str:
    calls = sum(provider.in_flight for provider in providers)
    in_flight = counted(calls, "call in flight", "calls in flight")
    queued = counted(sum(provider.queued for provider in providers), "queued request")
    return (
        f"; {in_flight} aborted, and their requests and {queued} go to another provider of their "
        "route or end with SERVICE_UNAVAILABLE"
    )


def _with_subtree(below: int | None) -> str:
    return "" if below is None else f"; {counted(below, 'actor')} below with it"


def _subtree(below: int | None) -> dict[str, Any]:
    return {} if below is None else {"subtree": "yes"}


def attributes_of(actor: object) -> dict[str, Any]:
    """The attributes of an actor: figures, sizes and classes, and no text, which may be secret."""
    found: dict[str, Any] = {}
    for name, value in _attributes(actor):
        if name in _OF_THE_RUNTIME:
            continue
        found[name.lstrip("_")] = _shown(value, deep=True)
        if len(found) >= MAX_STATE_ENTRIES:
            break
    return found


def _attributes(thing: object) -> Iterator[tuple[str, object]]:
    yield from sorted(getattr(thing, "__dict__", {}).items())
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, name):
                yield name, getattr(thing, name)


def _shown(value: object, *, deep: bool) -> Any:
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool | int | float):
        return value
    if deep and type(value).__module__.startswith(PACKAGE):
        inner = [(name, each) for name, each in _attributes(value) if not callable(each)]
        if inner:
            shown = ((name.lstrip("_"), _shown(each, deep=False)) for name, each in inner)
            return dict(islice(shown, MAX_STATE_ENTRIES))
    kind = type(value).__name__
    return f"{kind} of {len(value)}" if isinstance(value, Sized) else kind
