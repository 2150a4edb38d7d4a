"""pykka's actor on an event loop instead of a thread of its own, and the system it lives in."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar, NoReturn, Self, TypeVar, cast

import pykka
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from exai_actors.runtime.kernel import lifecycle
from exai_actors.runtime.kernel.cell import RUNNING, ActorCell, Supervisor
from exai_actors.runtime.kernel.driver import Driver
from exai_actors.runtime.kernel.errors import RuntimeFault
from exai_actors.runtime.kernel.pace import DEFAULT_PACE, Pace
from exai_actors.runtime.kernel.ref import Ref
from exai_actors.runtime.kernel.requests import request_stop
from exai_actors.runtime.kernel.scheduler import NO_MESSAGE
from exai_actors.runtime.kernel.system import System
from exai_actors.runtime.kernel.timers import ScheduledMessage
from exai_actors.runtime.kernel.watching import watch
from exai_actors.runtime.pykka_api import registry
from exai_actors.runtime.pykka_api.future import LoopFuture
from exai_actors.runtime.pykka_api.inbox import Inbox
from exai_actors.runtime.pykka_api.lazy_event import LazyEvent
from exai_actors.runtime.pykka_api.ref import LoopRef, PathRef

log = logging.getLogger("exai_actors.runtime")


class NoActorSystem(RuntimeFault):
    """``Actor.start()`` needs a current actor system, and there is none."""


class LoopActor(pykka.Actor):
    """An actor on the event loop of its ``system``.

    Write ``on_receive`` and, if need be, ``on_start``, ``on_stop`` and ``on_failure`` as for any
    pykka actor; all of them are synchronous, short and never wait. Start it with
    ``system.spawn(...)``, or with pykka's ``start()`` once a system is current. One made by calling
    the class is not started.
    """

    mailbox_limit: ClassVar[int] = 10_000
    """How many messages may wait in the user lane, unless ``spawn`` sets another limit."""

    system: ActorSystem
    # Set for each actor before its constructor runs; a property of pykka's, which would shadow it.
    actor_ref: LoopRef[Self] = cast("LoopRef[Self]", None)
    now: Callable[[], float]
    """The driver's time in monotonic seconds."""
    _cell: ActorCell

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hooks = ("on_start", "on_receive", "on_suspend", "on_resume", "on_stop", "on_failure")
        for hook in hooks:
            if inspect.iscoroutinefunction(getattr(cls, hook)):
                raise TypeError(
                    f"{cls.__name__}.{hook} must not be async: an actor's handlers never wait;"
                    " have a task outside send the actor its result"
                )

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> LoopRef[Self]:
        """Start in the current actor system, at a path made up for it, on any thread."""
        system = ActorSystem.current()
        return system._spawn(cls, args, kwargs, path=system._anonymous_path(cls))

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # pykka's own initialiser would make what the cell and the reference have already.
        if getattr(self, "_cell", None) is None:
            ActorSystem.current()._attach_unstarted(self)

    def __str__(self) -> str:
        return str(self.actor_ref)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        return self.actor_ref.actor_urn

    @property
    def actor_inbox(self) -> Inbox:  # type: ignore[override]
        return self.actor_ref.actor_inbox

    @property
    def actor_stopped(self) -> LazyEvent:  # type: ignore[override]
        return self.actor_ref.actor_stopped

    @property
    def path(self) -> str:
        return self._cell.path

    @property
    def incarnation(self) -> int:
        """The number of this incarnation at its path, counted from 1."""
        return self._cell.incarnation

    @property
    def is_quiet(self) -> bool:
        """Whether the actor runs, and neither handles a message nor has one waiting."""
        cell = self._cell
        return not (cell.state or cell.scheduled or cell.mailbox.user or cell.mailbox.system)

    def schedule(self, delay_s: float, message: Any) -> ScheduledMessage:
        """Send this actor a message in ``delay_s`` seconds, on the system lane.

        The result's ``cancel()`` cancels it, even between firing and delivery; so does the actor's
        end.
        """
        return ScheduledMessage(self._cell, delay_s, message)

    @property
    def unhandled(self) -> tuple[Any, ...]:
        """In ``on_failure``: the messages without effect, the one that raised first.

        Those behind it come in the order of their arrival, without the system lane.
        """
        message = self.system.scheduler.message
        behind = tuple(self._cell.mailbox.user)
        return behind if message is NO_MESSAGE else (message, *behind)

    def drop_waiting(self, is_dropped: Callable[[Any], bool]) -> None:
        """Remove those messages from the user lane, in the order of their arrival."""
        lane = self._cell.mailbox.user
        for _ in range(len(lane)):
            message = lane.popleft()
            if not is_dropped(message):
                lane.append(message)

    def watch(self, ref: LoopRef[Any] | PathRef, tag: object = None) -> None:
        """Get one ``Down`` when that incarnation ends, or now if it has ended.

        Of a path, the incarnation alive there now is watched. Watching the same one again only
        changes the tag. Raises TypeError or ValueError for actors that are not of this system.
        """
        resolved = ref.resolve() if isinstance(ref, PathRef) else ref
        if resolved is None:
            watch(self._cell, ref.path, tag)
            return
        if not isinstance(resolved, Ref):
            raise TypeError(f"only actors of an actor system can be watched, not {ref!r}")
        if resolved._cell.host is not self.system:
            raise ValueError(f"{ref.path} belongs to another actor system")
        watch(self._cell, resolved._cell, tag)

    def on_receive(self, message: Any) -> Any:
        """Handle a message; the return value answers an ask. Anything raised ends the actor.

        By default logs the class of the unexpected message, not its content.
        """
        log.warning(
            "actor.unexpected_message",
            extra={"actor": str(self), "message_type": type(message).__name__},
        )

    def on_suspend(self) -> None:
        """The user lane rests from now on; the system lane does not."""

    def on_resume(self) -> None:
        """The user lane is served again, after this."""

    def stop(self) -> None:
        """End after the present message, as ``actor_ref.stop(block=False)``."""
        request_stop(self._cell)

    def _stop(self) -> None:
        lifecycle.stop(self._cell)

    # Abstract in pykka, whose own start() and ask() would call them; both are replaced here, so
    # that two of the three are never called.

    @staticmethod
    def _create_actor_inbox() -> NoReturn:
        raise NotImplementedError

    @staticmethod
    def _create_future() -> LoopFuture[Any]:
        return LoopFuture()

    def _start_actor_loop(self) -> NoReturn:
        raise NotImplementedError


