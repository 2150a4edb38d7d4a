"""The actor system: starts actors at paths, finds them, shows them and stops them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar, cast

from exai_actors.runtime.kernel import lifecycle
from exai_actors.runtime.kernel.cell import STOPPING, ActorCell, Behaviour, Delivery, Supervisor
from exai_actors.runtime.kernel.dead_letters import DeadLetters
from exai_actors.runtime.kernel.driver import Driver
from exai_actors.runtime.kernel.errors import PathTaken, SystemStopping
from exai_actors.runtime.kernel.events import EventStream, Listener
from exai_actors.runtime.kernel.pace import DEFAULT_PACE, Pace
from exai_actors.runtime.kernel.paths import PathHistory, check_path
from exai_actors.runtime.kernel.ref import Ref
from exai_actors.runtime.kernel.requests import Request, StopRequest
from exai_actors.runtime.kernel.scheduler import Scheduler
from exai_actors.runtime.kernel.shutdown import stop_in_reverse
from exai_actors.runtime.kernel.statistics import (
    ActorStatistics,
    MailboxFigures,
    fullest_of,
    mailboxes_of,
    statistics_of,
)
from exai_actors.runtime.kernel.suspension import Suspended, Suspension, covers
from exai_actors.runtime.kernel.timers import ScheduledMessage
from exai_actors.runtime.kernel.tracing import Note, Tracer
from exai_actors.runtime.kernel.watching import DownNotice

R = TypeVar("R", bound=Ref)

_DELIVERIES: Mapping[type, Delivery] = {
    kind: kind.deliver for kind in (Request, StopRequest, ScheduledMessage, DownNotice, Suspension)
}


class System(Generic[R]):
    """All actors of one event loop.

    ``start``, ``resolve``, the statistics and ``begin_shutdown`` work on any thread.
    """

    def __init__(
        self,
        driver: Driver,
        make_ref: Callable[[ActorCell], R],
        *,
        pace: Pace = DEFAULT_PACE,
        dead_letter_capacity: int = 1000,
        deliveries: Mapping[type, Delivery] | None = None,
    ) -> None:
        """``deliveries`` are more special messages, each with its own handler."""
        self.driver = driver
        self.deliveries: Mapping[type, Delivery] = {**_DELIVERIES, **(deliveries or {})}
        self.stopping = False
        """True from the beginning of a shutdown: no more actors are started."""
        self.events = EventStream(
            driver,
            # It is not made yet.
            lambda: self.scheduler.wake(),  # noqa: PLW0108
            lambda interrupt: self.scheduler.interrupt_after(interrupt),  # noqa: PLW0108
        )
        self.dead_letters = DeadLetters(dead_letter_capacity, driver.now, self.events.publish)
        self.scheduler = Scheduler(
            driver, self.events, frozenset(self.deliveries), self._cells, self._abandon_all, pace
        )
        self._make_ref = make_ref
        self._living: dict[str, ActorCell] = {}
        self._history = PathHistory()
        self._suspended = Suspended()
        # Guards the two fields above when actors start and end: a path is taken by one actor.
        self._lock = threading.RLock()

    def start(
        self,
        behaviour_class: type,
        construct: Callable[[ActorCell], Behaviour],
        *,
        path: str,
        mailbox_limit: int,
        supervisor: Supervisor | None = None,
    ) -> R:
        """Construct a behaviour and start it as an actor.

        Raises PathTaken if a living actor has that path, InvalidPath, SystemStopping, and whatever
        ``construct`` raises; an error in ``on_start`` reaches only the supervisor.
        """
        self._forbid_if_stopping(path)
        cell = self._new_cell(behaviour_class, path, mailbox_limit, supervisor)
        try:
            # The actor has its cell and its reference before its constructor runs.
            cell.behaviour = construct(cell)
            cell.receive = cell.behaviour.on_receive
            self._take_path(cell)
        except BaseException:
            lifecycle.discard(cell)
            raise
        self.entering(cell)
        self.scheduler.enqueue(cell)
        return cast("R", cell.ref)

    def resolve(self, path: str) -> R | None:
        """The incarnation that is alive at a path, if any."""
        cell = self._living.get(path)
        return None if cell is None or cell.state >= STOPPING else cast("R", cell.ref)

    def mark_last(self, path: str) -> None:
        """After the actor that is alive at this path none will ever be: remember nothing of it.

        What is kept of each of many actors lies among what they had, and keeps that memory in use.
        """
        cell = self._living.get(path)
        if cell is not None:
            cell.is_last = True

    def paths(self) -> list[str]:
        """The paths of living actors, in the order they were started."""
        return list(self._living)

    def statistics(self) -> tuple[ActorStatistics, ...]:
        """The statistics of all living actors, read without a message."""
        now = self.driver.now()
        return tuple(statistics_of(cell, self.scheduler, now) for cell in self._cells())

    def mailboxes(self) -> Iterator[MailboxFigures]:
        """The mailboxes of all living actors, read without a message."""
        return mailboxes_of(self._cells(), self.driver.now())

    def fullest_mailbox(self) -> tuple[float, str]:
        """The taken part of the fullest user lane, and the path of its actor."""
        return fullest_of(self._cells())

    def statistics_of(self, path: str) -> ActorStatistics | None:
        """One actor's statistics, or None if none is alive at the path."""
        cell = self._living.get(path)
        return None if cell is None else statistics_of(cell, self.scheduler, self.driver.now())

    def on_event(self, listener: Listener, *, ordinary: bool = True) -> Callable[[], None]:
        """Call ``listener`` with every event, on the loop thread, until the result is called.

        Without ``ordinary`` ones it gets neither the first start of an actor at its path nor a
        normal end, which come with each connection.
        """
        return self.events.add(listener, ordinary=ordinary)

    def suspend(self, path: str, *, subtree: bool = False) -> tuple[str, ...]:
        """Let the user lane of an actor rest, with ``subtree`` also those of all actors below it.

        So do those of the actors that start at these paths later, until ``resume``. Returns the
        paths of the living actors that are suspended.
        """
        self._suspended.add(path, subtree=subtree)
        return self._tell_all(path, Suspension(resumes=False), subtree=subtree)

    def resume(self, path: str, *, subtree: bool = False) -> tuple[str, ...]:
        """Serve the user lanes again that ``suspend`` let rest; returns the paths of the actors."""
        self._suspended.discard(path, subtree=subtree)
        return self._tell_all(path, Suspension(resumes=True), subtree=subtree)

    def trace(self, path: str, note: Note) -> Callable[[], None] | None:
        """Report the next messages of an actor to ``note``, until the result is called.

        None if no actor is alive at the path. Loop thread only.
        """
        cell = self._living.get(path)
        if cell is None or cell.state >= STOPPING:
            return None
        return Tracer.of(cell, self.driver.now).add(note)

    def is_suspended(self, path: str) -> bool:
        """Whether an actor that starts at this path begins suspended."""
        return path in self._suspended

    def abandon(self, path: str) -> None:
        """End the actor at a path and all below it, the last started first, without their hooks."""
        for cell in reversed(self._cells()):
            if covers(path, cell.path, subtree=True):
                lifecycle.abandon(cell)

    def begin_shutdown(self, timeout_s: float, done: Callable[[tuple[str, ...]], object]) -> None:
        """Stop every actor, the last started first, each before the next; start no more.

        ``done`` gets the paths of the actors that were still alive after ``timeout_s``: none,
        normally.
        """
        with self._lock:
            self.stopping = True
        cells = self._cells()

        def begin() -> None:
            stop_in_reverse(cells, self.driver, timeout_s, self.paths, done)

        if self.driver.in_loop_thread():
            begin()
            return
        try:
            self.driver.call_soon_threadsafe(begin)
        except RuntimeError:
            if not self.driver.closed():
                raise
            self._abandon_all()
            done(())

    def entering(self, cell: ActorCell) -> None:
        """An actor has taken its path and is about to run; for subclasses."""

    def leaving(self, cell: ActorCell) -> None:
        """An actor takes no more messages and is about to run its last hook; for subclasses."""

    def forget(self, cell: ActorCell) -> None:
        """Free the path of an actor that has ended."""
        with self._lock:
            if self._living.get(cell.path) is cell:
                del self._living[cell.path]
            if cell.is_last:
                self._history.drop(cell.path)
            else:
                self._history.remember(cell.path, cell.incarnation, cell.failed)

    def _tell_all(self, path: str, message: Suspension, *, subtree: bool) -> tuple[str, ...]:
        cells = [cell for cell in self._cells() if covers(path, cell.path, subtree=subtree)]
        return tuple(cell.path for cell in cells if cell.offer_system(message))

    def _cells(self) -> list[ActorCell]:
        return list(self._living.values())

    def _new_cell(
        self, behaviour_class: type, path: str, mailbox_limit: int, supervisor: Supervisor | None
    ) -> ActorCell:
        check_path(path)
        if mailbox_limit < 1:
            raise ValueError(
                f"the mailbox of {path} needs a limit of at least 1, not {mailbox_limit}"
            )
        with self._lock:
            if path in self._living:
                raise PathTaken(f"{path} is taken by {self._living[path]}")
            incarnation, failed = self._history.next_incarnation(path)
        cell = ActorCell(
            self,
            self.scheduler,
            behaviour_class,
            path,
            incarnation=incarnation,
            failed=failed,
            mailbox_limit=mailbox_limit,
            supervisor=supervisor,
        )
        cell.ref = self._make_ref(cell)
        return cell

    def _take_path(self, cell: ActorCell) -> None:
        with self._lock:
            self._forbid_if_stopping(cell.path)
            if self._history.is_over(cell.path, cell.incarnation):
                raise PathTaken(f"{cell.path} was taken and left by others in the meantime")
            if self._living.setdefault(cell.path, cell) is not cell:
                raise PathTaken(
                    f"{cell.path} was taken by {self._living[cell.path]} in the meantime"
                )

    def _forbid_if_stopping(self, path: str) -> None:
        if self.stopping:
            raise SystemStopping(f"{path} was not started: the actor system is stopping")

    def _abandon_all(self) -> None:
        """End all actors of a loop that was closed."""
        for cell in self._cells():
            lifecycle.abandon(cell)
