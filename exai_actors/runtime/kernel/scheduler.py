"""Runs actors that have messages: fairly, briefly, and without starving input and output.

One run queue holds the cells with messages. Turns take cells from it, each turn one callback of the
loop; a turn ends after so many batches or seconds (``Pace``). A cell's batch is at most so many
messages; if it has more, it goes to the end of the queue.

Most batches are a single plain message of an actor that has no other. They take the fast path in
``_run_turn``, which does the same as ``_run_batch`` and takes a third less time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from exai_actors.runtime.kernel import lifecycle
from exai_actors.runtime.kernel.cell import (
    RUNNING,
    STARTING,
    STOPPING,
    ActorCell,
    message_type_of,
)
from exai_actors.runtime.kernel.driver import Callback, Driver
from exai_actors.runtime.kernel.events import EventStream, SlowHandler
from exai_actors.runtime.kernel.pace import Pace
from exai_actors.runtime.kernel.signals import ExitReason

# None is a message like any other.
NO_MESSAGE = object()


class Stall(NamedTuple):
    """A time in which the loop did nothing else, in the driver's seconds."""

    began: float
    ended: float

    def hides(self, since: float, until: float) -> bool:
        """Whether something that began at ``since`` and was seen to end at ``until`` may have ended
        during this time, so that its length is not known to a tenth.

        The ends of this time are seen for as long after it as it lasted.
        """
        length = self.ended - self.began
        return since < self.ended and until - self.ended < length > (until - since) / 10


Pick = Callable[[Sequence[ActorCell]], int]


