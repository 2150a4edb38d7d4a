"""The result of an ask: threads wait for it, tasks await it, and neither can stall the loop.

``pykka.ThreadingFuture`` blocks the event loop when awaited and gives every reader the same
exception object. Deriving (``map``, ``filter``, ``join``, ``reduce``) is pykka's own: lazy, the
function runs in the reader once its inputs are there.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, TypeVar, cast

from pykka import ActorDeadError, Future, Timeout

from exai_actors.runtime.kernel.driver import Driver
from exai_actors.runtime.kernel.errors import RuntimeFault
from exai_actors.runtime.pykka_api.copied_error import copy_error

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

log = logging.getLogger("exai_actors.runtime")

# Settling takes well under a microsecond, so one lock for all futures is never waited for. It is
# re-entrant because a garbage collection inside may run a finalizer that settles another future.
_settling = threading.RLock()

_CLOSED_LOOP_POLL_S = 1.0
_LOOP_CLOSED = "the event loop was closed before the reply"


class WouldBlockLoop(RuntimeFault):
    """Waiting for a result on the event loop's own thread: the result could never come."""


class LoopFuture(Future[T]):
    """A pykka future that can be awaited; settled exactly once, from any thread."""

    def __init__(self, driver: Driver | None = None) -> None:
        super().__init__()
        self._driver = driver
        self._settled = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[LoopFuture[T]], object]] = []
        self._sources: tuple[Future[Any], ...] = ()
        """The futures that this one is derived from."""

    def __repr__(self) -> str:
        return f"<LoopFuture {'done' if self.done() else 'pending'}>"

    def done(self) -> bool:
        """Return whether the value or error is there; False while a get hook has to compute it."""
        return self._settled

    def get(self, *, timeout: float | None = None) -> T:
        """Return the value or raise a copy of the error, waiting for it if need be.

        Raises ``pykka.Timeout`` after ``timeout`` seconds, ``WouldBlockLoop`` immediately on the
        loop's own thread, and ``ActorDeadError`` if the loop was closed without settling this.
        """
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._settled:
            self._wait(timeout)
        if self._error is not None:
            raise copy_error(self._error)
        return cast("T", self._value)

    def set(self, value: T | None = None) -> None:
        """Settle with a value; ``queue.Full`` if settled already, as in pykka."""
        if self._get_hook is not None or not self.settle(value):
            raise queue.Full

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Settle with an error, by default the one being handled; ``queue.Full`` as in ``set``."""
        kind, error, traceback = sys.exc_info() if exc_info is None else exc_info
        if error is None:
            if kind is None:
                raise ValueError("there is no exception to set")
            error = kind()
        if traceback is not None and error.__traceback__ is not traceback:
            error = error.with_traceback(traceback)
        if self._get_hook is not None or not self.settle_error(error):
            raise queue.Full

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Compute the value with ``func(timeout)`` in the first ``get()``, as in pykka."""
        if self._settled:
            raise queue.Full
        super().set_get_hook(func)

    def settle(self, value: Any) -> bool:
        """Settle with a value unless settled; return whether this call did it."""
        return self._settle(value, None)

    def settle_error(self, error: BaseException) -> bool:
        """Settle with an error unless settled; return whether this call did it."""
        return self._settle(None, error)

    def settle_dead(self, reason: str) -> bool:
        """Settle with ``ActorDeadError`` unless settled; return whether this call did it."""
        return self._settle(None, ActorDeadError(reason))

    def add_done_callback(self, callback: Callable[[LoopFuture[T]], object]) -> None:
        """Call back once settled, on the thread that settles; immediately if it is settled."""
        with _settling:
            if not self._settled:
                self._callbacks.append(callback)
                return
        callback(self)

    def remove_done_callback(self, callback: Callable[[LoopFuture[T]], object]) -> None:
        """Forget a callback; harmless if it was called or never added."""
        with _settling:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def expire_after(self, timeout_s: float) -> None:
        """Settle with ``pykka.Timeout`` unless something else does within ``timeout_s``."""
        driver = self._driver
        assert driver is not None, "only the future of an actor system has a clock to expire by"

        def arm() -> None:
            timer = driver.call_later(
                timeout_s, lambda: self.settle_error(Timeout(f"{timeout_s} seconds"))
            )
            self.add_done_callback(lambda _: timer.cancel())

        if driver.in_loop_thread():
            arm()
            return
        try:
            driver.call_soon_threadsafe(arm)
        except RuntimeError:
            if not driver.closed():
                raise
            self.settle_dead(_LOOP_CLOSED)

    def map(self, func: Callable[[T], M]) -> Future[M]:
        return _derived(super().map(func), self)

    def filter(self: Future[Iterable[J]], func: Callable[[J], bool]) -> Future[Iterable[J]]:
        return _derived(Future.filter(self, func), self)

    def reduce(self: Future[Iterable[J]], func: Callable[[R, J], R], *args: R) -> Future[R]:
        return _derived(Future.reduce(self, func, *args), self)

    def join(self: Future[Any], *futures: Future[Any]) -> Future[Iterable[Any]]:
        return _derived(Future.join(self, *futures), self, *futures)

    def __await__(self) -> Generator[Any, None, T]:
        leaves = self._leaves()
        if leaves is None:
            # A future of another kind may wait, so that is left to a thread.
            loop = asyncio.get_running_loop()
            return (yield from loop.run_in_executor(None, self.get).__await__())
        for leaf in leaves:
            yield from leaf._until_settled()
        return self.get()

    __iter__ = __await__

    def _settle(self, value: Any, error: BaseException | None) -> bool:
        with _settling:
            if self._settled:
                return False
            self._value = value
            self._error = error
            self._settled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except KeyboardInterrupt:
                raise
            except BaseException as raised:
                log.error("future.callback_failed", exc_info=raised)
        return True

    def _wait(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0.0:
            raise Timeout(f"{timeout} seconds")
        driver = self._driver
        if driver is not None and driver.in_loop_thread():
            raise WouldBlockLoop(
                "get() on the event loop's own thread would wait forever;"
                " await the future, or let the reply come as a message"
            )
        settled = threading.Event()

        def wake(_: LoopFuture[T]) -> None:
            settled.set()

        self.add_done_callback(wake)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if driver is not None and driver.closed():
                self.settle_dead(_LOOP_CLOSED)
            left = _CLOSED_LOOP_POLL_S if deadline is None else deadline - time.monotonic()
            if settled.wait(min(left, _CLOSED_LOOP_POLL_S)):
                return
            if deadline is not None and time.monotonic() >= deadline:
                self.remove_done_callback(wake)
                if not self._settled:
                    raise Timeout(f"{timeout} seconds")
                return

    def _leaves(self) -> list[LoopFuture[Any]] | None:
        """The futures that must be settled before ``get()`` returns; None if unknown."""
        if self._get_hook is None:
            return [self]
        leaves: list[LoopFuture[Any]] = []
        for source in self._sources:
            found = source._leaves() if isinstance(source, LoopFuture) else None
            if found is None:
                return None
            leaves += found
        return leaves or None

    def _until_settled(self) -> Generator[Any, None, None]:
        if self._settled:
            return
        loop = asyncio.get_running_loop()
        thread = threading.get_ident()
        waiter: asyncio.Future[None] = loop.create_future()

        def release() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def wake(_: LoopFuture[T]) -> None:
            if threading.get_ident() == thread:
                release()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(release)

        self.add_done_callback(wake)
        try:
            yield from waiter.__await__()
        finally:
            self.remove_done_callback(wake)


def _derived(future: Future[M], *sources: Future[Any]) -> Future[M]:
    cast("LoopFuture[M]", future)._sources = sources
    return future
