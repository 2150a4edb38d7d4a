"""What the runtime raises to callers that used it in a way that cannot work."""

from __future__ import annotations

from exai_actors.errors import ExaiError


class RuntimeFault(ExaiError):
    """Root of the runtime's own errors. A dead actor is pykka's ``ActorDeadError`` instead."""


class PathTaken(RuntimeFault, ValueError):
    """A living actor has this path already."""


class InvalidPath(RuntimeFault, ValueError):
    """A path is one or more non-empty names, each after a slash: ``/providers/kimi``."""


class MailboxFull(RuntimeFault):
    """An ask was refused because the user lane of the actor's mailbox is full."""


class WouldBlockLoop(RuntimeFault):
    """Waiting for a result on the event loop's own thread: the result could never come."""


class SystemStopping(RuntimeFault):
    """The actor system stops or has stopped; it starts no more actors."""


class NoActorSystem(RuntimeFault):
    """``Actor.start()`` was called and no actor system has been made current."""


class TooManyListeners(RuntimeFault):
    """The number of event listeners is limited; one was probably never removed."""
