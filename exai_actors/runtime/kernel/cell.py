"""The record of one incarnation of an actor, and how messages get into its mailbox.

No lock is taken to put a message, on any thread. Two rules make that safe; both rely on single
deque operations being atomic and on all threads seeing their order:

* A sender appends first and looks at ``scheduled`` second. The scheduler clears ``scheduled`` first
  and looks at the lanes second. So one of them sees the other, and no message is left behind. A
  sender that finds it clear beforehand appends and enqueues; a cell may be in the run queue twice.
* An actor that ends sets ``state`` and clears ``scheduled`` first and empties the lanes second. A
  sender that appends in between finds ``scheduled`` clear, sees the state and empties the lanes
  itself. So an accepted message is handled, becomes a dead letter, or has its request answered.

The limit is exact for senders on the loop thread; each other thread may exceed it by one message.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol

from exai_actors.messages.recipient import Offer
from exai_actors.runtime.kernel.dead_letters import DeadLetters
from exai_actors.runtime.kernel.driver import Cancellable, Driver
from exai_actors.runtime.kernel.events import DeadLetterReason, EventStream, MailboxRefused
from exai_actors.runtime.kernel.mailbox import Mailbox
from exai_actors.runtime.kernel.pace import Workload
from exai_actors.runtime.kernel.signals import Exit, ExitReason, Started

# The states of an actor, in the order of its life except that RUNNING is the one that is false.
# Plain integers, because they are compared for each message: an enum's members cost five times as
# much to look up.
RUNNING: Final = 0
STARTING: Final = 1
SUSPENDED: Final = 2
"""Its user lane rests; its system lane does not."""
STOPPING: Final = 3
"""From here on it takes no messages; its last hook may still run."""
ENDED: Final = 4

_REFUSAL_REPORT_S = 1.0

# Senders on any thread count refusals; an unguarded += would lose some of them.
_counting = threading.RLock()


class Behaviour(Protocol):
    """An actor's own code. All of it runs on the loop thread and never waits.

    Whatever any of it raises ends the incarnation.
    """

    def on_start(self) -> object: ...

    def on_receive(self, message: Any, /) -> Any:
        """Handle a message; the return value answers a request."""

    def on_suspend(self) -> object:
        """The user lane rests from now on."""

    def on_resume(self) -> object:
        """The user lane is served again, after this."""

    def on_stop(self) -> object: ...

    def on_failure(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None, /
    ) -> object: ...


class Supervisor(Protocol):
    """The recipient of an actor's Started and Exit."""

    def tell_system(self, message: Started | Exit, /) -> None: ...


class RunQueue(Protocol):
    """The scheduler as a cell and the references to it see it."""

    clock: float
    """When the present turn or its latest batch began."""
    ready: deque[ActorCell]
    armed: bool
    """Whether a turn is under way or requested. Senders look at it after they appended."""

    def request_turn_for(self, cell: ActorCell, /) -> None:
        """Ask for a turn, for the sender that put a cell in and found ``armed`` clear."""

    def enqueue(self, cell: ActorCell, /) -> None:
        """Have a cell run; for the sender that put a message and found ``scheduled`` clear."""

    def interrupt_after(self, interrupt: KeyboardInterrupt, /) -> None:
        """Raise it to the loop at the end of the present turn."""


class Host(Protocol):
    """The actor system as a cell sees it."""

    @property
    def driver(self) -> Driver: ...

    @property
    def events(self) -> EventStream: ...

    @property
    def dead_letters(self) -> DeadLetters: ...

    @property
    def deliveries(self) -> Mapping[type, Delivery]: ...

    def is_suspended(self, path: str, /) -> bool:
        """Whether an actor that starts at this path begins suspended."""

    def leaving(self, cell: ActorCell, /) -> None:
        """Take note that an actor takes no more messages and is about to run its last hook."""

    def forget(self, cell: ActorCell, /) -> None:
        """Free the path of an actor that has ended."""


