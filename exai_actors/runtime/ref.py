"""References to actors: to one incarnation, and to whoever lives at a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pykka import ActorDeadError, ActorRef
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exai_actors.messages.recipient import Offer
from exai_actors.runtime.errors import WouldBlockLoop
from exai_actors.runtime.future import LoopFuture
from exai_actors.runtime.mailbox import STOPPING

if TYPE_CHECKING:
    from exai_actors.runtime.actor import LoopActor
    from exai_actors.runtime.mailbox import Mailbox
    from exai_actors.runtime.system import ActorSystem

A = TypeVar("A", bound="LoopActor")

_ACCEPTED = Offer.ACCEPTED


class LoopRef(ActorRef[A]):
    """A reference to one incarnation of an actor. Every method may be called from any thread."""

    __slots__ = ("_mailbox",)

    def __init__(self, actor: A, mailbox: Mailbox) -> None:
        # Not pykka's own initialiser: it makes a weak reference per actor. The mailbox lets go of
        # its actor at the end instead, see _actor_weakref.
        self._mailbox = mailbox
        self.actor_class = actor.__class__
        self.actor_urn = actor.actor_urn
        self.actor_inbox = mailbox
        self.actor_stopped = mailbox.stopped  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<LoopRef {self}>"

    def __str__(self) -> str:
        return f"{self.actor_class.__name__} {self.path} (incarnation {self.incarnation})"

    @property
    def path(self) -> str:
        return self._mailbox.path

    @property
    def incarnation(self) -> int:
        return self._mailbox.incarnation

    def is_alive(self) -> bool:
        """Say whether the actor has not begun to end."""
        return self._mailbox.state < STOPPING

    def tell(self, message: Any) -> None:
        """Put a message in the user lane, in order.

        Never raises and never blocks: if the actor is gone or its lane full, the message becomes a
        dead letter. A message whose class has ``refusable = False`` goes into a full lane as well.
        """
        mailbox = self._mailbox
        if mailbox.scheduled or mailbox.state:
            lane = mailbox.user_lane
            if len(lane) >= mailbox.limit:
                mailbox.refuse_told(message)
                return
            lane.append(message)
            if not mailbox.scheduled:
                mailbox.scheduler.enqueue(mailbox)
            return
        # As Scheduler.enqueue, without its call: an idle actor, the commonest, has room.
        mailbox.user_lane.append(message)
        if mailbox.state >= STOPPING:
            mailbox.answer_rest()
            return
        mailbox.scheduled = True
        scheduler = mailbox.scheduler
        mailbox.waiting_since = scheduler.clock
        scheduler.ready.append(mailbox)
        if not scheduler.armed:
            scheduler.wake_for(mailbox)

    def tell_system(self, message: Any) -> None:
        """Put a message in the system lane: before everything told, and never refused for space."""
        mailbox = self._mailbox
        if mailbox.offer_system(message) is Offer.CLOSED:
            mailbox.bury(message)

    def offer(self, message: Any) -> Offer:
        """Put a message in the user lane, or say why not.

        ACCEPTED means that it will be handled, or become a dead letter if the actor ends first.
        FULL and CLOSED mean that it never will be, and leave no dead letter.
        """
        mailbox = self._mailbox
        if mailbox.scheduled or mailbox.state:
            lane = mailbox.user_lane
            if len(lane) >= mailbox.limit:
                return mailbox.offer(message)
            lane.append(message)
            if not mailbox.scheduled:
                mailbox.scheduler.enqueue(mailbox)
            return _ACCEPTED
        # As Scheduler.enqueue, without its call: an idle actor, the commonest, has room.
        mailbox.user_lane.append(message)
        if mailbox.state >= STOPPING:
            mailbox.answer_rest()
            return _ACCEPTED
        mailbox.scheduled = True
        scheduler = mailbox.scheduler
        mailbox.waiting_since = scheduler.clock
        scheduler.ready.append(mailbox)
        if not scheduler.armed:
            scheduler.wake_for(mailbox)
        return _ACCEPTED

    @overload
    def ask(
        self, message: Any, *, block: Literal[False], timeout: float | None = None
    ) -> LoopFuture[Any]: ...

    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...

    @overload
    def ask(
        self, message: Any, *, block: bool = True, timeout: float | None = None
    ) -> Any | LoopFuture[Any]: ...

    def ask(
        self, message: Any, *, block: bool = True, timeout: float | None = None
    ) -> Any | LoopFuture[Any]:
        """Send a message in the user lane and get the handler's return value as a reply.

        With ``block=False`` returns a future, to be awaited or waited for by another thread; with a
        timeout in seconds it fails with ``pykka.Timeout`` by itself. With ``block=True`` waits, and
        raises ``WouldBlockLoop`` before anything is sent if called on the loop's thread.
        The future's errors: what the handler raised, ``ActorDeadError``, ``MailboxFull``.
        """
        mailbox = self._mailbox
        self._forbid_waiting(block, "ask")
        future: LoopFuture[Any] = LoopFuture(mailbox.system.driver)
        outcome = mailbox.offer(Envelope(message, future))
        if outcome is not Offer.ACCEPTED:
            future.settle_error(mailbox.refusal_error(outcome))
        if block:
            return future.get(timeout=timeout)
        if timeout is not None:
            future.expire_after(timeout)
        return future

    @overload
    def stop(self, *, block: Literal[True], timeout: float | None = None) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> LoopFuture[bool]: ...

    @overload
    def stop(
        self, *, block: bool = True, timeout: float | None = None
    ) -> bool | LoopFuture[bool]: ...

    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | LoopFuture[bool]:
        """End the actor after the message it is at, before its backlog; see also ``drain``.

        The result is True once it has ended by this or another stop, False if it had before.
        ``block`` and ``timeout`` as in ``ask``.
        """
        self._forbid_waiting(block, "stop")
        mailbox = self._mailbox
        future: LoopFuture[bool] = LoopFuture(mailbox.system.driver)
        if mailbox.offer_system(Envelope(_ActorStop(), future)) is Offer.CLOSED:
            future.settle(False)
        if block:
            return future.get(timeout=timeout)
        if timeout is not None:
            future.expire_after(timeout)
        return future

    def drain(self) -> None:
        """Take no more user messages, and stop once those that wait are handled."""
        self._mailbox.drain()

    def _actor_weakref(self) -> A | None:  # type: ignore[override]
        return getattr(self._mailbox, "actor", None)

    def _forbid_waiting(self, block: bool, verb: str) -> None:
        if block and self.is_alive() and self._mailbox.system.driver.in_loop_thread():
            raise WouldBlockLoop(
                f"{verb}(block=True) on the event loop's own thread would wait for ever for"
                f" {self.path}; use block=False and await the future"
            )


class PathRef:
    """Stands for a path: each send goes to the incarnation that lives there at that moment."""

    __slots__ = ("_system", "path")

    def __init__(self, system: ActorSystem, path: str) -> None:
        self._system = system
        self.path = path

    def __repr__(self) -> str:
        return f"<PathRef {self.path}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PathRef):
            return NotImplemented
        return self.path == other.path and self._system is other._system

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def incarnation(self) -> int:
        """The number of the incarnation that lives there, 0 if none does."""
        ref = self.resolve()
        return 0 if ref is None else ref.incarnation

    def resolve(self) -> LoopRef[Any] | None:
        return self._system.resolve(self.path)

    def is_alive(self) -> bool:
        return self.resolve() is not None

    def tell(self, message: Any) -> None:
        """As LoopRef.tell; a dead letter if nobody lives there."""
        ref = self._system.resolve(self.path)
        if ref is None:
            self._system.dead_letters.dead(self.path, message)
        else:
            ref.tell(message)

    def tell_system(self, message: Any) -> None:
        """As LoopRef.tell_system; a dead letter if nobody lives there."""
        ref = self._system.resolve(self.path)
        if ref is None:
            self._system.dead_letters.dead(self.path, message)
        else:
            ref.tell_system(message)

    def offer(self, message: Any) -> Offer:
        """As LoopRef.offer; CLOSED if nobody lives there."""
        ref = self._system.resolve(self.path)
        return Offer.CLOSED if ref is None else ref.offer(message)

    def ask(
        self, message: Any, *, block: bool = True, timeout: float | None = None
    ) -> Any | LoopFuture[Any]:
        """As LoopRef.ask; ``ActorDeadError`` if nobody lives there."""
        ref = self._system.resolve(self.path)
        if ref is not None:
            return ref.ask(message, block=block, timeout=timeout)
        future: LoopFuture[Any] = LoopFuture(self._system.driver)
        future.settle_error(ActorDeadError(f"nobody lives at {self.path}"))
        return future.get() if block else future