class Scheduler:
    """The run queue of one actor system.

    ``enqueue``, ``request_turn_for`` and ``wake`` may be called on any thread, all else on the loop
    thread. A reference puts the cell of an idle actor into ``ready`` itself.
    """

    def __init__(
        self,
        driver: Driver,
        events: EventStream,
        special: Collection[type],
        living: Callable[[], Iterable[ActorCell]],
        loop_closed: Callback,
        pace: Pace,
    ) -> None:
        """Messages of a ``special`` class are handled by ``ActorCell.handle``."""
        self.pick: Pick | None = None
        """Chooses the ready cell that runs next, by index; a simulator's hook."""
        self.running: ActorCell | None = None
        self.message: Any = NO_MESSAGE
        """The message that ``running`` is handling, or NO_MESSAGE."""
        self.clock = driver.now()
        """When the present turn or its latest batch began; stands still between turns."""
        self.ready: deque[ActorCell] = deque()
        self.armed = False
        """Whether a turn is under way or requested. Senders look at it after they appended."""
        self.stall = Stall(0.0, 0.0)
        """The last time for which a slow handler kept everything else waiting."""
        self._interrupt: KeyboardInterrupt | None = None
        self._batch: list[Any] = []
        """The messages of the present batch, if it is not a single plain one."""
        self._driver = driver
        self._now = driver.now
        self._events = events
        self._special = special
        self._living = living
        self._loop_closed = loop_closed
        self._pace = pace
        self._turn_callback = self._turn
        self._left_work_at: float | None = None
        """When the latest turn ended, if it has left work for the next one."""

    def enqueue(self, cell: ActorCell) -> None:
        """Have a cell run; for the sender that put a message and found ``scheduled`` clear."""
        if cell.state >= STOPPING:
            cell.drain_closed()
            return
        cell.scheduled = True
        cell.work.waiting_since = self.clock
        self.ready.append(cell)
        if not self.armed:
            self.request_turn_for(cell)

    def request_turn_for(self, cell: ActorCell) -> None:
        """Ask for a turn, for the sender that put a cell in and found ``armed`` clear."""
        cell.work.waiting_since = self.clock = self._now()
        self._request_turn()

    def is_busy(self) -> bool:
        """Return whether a cell waits for its batch; loop thread only."""
        return bool(self.ready)

    def run_early(self) -> None:
        """Run the turn that was requested, if any, here and now; its callback does the rest.

        For a source of many messages that wants them handled before it brings more. No effect
        within a turn.
        """
        if self.running is None:
            try:
                self._run_turn()
                if self._left_work_at is not None:
                    # Their next share is half of the time from here on.
                    self._left_work_at = self.clock
            except BaseException:
                self._recover()
                raise

    def wake(self) -> None:
        """Have a turn come, if none is under way, for work that is not in a mailbox."""
        if not self.armed:
            self._request_turn()

    def interrupt_after(self, interrupt: KeyboardInterrupt) -> None:
        """Raise it to the loop at the end of the present turn, or of one that comes for it."""
        self._interrupt = interrupt
        self.wake()

    def _request_turn(self) -> None:
        """Ask the loop for a turn. Two threads at the same time get two, which is harmless."""
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
            self._run_turn()
            self._end_turn()
        except BaseException:
            self._recover()
            raise

    def _recover(self) -> None:
        """Queue every actor: a Ctrl-C between two instructions may have left any of them out."""
        self.running = None
        self.message = NO_MESSAGE
        self._batch.clear()
        self.ready.extend(self._living())
        self._request_turn()

    def _run_turn(self) -> None:
        """Run batches until none is due or the turn has used up its batches or its time."""
        ready, pace, special, now = self.ready, self._pace, self._special, self._now
        if not ready:
            return
        clock = self.clock = now()
        seconds = pace.turn_seconds
        if self._left_work_at is not None:
            # Actors get half the time of a loop that is always busy: its other work is often theirs
            # in the end, such as reading the pieces of streams that they have begun.
            others = clock - self._left_work_at
            seconds = max(seconds, min(others, pace.longest_turn_seconds))
        deadline = clock + seconds
        take = ready.popleft if self.pick is None else self._take_picked
        for _ in range(pace.turn_batches):
            cell = take()
            mailbox = cell.mailbox
            lane = mailbox.user
            if cell.state or mailbox.system or len(lane) != 1 or type(lane[0]) in special:
                self._run_batch(cell)
                clock = self.clock
            else:
                # The fast path: a single plain message of a running actor, and nothing else.
                self.running = cell
                self.message = message = lane.popleft()
                try:
                    cell.receive(message)
                except BaseException as error:  # noqa: BLE001 - one failure rule
                    lifecycle.fail(cell, error, ExitReason.FAILED, message_type_of(message))
                end = now()
                seconds = end - clock
                self.clock = clock = end
                work = cell.work
                processed = work.processed = work.processed + 1
                work.busy_s += seconds
                if processed >= work.timed_from:
                    work.note_time(seconds, 1)
                if seconds > work.slow_threshold_s:
                    self._account(cell, seconds, (message,))
                if not cell.state:
                    cell.scheduled = False
                    # A message may have come during the handler, or just now from a thread.
                    if lane or mailbox.system:
                        cell.scheduled = True
                        self._requeue(cell, seconds, 1)
            if not ready or clock >= deadline or self._interrupt is not None:
                break
        self.running = None
        self.message = NO_MESSAGE

    def _run_batch(self, cell: ActorCell) -> None:
        """Run a batch of any kind."""
        self.running = cell
        self.message = NO_MESSAGE
        if cell.state != RUNNING and not self._begin(cell):
            return
        mailbox, work, batch = cell.mailbox, cell.work, self._batch
        try:
            for _ in range(work.quota):
                if mailbox.system:
                    message = mailbox.system.popleft()
                elif mailbox.user and cell.state == RUNNING:
                    message = mailbox.user.popleft()
                else:
                    break
                self.message = message
                batch.append(message)
                if type(message) in self._special:
                    cell.handle(message)
                    if cell.state >= STOPPING:
                        break
                else:
                    cell.receive(message)
        except BaseException as error:  # noqa: BLE001 - one failure rule, whatever was raised
            lifecycle.fail(cell, error, ExitReason.FAILED, message_type_of(self.message))
        end = self._now()
        seconds = end - self.clock
        self.clock = end
        work.processed += len(batch)
        work.busy_s += seconds
        if batch and work.processed >= work.timed_from:
            work.note_time(seconds, len(batch))
        if seconds > work.slow_threshold_s:
            self._account(cell, seconds, batch)
        if cell.state < STOPPING:
            cell.scheduled = False
            # Messages may be left, or a thread may have put one just now.
            if mailbox.system or (mailbox.user and cell.state == RUNNING):
                cell.scheduled = True
                self._requeue(cell, seconds, len(batch))
        batch.clear()

    def _begin(self, cell: ActorCell) -> bool:
        """Start a new actor, or clear up behind one that has ended; return whether it can run."""
        if cell.state == STARTING:
            began = self.clock
            lifecycle.start(cell)
            self.clock = self._now()
            if self.clock - began > self._pace.slow_handler_s:
                self._report_slow(cell, self.clock - began, 1, ("on_start",))
        if cell.state < STOPPING:
            return True
        # A thread that sent to it while it ended may have queued it once more.
        cell.scheduled = False
        cell.drain_closed()
        return False

    def _requeue(self, cell: ActorCell, seconds: float, handled: int) -> None:
        """Put a cell that has more messages at the end of the queue."""
        cell.work.note_backlog(len(cell.mailbox), self.clock, seconds, handled, self._pace)
        self.ready.append(cell)

    def _account(self, cell: ActorCell, seconds: float, handled: Sequence[Any]) -> None:
        if cell.work.note_slow(seconds, len(handled), self._pace):
            names = tuple(dict.fromkeys(message_type_of(message) for message in handled))
            self._report_slow(cell, seconds, len(handled), names)

    def _report_slow(
        self, cell: ActorCell, seconds: float, messages: int, names: tuple[str, ...]
    ) -> None:
        self.stall = Stall(self.clock - seconds, self.clock)
        self._events.publish(
            SlowHandler(
                time=self.clock,
                path=cell.path,
                incarnation=cell.incarnation,
                seconds=seconds,
                messages=messages,
                message_type=names[0] if len(names) == 1 else None,
                candidates=names,
            )
        )

    def _take_picked(self) -> ActorCell:
        index = 0 if self.pick is None else self.pick(tuple(self.ready))
        cell = self.ready[index]
        del self.ready[index]
        return cell

    def _end_turn(self) -> None:
        ready, foreign = self.ready, self._events.foreign
        if foreign:
            self._events.flush()
        if ready or foreign:
            self._left_work_at = self.clock
            self._driver.call_soon(self._turn_callback)
        else:
            self._left_work_at = None
            self.armed = False
            # A thread may have queued something between the last look and the line above.
            if ready or foreign:
                self._request_turn()
        if self._interrupt is not None:
            interrupt, self._interrupt = self._interrupt, None
            raise interrupt
