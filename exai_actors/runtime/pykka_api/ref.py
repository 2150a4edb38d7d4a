"""References to pykka actors on an event loop."""

from __future__ import annotations

from itertools import count
from typing import Any, Literal, TypeVar, cast, overload

import pykka

from exai_actors.runtime.kernel import path_ref, ref
from exai_actors.runtime.kernel.cell import ActorCell
from exai_actors.runtime.kernel.requests import request, request_stop
from exai_actors.runtime.pykka_api.future import LoopFuture, WouldBlockLoop
from exai_actors.runtime.pykka_api.inbox import Inbox
from exai_actors.runtime.pykka_api.lazy_event import LazyEvent

A = TypeVar("A", bound=pykka.Actor)

_urns = count(1)


class LoopRef(ref.Ref, pykka.ActorRef[A]):
    """A reference to one incarnation of an actor. Every method may be called on any thread."""

    __slots__ = ("actor_stopped", "actor_urn")

    actor_stopped: LazyEvent  # type: ignore[assignment]

    def __init__(self, cell: ActorCell) -> None:
        # Not pykka's own initialiser: it makes a uuid, an Event and a weak reference, 6 µs in all.
        ref.Ref.__init__(self, cell)
        self.actor_urn = f"urn:exai:actor:{next(_urns)}"
        self.actor_stopped = LazyEvent()

    @property
    def actor_class(self) -> type[A]:  # type: ignore[override]
        return self._cell.behaviour_class

    @property
    def actor_inbox(self) -> Inbox:  # type: ignore[override]
        return Inbox(self._cell)

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
        """Put a message in the user lane and get the handler's return value as a reply.

        With ``block=False`` returns a future, to be awaited, or waited for by another thread; with
        a timeout in seconds it fails with ``pykka.Timeout`` by itself. With ``block=True`` waits,
        and raises ``WouldBlockLoop`` on the loop's thread before anything is sent.
        The future's errors: whatever the handler raised, ``ActorDeadError``, ``MailboxFull``.
        """
        self._forbid_waiting(block, "ask")
        future: LoopFuture[Any] = LoopFuture(self._cell.host.driver)
        request(self._cell, message, future)
        return cast("bool | LoopFuture[bool]", _result(future, block, timeout))

    @overload
    def stop(self, *, block: Literal[True], timeout: float | None = None) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> LoopFuture[bool]: ...

    @overload
    def stop(
        self, *, block: bool = True, timeout: float | None = None
    ) -> bool | LoopFuture[bool]: ...

    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | LoopFuture[bool]:
        """End the actor after its present message, before its backlog.

        The result is True once it has ended by this or another stop, False if it had before.
        ``block`` and ``timeout`` as in ``ask``.
        """
        self._forbid_waiting(block, "stop")
        future: LoopFuture[bool] = LoopFuture(self._cell.host.driver)
        request_stop(self._cell, future.settle)
        return cast("bool | LoopFuture[bool]", _result(future, block, timeout))

    def _actor_weakref(self) -> A | None:  # type: ignore[override]
        return getattr(self._cell, "behaviour", None)

    def _forbid_waiting(self, block: bool, verb: str) -> None:
        if block and self.is_alive() and self._cell.host.driver.in_loop_thread():
            raise WouldBlockLoop(
                f"{verb}(block=True) on the event loop's own thread would wait forever for"
                f" {self.path}; use block=False and await the future"
            )


class PathRef(path_ref.PathRef[LoopRef[Any]]):
    """A reference to a path: resolves to the incarnation that is alive there at that moment."""

    __slots__ = ()


def _result(future: LoopFuture[Any], block: bool, timeout: float | None) -> Any:
    if block:
        return future.get(timeout=timeout)
    if timeout is not None:
        future.expire_after(timeout)
    return future
