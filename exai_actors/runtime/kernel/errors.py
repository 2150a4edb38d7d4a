"""Errors that the kernel raises to callers."""

from __future__ import annotations

from traceback import extract_tb

from exai_actors.errors import ExaiError

_PACKAGE = "exai_actors/"
_RUNTIME = "exai_actors/runtime/"


class RuntimeFault(ExaiError):
    """Base class of the runtime's own errors."""


class PathTaken(RuntimeFault, ValueError):
    """A living actor already has this path."""


class InvalidPath(RuntimeFault, ValueError):
    """A path is one or more non-empty names, each after a slash: ``/providers/kimi``."""


class MailboxFull(RuntimeFault):
    """A request was refused because the user lane of the actor's mailbox is full."""


class SystemStopping(RuntimeFault):
    """The actor system is stopping or has stopped, and starts no more actors."""


def place_of(error: BaseException) -> str:
    """The class of an error and the place that raised it, without its text: it may be secret.

    The text of the runtime's own errors is no secret.
    """
    if isinstance(error, RuntimeFault):
        return str(error)
    frames = extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    # Where the package called a library, not where that raised.
    own = [each for each in frames if _PACKAGE in each.filename and _RUNTIME not in each.filename]
    last = (own or frames)[-1]
    _, package, below = last.filename.rpartition(_PACKAGE)
    name = f"{package}{below}" if package else below.rpartition("/")[2]
    return f"{type(error).__name__} at {name}:{last.lineno} in {last.name}"
