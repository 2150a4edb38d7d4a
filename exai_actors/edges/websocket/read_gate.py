"""Reading from one socket pauses for several causes at a time, and resumes after the last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum


class Pause(Enum):
    """A cause not to read from a socket; the values are bits."""

    ACTOR_FULL = 1
    """The actor's mailbox is full."""
    NEXT_TURN = 2
    """It had its share of this turn."""
    UNREAD = 4
    """The client leaves answers unread, so it must not cause more."""
    UNHANDLED = 8
    """The actor has yet to handle many messages, or large ones."""
    MEMORY = 16
    """The buffers of the process have reached their limit, and this socket has much of it."""
    RELEASED = 32
    """The socket is another protocol's, or gone."""


class ReadGate:
    """Reads from ``transport`` while there is no cause to pause.

    ``read_on`` is called when the last cause has ended, to resume reading.
    """

    __slots__ = ("_causes", "_read_on", "_transport")

    def __init__(self, transport: asyncio.Transport, read_on: Callable[[], None]) -> None:
        self._transport = transport
        self._read_on = read_on
        self._causes = 0

    @property
    def is_open(self) -> bool:
        return not self._causes

    def is_paused_only_for(self, cause: Pause) -> bool:
        return self._causes == cause.value

    def is_paused_for(self, cause: Pause) -> bool:
        return bool(self._causes & cause.value)

    def pause(self, cause: Pause) -> None:
        if not self._causes:
            self._transport.pause_reading()
        self._causes |= cause.value

    def resume(self, cause: Pause) -> None:
        """No effect unless reading is paused for ``cause``."""
        if self._causes & cause.value:
            self._causes &= ~cause.value
            self._resume_if_open()

    def open(self) -> None:
        """Forget all causes: only the end of the connection is still read."""
        if self._causes:
            self._causes = 0
            self._resume_if_open()

    def _resume_if_open(self) -> None:
        if not self._causes and not self._transport.is_closing():
            self._read_on()

    def release(self) -> None:
        """Leave the transport alone; break the reference cycle with the owner of ``read_on``."""
        self._causes |= Pause.RELEASED.value
        self._read_on = _nothing


def _nothing() -> None: ...