class ActorCell:
    """One incarnation of an actor: its mailbox, its state, and its ties to other actors."""

    __slots__ = (
        "behaviour",
        "behaviour_class",
        "exit_reason",
        "failed",
        "host",
        "incarnation",
        "is_last",
        "mailbox",
        "mailbox_limit",
        "path",
        "receive",
        "ref",
        "refused",
        "refused_reported_at",
        "scheduled",
        "scheduler",
        "state",
        "supervisor",
        "timers",
        "watchers",
        "watching",
        "work",
    )

    behaviour: Behaviour
    receive: Callable[[Any], Any]
    """The behaviour's ``on_receive``, which would cost as much as a send to look up each time."""

    ref: Any
    """The reference that others hold; the system makes it, of a class of its choice.

    All three are unset once the actor has ended: a reference does not keep it in memory, and
    reference counting frees all of it.
    """

    def __init__(
        self,
        host: Host,
        scheduler: RunQueue,
        behaviour_class: type,
        path: str,
        *,
        incarnation: int,
        failed: int,
        mailbox_limit: int,
        supervisor: Supervisor | None,
    ) -> None:
        self.host = host
        self.scheduler = scheduler
        self.behaviour_class = behaviour_class
        self.path = path
        self.incarnation = incarnation
        self.is_last = False
        """Whether no actor will follow at its path."""
        self.failed = failed
        """How many incarnations at this path failed, as far as remembered."""
        self.supervisor = supervisor
        self.state: int = STARTING
        self.scheduled = True
        """Whether the cell is in the run queue, or running, or not yet started."""
        self.mailbox = Mailbox(mailbox_limit)
        self.mailbox_limit = mailbox_limit
        self.work = Workload()
        self.exit_reason: ExitReason | None = None
        self.refused = 0
        self.refused_reported_at: float | None = None
        self.timers: set[Cancellable] | None = None
        self.watchers: ActorCell | set[ActorCell] | None = None
        self.watching: dict[ActorCell | str, object] | None = None
        """The tag of each watched incarnation, or of the path at which none was alive."""

    def __str__(self) -> str:
        return f"{self.behaviour_class.__name__} {self.path} (incarnation {self.incarnation})"

    def offer(self, message: Any) -> Offer:
        """Put a message in the user lane if it is open and has room."""
        mailbox = self.mailbox
        lane = mailbox.user
        if len(lane) >= mailbox.limit and not self._takes_over_limit(message):
            if self.state >= STOPPING:
                return "closed"
            self._count_refusal()
            return "full"
        lane.append(message)
        if not self.scheduled:
            self.scheduler.enqueue(self)
        return "accepted"

    def offer_system(self, message: Any) -> bool:
        """Put a message in the system lane unless the actor has ended; return whether it is in."""
        if self.state >= STOPPING:
            return False
        self.mailbox.put_system(message)
        if not self.scheduled:
            self.scheduler.enqueue(self)
        return True

    def tell_when_full(self, message: Any) -> None:
        """Put a message that the user lane has no room for, or record it as a dead letter."""
        match self.offer(message):
            case "accepted":
                pass
            case "full":
                self.dead_letter(message, DeadLetterReason.FULL)
            case "closed":
                self.dead_letter(message, DeadLetterReason.DEAD)

    def dead_letter(self, message: Any, reason: DeadLetterReason) -> None:
        self.host.dead_letters.add(self.path, message_type_of(message), reason)

    def handle(self, message: Any) -> Any:
        """Run the handler of a message of any kind and return its result."""
        deliver = self.host.deliveries.get(type(message))
        return self.receive(message) if deliver is None else deliver(message, self)

    def close(self) -> None:
        """Take no more messages. The caller empties the lanes with ``drain_closed`` after that."""
        self.state = STOPPING
        self.mailbox.close()
        self.scheduled = False

    def drain_closed(self) -> None:
        """Empty the lanes of an actor that has ended, on any thread."""
        for lane in (self.mailbox.system, self.mailbox.user):
            while lane:
                try:
                    message = lane.popleft()
                except IndexError:
                    # Another thread emptied it.
                    break
                if isinstance(message, Wrapper):
                    message.drop(self)
                else:
                    self.dead_letter(message, DeadLetterReason.STOPPED_BEHIND)

    def _takes_over_limit(self, message: Any) -> bool:
        return self.state < STOPPING and not getattr(message, "refusable", True)

    def _count_refusal(self) -> None:
        now = self.host.driver.now()
        with _counting:
            self.refused += 1
            last = self.refused_reported_at
            if last is not None and now - last < _REFUSAL_REPORT_S:
                return
            self.refused_reported_at = now
        self.host.events.publish(
            MailboxRefused(now, self.path, self.incarnation, self.mailbox_limit, self.refused)
        )


Delivery = Callable[[Any, ActorCell], Any]
"""Handles a message of a special class; the result answers the request that contained it."""


class Wrapper:
    """Base class of the kernel's own lane items: a message with an addition, or a signal."""

    __slots__ = ()

    def message_type(self) -> str:
        """The name under which this appears in events."""
        return type(self).__name__

    def deliver(self, cell: ActorCell, /) -> Any:
        """Serve the item's purpose, now that its turn has come."""

    def drop(self, cell: ActorCell, /) -> None:
        """The actor has ended before the item's turn came."""


def message_type_of(message: Any) -> str:
    """The class name of a message, or of the message that a wrapper contains."""
    return message.message_type() if isinstance(message, Wrapper) else type(message).__name__
