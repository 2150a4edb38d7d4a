"""The process's current actor system: where pykka's ``Actor.start()`` starts actors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exai_actors.runtime.errors import NoActorSystem

if TYPE_CHECKING:
    from exai_actors.runtime.system import ActorSystem

_system: ActorSystem | None = None


def install(system: ActorSystem | None) -> None:
    global _system  # noqa: PLW0603 - one per process by definition, as pykka's registry is
    _system = system


def system_or_none() -> ActorSystem | None:
    return _system


def system() -> ActorSystem:
    if _system is None:
        raise NoActorSystem(
            "no actor system is current; call make_current() on one, or use its spawn()"
        )
    return _system


def system_or_manual() -> ActorSystem:
    """The current system, or a new one that stands still: for actors made by hand in a test."""
    if _system is not None:
        return _system
    from exai_actors.runtime.manual import ManualDriver
    from exai_actors.runtime.system import ActorSystem

    return ActorSystem(ManualDriver())
