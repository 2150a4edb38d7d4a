"""Errors that the kernel raises to callers."""

from __future__ import annotations

from exai_actors.errors import ExaiError


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
