"""Frozen records of events in the lives of actors, and the stream that hands them to observers.

Events are for consoles, metrics and logs. An actor that must act on another's end watches it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from exai_actors.runtime.kernel.driver import Driver
from exai_actors.runtime.kernel.signals import ExitReason

log = logging.getLogger("exai_actors.runtime")

FOREIGN_EVENT_LIMIT = 1_000


class DeadLetterReason(StrEnum):
    """Why a message will never be handled."""

    DEAD = "dead"
    """No actor was alive at the target when the message was sent."""
    FULL = "full"
    """The target's user lane had no room."""
    STOPPED_BEHIND = "stopped_behind"
    """The target ended before the message's turn came."""


@dataclass(frozen=True, slots=True)
class ActorStarted:
    time: float
    path: str
    incarnation: int
    actor_class: str


@dataclass(frozen=True, slots=True)
class ActorStopped:
    time: float
    path: str
    incarnation: int
    reason: ExitReason
    """NORMAL or ABANDONED."""


@dataclass(frozen=True, slots=True)
class ActorFailed:
    time: float
    path: str
    incarnation: int
    reason: ExitReason
    error: str
    """Class and text of the exception, on one line."""
    message_type: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    time: float
    path: str
    message_type: str
    reason: DeadLetterReason


@dataclass(frozen=True, slots=True)
class SlowHandler:
    """A handler kept the loop busy for longer than allowed.

    Time is read once for the messages that an actor handles in a row. If there were several, the
    slow one is unknown: ``message_type`` is None unless all had the same type, and ``seconds`` is
    their total. A slow actor handles one message at a time for a while, so that the next event
    about it is exact.
    """

    time: float
    path: str
    incarnation: int
    seconds: float
    messages: int
    message_type: str | None
    candidates: tuple[str, ...]
    """The distinct message types that include the slow one, in the order handled."""


@dataclass(frozen=True, slots=True)
class MailboxRefused:
    """A full mailbox refuses messages; published at most once a second for each mailbox."""

    time: float
    path: str
    incarnation: int
    limit: int
    refused: int
    """How many messages this incarnation has refused in all."""


Event = ActorStarted | ActorStopped | ActorFailed | DeadLetter | SlowHandler | MailboxRefused
Listener = Callable[[Event], object]


class EventStream:
    """Calls listeners on the loop thread, one after the other, as soon as an event is published.

    Events from other threads wait for the next turn, at most ``FOREIGN_EVENT_LIMIT`` of them; the
    oldest is dropped first.
    """

    def __init__(
        self,
        driver: Driver,
        wake: Callable[[], object],
        interrupted: Callable[[KeyboardInterrupt], object],
    ) -> None:
        """``wake`` requests a turn; ``interrupted`` makes the loop raise a Ctrl-C later."""
        self._driver = driver
        self._wake = wake
        self._interrupted = interrupted
        self._listeners: dict[Listener, bool] = {}
        """Whether errors of the listener are still to be logged."""
        self._ordinary: dict[Listener, None] = {}
        """The listeners that get ordinary events too."""
        self.foreign: deque[Event] = deque(maxlen=FOREIGN_EVENT_LIMIT)
        """Events that other threads published, for ``flush``."""

    def add(self, listener: Listener, *, ordinary: bool = True) -> Callable[[], None]:
        """Add a listener; call the returned function to remove it.

        ``ordinary``: it also gets the first start of an actor at its path, and its normal end.
        """
        self._listeners[listener] = True
        if ordinary:
            self._ordinary[listener] = None

        def remove() -> None:
            self._listeners.pop(listener, None)
            self._ordinary.pop(listener, None)

        return remove

    @property
    def wants_ordinary(self) -> bool:
        """Whether a listener gets ordinary events; if none does, they need not be published."""
        return bool(self._ordinary)

    def publish(self, event: Event) -> None:
        if not self._listeners:
            return
        if self._driver.in_loop_thread():
            self._notify(event)
        else:
            self.foreign.append(event)
            self._wake()

    def flush(self) -> None:
        """Notify listeners of events that other threads published; loop thread only."""
        for _ in range(len(self.foreign)):
            self._notify(self.foreign.popleft())

    def _notify(self, event: Event) -> None:
        for listener in list(self._ordinary if _is_ordinary(event) else self._listeners):
            try:
                listener(event)
            except KeyboardInterrupt as interrupt:
                self._interrupted(interrupt)
            except BaseException as error:
                if self._listeners.get(listener):
                    # Once is enough: a listener that always raises would otherwise fill the log.
                    self._listeners[listener] = False
                    log.error("listener.failed", exc_info=error)


def _is_ordinary(event: Event) -> bool:
    match event:
        case ActorStarted():
            return event.incarnation == 1
        case ActorStopped():
            return event.reason is ExitReason.NORMAL
    return False
