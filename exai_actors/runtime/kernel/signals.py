"""Messages that the kernel itself sends to actors, always on the system lane."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

Tag = TypeVar("Tag")


class ExitReason(Enum):
    """How an incarnation ended."""

    NORMAL = "normal"
    FAILED = "failed"
    """A handler raised."""
    START_FAILED = "start_failed"
    """``on_start`` raised; no message was handled."""
    STOP_FAILED = "stop_failed"
    """``on_stop`` raised; the actor had been asked to stop."""
    ABANDONED = "abandoned"
    """The event loop was closed before the actor was stopped; no hook ran."""
    NOT_FOUND = "not_found"
    """Only in Down: no actor was alive at the watched path."""


@dataclass(frozen=True, slots=True)
class Started:
    """To the supervisor: this incarnation of its child has run ``on_start``. Sent at most once."""

    path: str
    incarnation: int


@dataclass(frozen=True, slots=True, eq=False)
class Exit:
    """To the supervisor: this incarnation of its child has ended. Sent exactly once."""

    path: str
    incarnation: int
    reason: ExitReason
    error: BaseException | None = None
    message_type: str | None = None
    """Class name of the message whose handler raised; None if no handler raised."""


@dataclass(frozen=True, slots=True)
class Down(Generic[Tag]):
    """To a watcher: the watched incarnation has ended, or had ended before. Sent exactly once.

    ``incarnation`` is 0 if no actor was alive at the watched path. ``tag`` is the one that the
    watcher gave, and of the type that its ``on_receive`` declares.
    """

    path: str
    incarnation: int
    reason: ExitReason
    tag: Tag
