"""The actor system: spawns actors at paths, finds them, shows them and stops them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar, cast

from exai_actors.runtime import current, lifecycle, registry, shutdown
from exai_actors.runtime.actor import LoopActor
from exai_actors.runtime.dead_letters import DeadLetters
from exai_actors.runtime.driver import Driver
from exai_actors.runtime.errors import InvalidPath, PathTaken, SystemStopping
from exai_actors.runtime.events import EventStream, Listener, MailboxRefused
from exai_actors.runtime.future import LoopFuture
from exai_actors.runtime.mailbox import STOPPING, Mailbox
from exai_actors.runtime.path_history import PathHistory
from exai_actors.runtime.ref import LoopRef, PathRef
from exai_actors.runtime.scheduler import Scheduler
from exai_actors.runtime.statistics import ActorStatistics, statistics_of

A = TypeVar("A", bound=LoopActor)

Supervisor = LoopRef[Any] | PathRef

_REFUSAL_REPORT_S = 1.0

_urns = count(1)


class ActorSystem:
    """All actors of one event loop. ``spawn``, ``resolve`` and the views work on any thread."""

    def __init__(
        self,
        driver: Driver,
        *,
        throughput: int = 64,
        turn_messages: int = 1024,
        turn_seconds: float = 0.002,
        slow_handler_s: float = 0.05,
        dead_letter_capacity: int = 1000,
    ) -> None:
        """Drive actors by ``driver``.

        ``throughput`` is the most messages one actor handles in a row, ``turn_messages`` and
        ``turn_seconds`` when the loop gets back to its other work, ``slow_handler_s`` from when a
        handler is reported.
        """
        registry.install()
        self.driver = driver
        self.stopping = False
        """True from the beginning of ``stop_all``: nothing is spawned any more."""
        self.events = EventStream(
            driver,
            # It is not made yet.
            lambda: self.scheduler.nudge(),  # noqa: PLW0108
            lambda interrupt: self.scheduler.interrupt_after(interrupt),  # noqa: PLW0108
        )
        self.dead_letters = DeadLetters(dead_letter_capacity, driver.now, self.events.publish)
        self.scheduler = Scheduler(
            driver,
            self.events,
            self.abandon,
            throughput=throughput,
            turn_messages=turn_messages,
            turn_seconds=turn_seconds,
            slow_handler_s=slow_handler_s,
        )
        self._living: dict[str, Mailbox] = {}
        self._history = PathHistory()
        self._anonymous = count(1)
        # Guards the two fields above, on spawn and end only: a path is taken by one actor.
        self._lock = threading.RLock()

    @staticmethod
    def current() -> ActorSystem:
        """The system last made current; NoActorSystem if there is none."""
        return current.system()

    def make_current(self) -> ActorSystem:
        """Be the system in which pykka's ``SomeActor.start()`` starts actors. Returns itself."""
        current.install(self)
        return self

    def spawn(
        self,
        actor_class: type[A],
        *args: Any,
        path: str,
        supervisor: Supervisor | None = None,
        mailbox_limit: int | None = None,
        **kwargs: Any,
    ) -> LoopRef[A]:
        """Construct an actor with the other arguments and start it.

        Raises PathTaken if a living actor has that path, InvalidPath, SystemStopping, and whatever
        the constructor raises; of ``on_start`` only the supervisor hears.
        """
        return self.launch(
            actor_class,
            args,
            kwargs,
            path=path,
            supervisor=supervisor,
            mailbox_limit=mailbox_limit,
        )

    def construct(self, actor_class: type[A], *args: Any, path: str, **kwargs: Any) -> A:
        """Make an actor of this system and do not start it: a test calls its handlers itself."""
        actor = actor_class.__new__(actor_class, *args, **kwargs)
        self.bind(actor, path)
        actor_class.__init__(actor, *args, **kwargs)
        return actor

    def launch(
        self,
        actor_class: type[A],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        path: str,
        supervisor: Supervisor | None = None,
        mailbox_limit: int | None = None,
    ) -> LoopRef[A]:
        """As ``spawn``, for constructors that have arguments named like those of ``spawn``."""
        self._forbid_if_stopping(path)
        actor = actor_class.__new__(actor_class, *args, **kwargs)
        mailbox = self.bind(actor, path, supervisor, mailbox_limit)
        try:
            # The actor has its place in the system before its constructor runs.
            actor_class.__init__(actor, *args, **kwargs)
            self._take_path(mailbox)
        except BaseException:
            lifecycle.discard(mailbox)
            raise
        registry.enter(mailbox.ref)
        actor._start_actor_loop()
        return cast("LoopRef[A]", mailbox.ref)

    def bind(
        self,
        actor: LoopActor,
        path: str,
        supervisor: Supervisor | None = None,
        mailbox_limit: int | None = None,
    ) -> Mailbox:
        """Give an actor its mailbox, reference and place in this system, without starting it."""
        if not path.startswith("/") or (path != "/" and "" in path[1:].split("/")):
            raise InvalidPath(f"{path!r} is not a path: write names after slashes, like '/a/b'")
        limit = actor.mailbox_limit if mailbox_limit is None else mailbox_limit
        if limit < 1:
            raise ValueError(f"the mailbox of {path} needs a limit of at least 1, not {limit}")
        mailbox = actor._create_actor_inbox()
        with self._lock:
            if path in self._living:
                raise PathTaken(f"{path} is taken by {self._living[path].ref}")
            mailbox.incarnation, mailbox.failed = self._history.next_incarnation(path)
        mailbox.system = self
        mailbox.scheduler = self.scheduler
        mailbox.path = path
        mailbox.supervisor = supervisor
        mailbox.own_limit = mailbox.limit = limit
        mailbox.actor = actor
        mailbox.receive = actor.on_receive
        actor.system = self
        actor.actor_urn = f"urn:exai:actor:{next(_urns)}"
        actor.actor_inbox = mailbox
        actor.actor_stopped = mailbox.stopped  # type: ignore[assignment]
        actor._mailbox = mailbox
        actor._actor_ref = mailbox.ref = LoopRef(actor, mailbox)
        return mailbox

    def anonymous_path(self, actor_class: type[LoopActor]) -> str:
        """A path that nobody has chosen, for pykka's ``start()``."""
        return f"/anonymous/{actor_class.__name__}-{next(self._anonymous)}"

    def resolve(self, path: str) -> LoopRef[Any] | None:
        """The living incarnation at a path, if any."""
        mailbox = self._living.get(path)
        return None if mailbox is None or mailbox.state >= STOPPING else mailbox.ref

    def paths(self) -> list[str]:
        """The paths of the living, in the order they were started."""
        return list(self._living)

    def statistics(self) -> tuple[ActorStatistics, ...]:
        """Everybody's statistics, read without a message."""
        now = self.driver.now()
        return tuple(
            statistics_of(mailbox, self.scheduler, now) for mailbox in list(self._living.values())
        )

    def statistics_of(self, path: str) -> ActorStatistics | None:
        """One actor's statistics, or None if nobody lives there."""
        mailbox = self._living.get(path)
        if mailbox is None:
            return None
        return statistics_of(mailbox, self.scheduler, self.driver.now())

    def is_busy(self) -> bool:
        """Whether some actor has a message to handle; loop thread only."""
        return self.scheduler.is_busy()

    def hold(self) -> bool:
        """Collect what actors are told until ``release``; loop thread only, and no waiting within.

        For a source of many messages at a time: with both around them, they are handled in its own
        callback of the loop instead of one more. False if a turn is to come anyway; then there is
        nothing to release.
        """
        return self.scheduler.hold()

    def release(self) -> None:
        """Let the actors handle what they were told since ``hold``."""
        self.scheduler.release()

    def on_event(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` every event, on the loop thread; call what is returned to end that."""
        return self.events.add(listener)

    async def stop_all(self, timeout_s: float = 10.0) -> tuple[str, ...]:
        """Stop every actor, the last started first, each before the next.

        Returns the paths of those that still lived after ``timeout_s``: none, normally.
        """
        return await self.begin_stop(timeout_s)

    def begin_stop(self, timeout_s: float = 10.0) -> LoopFuture[tuple[str, ...]]:
        """As ``stop_all``, for those who cannot await; from any thread."""
        with self._lock:
            self.stopping = True
        if current.system_or_none() is self:
            current.install(None)
        return shutdown.begin(self, timeout_s)

    def living(self) -> list[LoopRef[Any]]:
        """References to all that have not ended, in the order they were started."""
        return [mailbox.ref for mailbox in list(self._living.values())]

    def forget(self, mailbox: Mailbox) -> None:
        """Free the path of an actor that has ended."""
        with self._lock:
            if self._living.get(mailbox.path) is mailbox:
                del self._living[mailbox.path]
            self._history.remember(mailbox.path, mailbox.incarnation, mailbox.failed)

    def count_refusal(self, mailbox: Mailbox) -> None:
        """Count a message that a full lane refused, and report it now and then."""
        now = self.driver.now()
        with self._lock:
            mailbox.refused += 1
            last = mailbox.refused_reported_at
            if last is not None and now - last < _REFUSAL_REPORT_S:
                return
            mailbox.refused_reported_at = now
        self.events.publish(
            MailboxRefused(
                now, mailbox.path, mailbox.incarnation, mailbox.own_limit, mailbox.refused
            )
        )

    def _forbid_if_stopping(self, path: str) -> None:
        if self.stopping:
            raise SystemStopping(f"{path} was not started: the actor system is stopping")

    def _take_path(self, mailbox: Mailbox) -> None:
        with self._lock:
            self._forbid_if_stopping(mailbox.path)
            if self._history.is_over(mailbox.path, mailbox.incarnation):
                raise PathTaken(f"{mailbox.path} was taken and left by others meanwhile")
            if self._living.setdefault(mailbox.path, mailbox) is not mailbox:
                raise PathTaken(
                    f"{mailbox.path} was taken by {self._living[mailbox.path].ref} meanwhile"
                )

    def abandon(self) -> None:
        """Leave nobody waiting: the loop was closed with actors on it."""
        for mailbox in list(self._living.values()):
            lifecycle.abandon(mailbox)