A = TypeVar("A", bound=LoopActor)


def _handle_as_pykka(message: Any, cell: ActorCell) -> Any:
    return cast("LoopActor", cell.behaviour)._handle_receive(message)


_PYKKA_DELIVERIES = dict.fromkeys(
    (ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop), _handle_as_pykka
)


class ActorSystem(System[LoopRef[Any]]):
    """All actors of one event loop, as pykka actors."""

    _current: ClassVar[ActorSystem | None] = None

    def __init__(self, driver: Driver, *, pace: Pace = DEFAULT_PACE) -> None:
        registry.install()
        super().__init__(driver, LoopRef, pace=pace, deliveries=_PYKKA_DELIVERIES)
        self._anonymous = count(1)

    @staticmethod
    def current() -> ActorSystem:
        """The system last made current; NoActorSystem if there is none."""
        system = ActorSystem._current
        if system is None:
            raise NoActorSystem(
                "no actor system is current; call make_current() on one, or use its spawn()"
            )
        return system

    def make_current(self) -> ActorSystem:
        """Be the system in which pykka's ``SomeActor.start()`` starts actors. Returns itself."""
        ActorSystem._current = self
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
        the constructor raises; an error in ``on_start`` reaches only the supervisor.
        """
        return self._spawn(
            actor_class,
            args,
            kwargs,
            path=path,
            supervisor=supervisor,
            mailbox_limit=mailbox_limit,
        )

    def behaviours(self, kind: type[A]) -> list[A]:
        """The running actors of a class, for readers of their state on the loop thread."""
        return [
            cast("A", cell.behaviour)
            for cell in self._cells()
            if cell.state == RUNNING and kind in cell.behaviour_class.__mro__
        ]

    async def stop_all(self, timeout_s: float = 10.0) -> tuple[str, ...]:
        """Stop every actor, the last started first, each before the next; start no more.

        Returns the paths of actors that were still alive after ``timeout_s``: none, normally.
        """
        return await self.stop_all_nowait(timeout_s)

    def stop_all_nowait(self, timeout_s: float = 10.0) -> LoopFuture[tuple[str, ...]]:
        """Like ``stop_all``, for callers that cannot await; on any thread."""
        if ActorSystem._current is self:
            ActorSystem._current = None
        stopped: LoopFuture[tuple[str, ...]] = LoopFuture(self.driver)
        self.begin_shutdown(timeout_s, stopped.settle)
        return stopped

    def entering(self, cell: ActorCell) -> None:
        registry.register(cell.ref)

    def leaving(self, cell: ActorCell) -> None:
        registry.unregister(cell.ref)
        cell.ref.actor_stopped.set()

    def _spawn(
        self,
        actor_class: type[A],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        path: str,
        supervisor: Supervisor | None = None,
        mailbox_limit: int | None = None,
    ) -> LoopRef[A]:
        """Like ``spawn``, for constructors with arguments named like those of ``spawn``."""

        def construct(cell: ActorCell) -> LoopActor:
            actor = actor_class.__new__(actor_class, *args, **kwargs)
            self._attach(actor, cell)
            actor_class.__init__(actor, *args, **kwargs)
            return actor

        limit = actor_class.mailbox_limit if mailbox_limit is None else mailbox_limit
        return self.start(
            actor_class, construct, path=path, supervisor=supervisor, mailbox_limit=limit
        )

    def _attach(self, actor: LoopActor, cell: ActorCell) -> None:
        actor.system = self
        actor.now = self.driver.now
        actor._cell = cell
        actor.actor_ref = cell.ref
        cell.behaviour = actor

    def _attach_unstarted(self, actor: LoopActor) -> None:
        kind = type(actor)
        path = self._anonymous_path(kind)
        self._attach(actor, self._new_cell(kind, path, kind.mailbox_limit, None))

    def _anonymous_path(self, actor_class: type[LoopActor]) -> str:
        return f"/anonymous/{actor_class.__name__}-{next(self._anonymous)}"
