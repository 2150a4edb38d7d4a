"""Runs mailboxes that have messages: fairly, briefly, and without starving input and output.

One run queue of non-empty mailboxes is worked off in turns, each of them one callback of the loop.
A mailbox gets a slice of at most ``throughput`` messages and goes to the end of the queue. A turn
ends after ``turn_messages`` messages or ``turn_seconds``, and the loop gets to its sockets.

Time is read once a slice, not once a message, which would add a fifth to its cost. A new or
slow actor's slices are one message long, and double while it is quick and has more: a slice that
takes long is nearly always a single message, whose time is then exact.

Most slices are a single plain message of an actor that has no other: these run in a straight line
in ``_work_off``, everything else in ``_run_slice``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat, starmap
from typing import TYPE_CHECKING, Any

from exai_actors.runtime import lifecycle
from exai_actors.runtime.delivery import SPECIAL, deliver
from exai_actors.runtime.driver import Callback, Driver
from exai_actors.runtime.events import EventStream, SlowHandler, message_type_of
from exai_actors.runtime.mailbox import RUNNING, STARTING, STOPPING, Mailbox
from exai_actors.runtime.signals import ExitReason

if TYPE_CHECKING:
    from exai_actors.runtime.ref import LoopRef

# So many messages are handled one by one after a slow one, so that the next one is told exactly.
_PROBATION = 64

# None is a message like any other.
NO_MESSAGE = object()

Pick = Callable[[Sequence["LoopRef[Any]"]], int]


class Scheduler:
    """The run queue of one actor system. All but ``enqueue`` and ``nudge`` on the loop thread."""

    def __init__(
        self,
        driver: Driver,
        events: EventStream,
        loop_closed: Callback,
        *,
        throughput: int,
        turn_messages: int,
        turn_seconds: float,
        slow_handler_s: float,
    ) -> None:
        self.pick: Pick | None = None
        """Chooses which of the ready actors runs next, by index; a simulator's hook."""
        self.running: Mailbox | None = None
        self.message: Any = NO_MESSAGE
        """The message that ``running`` handles alone, or NO_MESSAGE."""
        self.trail: list[Any] = []
        """The messages of the present slice, if it is of more than one plain message."""
        self.clock = driver.now()
        """When the present turn began, or its last slice that was not a single quick message."""
        self.ready: deque[Mailbox] = deque()
        """The mailboxes that wait for their slice, for senders to append to."""
        self.armed = False
        """Whether a turn is under way or asked for. Senders look at it after they appended."""
        self.interrupt: KeyboardInterrupt | None = None
        self._driver = driver
        self._now = driver.now
        self._events = events
        self._loop_closed = loop_closed
        self._throughput = throughput
        self._turn_messages = turn_messages
        self._turn_seconds = turn_seconds
        self._slow_handler_s = slow_handler_s
        self._turn_callback = self._turn

    def enqueue(self, mailbox: Mailbox) -> None:
        """Have a mailbox run; called by whoever put a message and found ``scheduled`` clear."""
        if mailbox.state >= STOPPING:
            mailbox.answer_rest()
            return
        mailbox.scheduled = True
        mailbox.waiting_since = self.clock
        self.ready.append(mailbox)
        if not self.armed:
            self.wake_for(mailbox)

    def wake_for(self, mailbox: Mailbox) -> None:
        """Have a turn come for a mailbox that was appended while none was under way."""
        mailbox.waiting_since = self.clock = self._now()
        self._wake()

    def is_busy(self) -> bool:
        """Whether a mailbox waits for its slice."""
        return bool(self.ready)

    def hold(self) -> bool:
        """Have no turn come until ``release``; False, and nothing to release, if one is to come."""
        if self.armed:
            return False
        self.armed = True
        return True

    def release(self) -> None:
        """Take the turn for what came since ``hold``, here and now."""
        self._turn()

    def nudge(self) -> None:
        """Have a turn come, if none is under way, for what is not in a mailbox."""
        if not self.armed:
            self._wake()

    def interrupt_after(self, interrupt: KeyboardInterrupt) -> None:
        """Raise it to the loop at the end of the present turn, or of one that comes for it."""
        self.interrupt = interrupt
        self.nudge()

    def _wake(self) -> None:
        """Ask the loop for a turn. Two threads that do so at once get two, which is harmless."""
        self.armed = True
        try:
            if self._driver.in_loop_thread():
                self._driver.call_soon(self._turn_callback)
            else:
                self._driver.call_soon_threadsafe(self._turn_callback)
        except RuntimeError:
            if not self._driver.closed():
                raise
            self._loop_closed()

    def _turn(self) -> None:
        try:
            self._work_off()
        finally:
            if self.running is not None:
                self._recover(self.running)
            self._end_turn()

    def _work_off(self) -> None:
        ready = self.ready
        if not ready:
            return
        special = SPECIAL
        now = self._now
        clock = self.clock = now()
        deadline = clock + self._turn_seconds
        take = ready.popleft if self.pick is None else self._take_picked
        # Takes a mailbox for each message the turn may handle, without a line of Python.
        budget = repeat((), self._turn_messages)
        for mailbox in starmap(take, budget):
            user = mailbox.user_lane
            if mailbox.state or mailbox.system_lane or not user:
                clock = self._run_slice(mailbox, clock, budget)
            else:
                message = user.popleft()
                if user or type(message) in special:
                    user.appendleft(message)
                    clock = self._run_slice(mailbox, clock, budget)
                else:
                    self.running = mailbox
                    self.message = message
                    mailbox.processed += 1
                    try:
                        mailbox.receive(message)
                    except BaseException as error:  # noqa: BLE001 - one failure rule
                        culprit = message_type_of(message)
                        lifecycle.fail(mailbox, error, ExitReason.FAILED, culprit)
                        if self.interrupt is not None:
                            deadline = clock
                    end = now()
                    seconds = end - clock
                    clock = end
                    mailbox.busy_s += seconds
                    if seconds > mailbox.notable_s:
                        self._account(mailbox, seconds, (message,))
                    if not mailbox.state:
                        # Nothing waited, so look once, after the flag is cleared. A thread that
                        # comes in between queues the mailbox once more, which is harmless.
                        mailbox.scheduled = False
                        if user or mailbox.system_lane:
                            mailbox.scheduled = True
                            self._requeue(mailbox)
                    if clock >= deadline or not ready:
                        break
                    continue
            if clock >= deadline or not ready or self.interrupt is not None:
                break
        self.clock = clock
        self.running = None
        self.message = NO_MESSAGE

    def _run_slice(  # noqa: C901 - a call more per slice is a tenth of its cost
        self, mailbox: Mailbox, clock: float, budget: Iterator[object]
    ) -> float:
        """Run a slice of whatever kind that begins at ``clock``; return when it ended."""
        self.running = mailbox
        self.message = NO_MESSAGE
        self.clock = clock
        if mailbox.state:
            if not self._begin(mailbox):
                return self.clock
            clock = self.clock
        trail = self.trail
        note = trail.append
        special = SPECIAL
        actor, receive = mailbox.actor, mailbox.receive
        user = mailbox.user_lane
        try:
            for _ in mailbox.quota:
                if mailbox.system_lane:
                    message = mailbox.system_lane.popleft()
                elif user:
                    message = user.popleft()
                else:
                    break
                note(message)
                if type(message) in special:
                    deliver(mailbox, actor, message)
                    if mailbox.state:
                        break
                else:
                    receive(message)
        except BaseException as error:  # noqa: BLE001 - one failure rule, whatever was raised
            culprit = message_type_of(trail[-1]) if trail else None
            lifecycle.fail(mailbox, error, ExitReason.FAILED, culprit)

        end = self._now()
        handled = len(trail)
        if handled > 1:
            next(islice(budget, handled - 2, None), None)
        mailbox.processed += handled
        seconds = end - clock
        mailbox.busy_s += seconds
        if (
            handled == len(mailbox.quota)
            or seconds > mailbox.notable_s * handled
            or seconds > self._slow_handler_s
        ):
            self._account(mailbox, seconds, trail)
        trail.clear()
        self.clock = end

        if not mailbox.state:
            if mailbox.system_lane or user:
                self._requeue(mailbox)
            else:
                mailbox.scheduled = False
                # A thread may have put a message between the last look and the line above.
                if mailbox.system_lane or user:
                    mailbox.scheduled = True
                    self.ready.append(mailbox)
        return end

    def _recover(self, mailbox: Mailbox) -> None:
        """Carry on with an actor whose slice was cut short by a Ctrl-C between two lines here."""
        self.running = None
        self.message = NO_MESSAGE
        self.trail.clear()
        self.ready.append(mailbox)

    def _begin(self, mailbox: Mailbox) -> bool:
        """Start a new actor, or clear up behind one that has ended; say whether it can run."""
        if mailbox.state == STARTING:
            began = self._now()
            lifecycle.start(mailbox)
            self.clock = self._now()
            if self.clock - began > self._slow_handler_s:
                self._report_slow(mailbox, self.clock - began, 1, ("on_start",))
        if mailbox.state == RUNNING:
            return True
        # A thread that told it while it ended may have queued it once more.
        mailbox.scheduled = False
        mailbox.answer_rest()
        return False

    def _account(self, mailbox: Mailbox, seconds: float, handled: Sequence[Any]) -> None:
        """Note the longest handler, report a slow one, and fit the next slice to the actor."""
        number = len(handled)
        # Of several messages one took at least the mean: never claim more than is known.
        mailbox.max_busy_s = max(mailbox.max_busy_s, seconds / max(1, number))
        mailbox.notable_s = min(mailbox.max_busy_s, self._turn_seconds, self._slow_handler_s)
        if seconds > self._turn_seconds:
            mailbox.quota = range(1)
        elif (
            number == len(mailbox.quota) < self._throughput
            and mailbox.processed >= mailbox.probation_end
        ):
            mailbox.quota = range(min(2 * number, self._throughput))
        if seconds > self._slow_handler_s:
            names = tuple(dict.fromkeys(message_type_of(message) for message in handled))
            self._report_slow(mailbox, seconds, number, names)
            mailbox.probation_end = mailbox.processed + _PROBATION

    def _report_slow(
        self, mailbox: Mailbox, seconds: float, messages: int, names: tuple[str, ...]
    ) -> None:
        self._events.publish(
            SlowHandler(
                time=self._now(),
                path=mailbox.path,
                incarnation=mailbox.incarnation,
                seconds=seconds,
                messages=messages,
                message_type=names[0] if len(names) == 1 else None,
                candidates=names,
            )
        )

    def _requeue(self, mailbox: Mailbox) -> None:
        """Put a mailbox with a backlog at the end of the queue and sample its oldest message.

        A lap is over when all that waited at its beginning is handled; what waits then has come
        since.
        """
        first_lap = mailbox.lap_since < mailbox.waiting_since
        if first_lap or mailbox.processed >= mailbox.lap_end:
            if not first_lap:
                mailbox.waiting_since = mailbox.lap_since
            mailbox.lap_since = self.clock
            mailbox.lap_end = mailbox.processed + len(mailbox.user_lane) + len(mailbox.system_lane)
        self.ready.append(mailbox)

    def _take_picked(self) -> Mailbox:
        pick = self.pick
        index = 0 if pick is None else pick([mailbox.ref for mailbox in self.ready])
        mailbox = self.ready[index]
        del self.ready[index]
        return mailbox

    def _end_turn(self) -> None:
        if self._events.pending():
            self._events.flush()
        if self._has_work():
            self._driver.call_soon(self._turn_callback)
        else:
            self.armed = False
            # A thread may have queued something between the last look and the line above.
            if self._has_work():
                self._wake()
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            raise interrupt

    def _has_work(self) -> bool:
        return bool(self.ready or self._events.pending())
