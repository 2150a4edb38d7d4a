"""The actor: pykka's, on an actor system's event loop instead of a thread of its own."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import pykka
from pykka.messages import _ActorStop

from exai_actors.runtime import current, lifecycle
from exai_actors.runtime.future import LoopFuture
from exai_actors.runtime.mailbox import Mailbox
from exai_actors.runtime.ref import LoopRef
from exai_actors.runtime.timers import ScheduledMessage

if TYPE_CHECKING:
    from exai_actors.runtime.lifecycle import Watchable
    from exai_actors.runtime.system import ActorSystem


logger = logging.getLogger(__name__)


class LoopActor(pykka.Actor):
    """An actor on the event loop of its ``system``.

    Write ``on_receive`` and, if need be, ``on_start``, ``on_stop`` and ``on_failure`` as for any
    pykka actor; all of them are synchronous, short and never wait. Start it with
    ``system.spawn(...)``, or with pykka's ``start()`` once a system was made current. Made by
    calling the class, it is not started, and its ``on_receive`` can be called by a test.
    """

    mailbox_limit: ClassVar[int] = 10_000
    """How many messages may wait in the user lane, unless ``spawn`` says otherwise."""

    system: ActorSystem
    _mailbox: Mailbox | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for hook in ("on_start", "on_receive", "on_stop", "on_failure"):
            if inspect.iscoroutinefunction(getattr(cls, hook)):
                raise TypeError(
                    f"{cls.__name__}.{hook} must not be async: an actor's handlers never wait;"
                    " have a task outside tell the actor its result"
                )

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> LoopRef[Self]:
        """Start in the current actor system, at a path made up for it, from any thread."""
        system = current.system()
        return system.launch(cls, args, kwargs, path=system.anonymous_path(cls))

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # pykka's own initialiser would make a uuid, an Event and a weak reference: 6 µs.
        if self._mailbox is None:
            system = current.system_or_manual()
            system.bind(self, system.anonymous_path(type(self)))

    def __str__(self) -> str:
        return str(self.actor_ref)

    @property
    def actor_ref(self) -> LoopRef[Self]:
        return cast("LoopRef[Self]", self._actor_ref)

    @property
    def path(self) -> str:
        return self._own_mailbox().path

    @property
    def incarnation(self) -> int:
        """Which one it is of those that have lived at its path, counted from 1."""
        return self._own_mailbox().incarnation

    def now(self) -> float:
        """The driver's time in monotonic seconds."""
        return self.system.driver.now()

    def schedule(self, delay_s: float, message: Any) -> ScheduledMessage:
        """Tell this actor a message in ``delay_s`` seconds, on the system lane.

        Cancelled by ``cancel()`` on what is returned, even between firing and delivery, and when
        the actor ends.
        """
        return ScheduledMessage(self._own_mailbox(), delay_s, message)

    def watch(self, ref: Watchable, tag: object = None) -> None:
        """Be told one ``Down`` when that incarnation ends, or now if it has ended.

        Of a path, the incarnation living there now is watched. Watching the same one again only
        changes the tag.
        """
        lifecycle.watch(self._own_mailbox(), ref, tag)

    def unwatch(self, ref: Watchable) -> None:
        """Watch no more: no ``Down`` for it comes after this, even if it has ended."""
        lifecycle.unwatch(self._own_mailbox(), ref)

    def on_receive(self, message: Any) -> Any:
        """Handle a message; what is returned answers an ask. Anything raised ends the actor.

        By default logs what was not expected: its class, not its content.
        """
        logger.warning("%s does not expect %s", self, type(message).__name__)

    def stop(self) -> None:
        """End after the present message, as ``actor_ref.stop(block=False)``."""
        self._own_mailbox().offer_system(_ActorStop())

    def _own_mailbox(self) -> Mailbox:
        return cast("Mailbox", self._mailbox)

    def _stop(self) -> None:
        lifecycle.stop(self._own_mailbox())

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    @staticmethod
    def _create_future() -> LoopFuture[Any]:
        system = current.system_or_none()
        return LoopFuture(None if system is None else system.driver)

    def _start_actor_loop(self) -> None:
        self.system.scheduler.enqueue(self._own_mailbox())
