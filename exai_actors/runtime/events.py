"""What observers are told about actors, as frozen records, and the stream that tells them.

Events are for eyes (console, metrics, logs). Actors that must act on another's end watch it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exai_actors.runtime.driver import Driver
from exai_actors.runtime.errors import TooManyListeners
from exai_actors.runtime.signals import ExitReason
from exai_actors.runtime.timers import DownNotice, ScheduledMessage

logger = logging.getLogger(__name__)

LISTENER_LIMIT = 32
FOREIGN_EVENT_LIMIT = 1_000


class DeadLetterReason(StrEnum):
    """Why a message will never be handled."""

    DEAD = "dead"
    """Nobody lived at the target when it was told."""
    FULL = "full"
    """The target's user lane had no room."""
    STOPPED_BEHIND = "stopped_behind"
    """The target ended, or was asked to, before the message's turn came."""


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
    """A handler held the loop for longer than allowed.

    Time is read once for the messages an actor handles in a row. If they were several, the culprit
    is not known, ``message_type`` is None unless all had the same type, and ``seconds`` is what
    they took together. An actor found slow handles one message at a time for a while: the next
    event about it is exact.
    """

    time: float
    path: str
    incarnation: int
    seconds: float
    messages: int
    message_type: str | None
    candidates: tuple[str, ...]
    """The distinct message types among which the slow one is, in the order handled."""


@dataclass(frozen=True, slots=True)
class MailboxRefused:
    """A full mailbox refuses messages; told at most once a second for each mailbox."""

    time: float
    path: str
    incarnation: int
    limit: int
    refused: int
    """How many this incarnation has refused in all."""


Event = ActorStarted | ActorStopped | ActorFailed | DeadLetter | SlowHandler | MailboxRefused
Listener = Callable[[Event], object]


def message_type_of(message: Any) -> str:
    """The class name of a message, looking into what carries it."""
    while True:
        match message:
            case Envelope() | ScheduledMessage():
                message = message.message
            case DownNotice():
                return "Down"
            case _ActorStop():
                return "stop"
            case _:
                return type(message).__name__


class EventStream:
    """Tells listeners on the loop thread, one after the other, at once.

    Events from other threads wait for the next turn, at most ``FOREIGN_EVENT_LIMIT`` of them; the
    oldest is dropped first.
    """

    def __init__(
        self,
        driver: Driver,
        wake: Callable[[], object],
        interrupted: Callable[[KeyboardInterrupt], object],
    ) -> None:
        """``wake`` has a turn come; ``interrupted`` has the loop raise a Ctrl-C, but not here."""
        self._driver = driver
        self._wake = wake
        self._interrupted = interrupted
        self._listeners: dict[Listener, bool] = {}
        self._foreign: deque[Event] = deque(maxlen=FOREIGN_EVENT_LIMIT)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; call what is returned to remove it."""
        if len(self._listeners) >= LISTENER_LIMIT and listener not in self._listeners:
            raise TooManyListeners(f"there are {LISTENER_LIMIT} event listeners already")
        self._listeners[listener] = True

        def remove() -> None:
            self._listeners.pop(listener, None)

        return remove

    def publish(self, event: Event) -> None:
        if not self._listeners:
            return
        if self._driver.in_loop_thread():
            self._tell(event)
        else:
            self._foreign.append(event)
            self._wake()

    def pending(self) -> bool:
        return bool(self._foreign)

    def flush(self) -> None:
        """Tell what other threads have published; called on the loop thread."""
        for _ in range(len(self._foreign)):
            self._tell(self._foreign.popleft())

    def _tell(self, event: Event) -> None:
        for listener, trusted in list(self._listeners.items()):
            try:
                listener(event)
            except KeyboardInterrupt as interrupt:
                self._interrupted(interrupt)
            except BaseException:
                # Once is enough: a listener that always raises would otherwise fill the log.
                if trusted:
                    logger.exception(
                        "an event listener raised; further errors of it are not logged"
                    )
                    self._listeners[listener] = False
