"""An actor's mailbox: a system lane that is never refused, and a bounded user lane.

No lock is taken to put a message, on whatever thread. Three rules make that safe, all relying on
single deque operations being atomic and on their order being seen by all threads:

* A sender appends first and looks at ``scheduled`` second. The scheduler clears ``scheduled``
  first and looks at the lanes second. So one of them sees the other: no message is left behind.
* Closing sets ``state`` and clears ``scheduled`` first and empties the lanes second. A sender that
  comes in between finds ``scheduled`` clear, sees the state and empties the lanes itself. So a
  message that was accepted is handled, or is a dead letter, or its asker is told: never lost.
* A sender that finds ``scheduled`` clear already before it appends queues the mailbox after that,
  whatever has come in between. Two that do so at once queue it twice, which is harmless.

The limit is exact for senders on the loop thread; each other thread may exceed it by one message.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pykka import ActorDeadError
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exai_actors.messages.recipient import Offer
from exai_actors.runtime.envelopes import settle, settle_error
from exai_actors.runtime.errors import MailboxFull
from exai_actors.runtime.signals import RuntimeInternal
from exai_actors.runtime.stop_flag import StopFlag

if TYPE_CHECKING:
    from exai_actors.runtime.actor import LoopActor
    from exai_actors.runtime.ref import LoopRef
    from exai_actors.runtime.scheduler import Scheduler
    from exai_actors.runtime.signals import ExitReason
    from exai_actors.runtime.system import ActorSystem
    from exai_actors.runtime.timers import ScheduledMessage

_CLOSED_LIMIT = -1

# Only for what happens once in an actor's life: its first system message.
_opening = threading.RLock()

_NO_LANE: deque[Any] = deque(maxlen=0)


# Where an actor is in its life. Plain integers, because they are compared for each message and an
# enum's members cost five times as much to look up.
RUNNING: Final = 0
STARTING: Final = 1
STOPPING: Final = 2
"""From here on it takes no messages."""
STOPPED: Final = 3
FAILED: Final = 4


class Mailbox:
    """The lanes of one incarnation, with what the scheduler must know to run it."""

    __slots__ = (
        "actor",
        "busy_s",
        "draining",
        "exit_reason",
        "failed",
        "incarnation",
        "lap_end",
        "lap_since",
        "limit",
        "max_busy_s",
        "notable_s",
        "own_limit",
        "path",
        "probation_end",
        "processed",
        "quota",
        "receive",
        "ref",
        "refused",
        "refused_reported_at",
        "scheduled",
        "scheduler",
        "state",
        "stopped",
        "supervisor",
        "system",
        "system_lane",
        "timers",
        "user_lane",
        "waiting_since",
        "watchers",
        "watching",
    )

    system: ActorSystem
    scheduler: Scheduler
    ref: LoopRef[Any]
    actor: LoopActor
    receive: Callable[[Any], Any]
    """The actor's ``on_receive``: found anew for each message it would cost as much as a send.

    Both are unset once the actor has ended, so that a reference does not keep it in memory.
    """

    def __init__(self) -> None:
        self.user_lane: deque[Any] = deque()
        # An empty deque takes 760 bytes and most actors never get a system message.
        self.system_lane: deque[Any] = _NO_LANE
        self.stopped = StopFlag()
        self.scheduled = True
        self.state: int = STARTING
        self.draining = False
        self.own_limit = 0
        self.limit = 0
        self.quota = range(1)
        self.probation_end = 0
        self.path = ""
        self.incarnation = 0
        self.supervisor: Any = None
        self.exit_reason: ExitReason | None = None
        self.processed = 0
        self.failed = 0
        self.refused = 0
        self.refused_reported_at: float | None = None
        self.busy_s = 0.0
        self.max_busy_s = 0.0
        # A message that took longer is looked at: the longest so far, or what is long for any.
        self.notable_s = 0.0
        self.waiting_since = 0.0
        self.lap_since = 0.0
        self.lap_end = 0
        self.timers: set[ScheduledMessage] | None = None
        self.watchers: set[Mailbox] | None = None
        self.watching: dict[Mailbox | str, object] | None = None

    def offer(self, message: Any) -> Offer:
        """Put a message in the user lane if it is open and has room."""
        lane = self.user_lane
        if len(lane) >= self.limit and not self._admits_over_limit(message):
            if self.limit == _CLOSED_LIMIT:
                return Offer.CLOSED
            self.system.count_refusal(self)
            return Offer.FULL
        lane.append(message)
        if not self.scheduled:
            self.scheduler.enqueue(self)
        return Offer.ACCEPTED

    def offer_system(self, message: Any) -> Offer:
        """Put a message in the system lane: ACCEPTED, or CLOSED if the actor has ended."""
        if self.state >= STOPPING:
            return Offer.CLOSED
        lane = self.system_lane
        if lane is _NO_LANE:
            lane = self._open_system_lane()
        lane.append(message)
        if not self.scheduled:
            self.scheduler.enqueue(self)
        return Offer.ACCEPTED

    def refuse_told(self, message: Any) -> None:
        """Make the best of a told message that the user lane has no room for."""
        match self.offer(message):
            case Offer.ACCEPTED:
                pass
            case Offer.FULL:
                self.system.dead_letters.full(self.path, message)
            case Offer.CLOSED:
                self.bury(message)

    def bury(self, message: Any) -> None:
        """Record a message told to an actor that is gone or will stop before it."""
        if self.state >= STOPPING:
            self.system.dead_letters.dead(self.path, message)
        else:
            self.system.dead_letters.stopped_behind(self.path, message)

    def close(self) -> None:
        """Take no more messages. The caller empties the lanes with ``answer_rest`` after that."""
        self.limit = _CLOSED_LIMIT
        self.scheduled = False

    def drain(self) -> None:
        """Take no more user messages and stop after those that are there."""
        if self.draining or self.state >= STOPPING:
            return
        self.draining = True
        self.limit = _CLOSED_LIMIT
        self.user_lane.append(Envelope(_ActorStop()))
        if not self.scheduled:
            self.scheduler.enqueue(self)

    def answer_rest(self) -> None:
        """Empty the lanes of a closed mailbox: askers are told, other messages are buried."""
        for lane in (self.system_lane, self.user_lane):
            while lane:
                try:
                    message = lane.popleft()
                except IndexError:
                    break
                if message.__class__ is Envelope:
                    self._answer(message)
                elif not isinstance(message, RuntimeInternal):
                    self.system.dead_letters.stopped_behind(self.path, message)

    def put(self, envelope: Envelope[Any], /) -> None:
        """Take pykka's envelope (its inbox protocol)."""
        message: Any = envelope.message if envelope.reply_to is None else envelope
        match self.offer(message):
            case Offer.ACCEPTED:
                pass
            case Offer.FULL if envelope.reply_to is None:
                self.system.dead_letters.full(self.path, message)
            case Offer.CLOSED if envelope.reply_to is None:
                self.bury(message)
            case refusal:
                settle_error(envelope, self.refusal_error(refusal))

    def get(self) -> Envelope[Any]:
        """Hand out the next message (pykka's inbox protocol); IndexError if there is none."""
        message = (self.system_lane or self.user_lane).popleft()
        return message if message.__class__ is Envelope else Envelope(message)

    def empty(self) -> bool:
        return not self.system_lane and not self.user_lane

    def refusal_error(self, refusal: Offer) -> Exception:
        """The error an asker gets whose message was not accepted."""
        if refusal is Offer.FULL:
            return MailboxFull(
                f"the mailbox of {self.path} is full: {len(self.user_lane)} messages wait"
                f" and its limit is {self.limit}"
            )
        return ActorDeadError(f"{self.path} (incarnation {self.incarnation}) takes no messages")

    def _admits_over_limit(self, message: Any) -> bool:
        if self.limit == _CLOSED_LIMIT:
            return False
        content = message.message if message.__class__ is Envelope else message
        return not getattr(content.__class__, "refusable", True)

    def _open_system_lane(self) -> deque[Any]:
        with _opening:
            if self.system_lane is _NO_LANE:
                self.system_lane = deque()
            return self.system_lane

    def _answer(self, envelope: Envelope[Any]) -> None:
        if envelope.message.__class__ is _ActorStop:
            if envelope.reply_to is not None:
                settle(envelope, True)
            return
        if envelope.reply_to is not None:
            settle_error(
                envelope, ActorDeadError(f"{self.path} stopped before it handled the message")
            )
