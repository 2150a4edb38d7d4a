"""The result of an ask: waited for by threads, awaited by tasks, and never a way to stall the loop.

pykka's ``ThreadingFuture`` blocks the event loop when awaited and hands every reader the same
exception object. Deriving (``map``, ``filter``, ``join``, ``reduce``) stays lazy as in pykka: the
function runs in the reader, once its inputs are there.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, TypeVar, cast

from pykka import ActorDeadError, Future, Timeout

from exai_actors.runtime.copied_error import fresh
from exai_actors.runtime.driver import Driver
from exai_actors.runtime.errors import WouldBlockLoop

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

logger = logging.getLogger(__name__)

# Settling takes well under a microsecond, so one lock for all futures is never waited for. It is
# re-entrant because a garbage collection inside may run a finalizer that settles another future.
_settling = threading.RLock()

_CLOSED_LOOP_POLL_S = 1.0


class LoopFuture(Future[T]):
    """A pykka future that can be awaited; settled exactly once, from any thread."""

    _get_hook: Callable[[float | None], T] | None

    def __init__(self, driver: Driver | None = None) -> None:
        # pykka's own initialiser allocates a marker per future; these are all the fields it sets
        # that any inherited method reads.
        self._get_hook = None
        self._driver = driver
        self._settled = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[LoopFuture[T]], object]] | None = None
        self._parents: tuple[LoopFuture[Any], ...] = ()

    def __repr__(self) -> str:
        return f"<LoopFuture {'done' if self.done() else 'pending'}>"

    def done(self) -> bool:
        """Say whether ``get()`` would return or raise at once."""
        if self._get_hook is None or self._settled:
            return self._settled
        return bool(self._parents) and all(parent.done() for parent in self._parents)

    def get(self, *, timeout: float | None = None) -> T:
        """Return the value or raise a copy of the error, waiting for it if need be.

        Raises ``pykka.Timeout`` after ``timeout`` seconds, ``WouldBlockLoop`` at once on the loop's
        own thread, ``ActorDeadError`` if the loop was closed without settling this.
        """
        if not self._settled:
            if self._get_hook is not None:
                return self._compute(self._get_hook, timeout)
            self._wait(timeout)
        return self._result()

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
        self._get_hook = func

    def settle(self, value: Any) -> bool:
        """Settle with a value unless settled; say whether this call did it."""
        return self._settle(value, None)

    def settle_error(self, error: BaseException) -> bool:
        """Settle with an error unless settled; say whether this call did it."""
        return self._settle(None, error)

    def add_done_callback(self, callback: Callable[[LoopFuture[T]], object]) -> None:
        """Call back once settled, on the thread that settles; at once if it is settled."""
        if self._get_hook is not None:
            self._watch_parents(callback)
            return
        with _settling:
            if not self._settled:
                if self._callbacks is None:
                    self._callbacks = [callback]
                else:
                    self._callbacks.append(callback)
                return
        callback(self)

    def remove_done_callback(self, callback: Callable[[LoopFuture[T]], object]) -> None:
        """Forget a callback; harmless if it was called or never added."""
        with _settling:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)

    def expire_after(self, timeout_s: float) -> None:
        """Settle with ``pykka.Timeout`` unless something else does within ``timeout_s``."""
        driver = self._driver
        if driver is None:
            raise ValueError("a future without an actor system has no clock to expire by")

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
            self.settle_error(_loop_closed())

    def map(self, func: Callable[[T], M]) -> Future[M]:
        return self._derive((self,), lambda timeout: func(self.get(timeout=timeout)))

    def filter(self: Future[Iterable[J]], func: Callable[[J], bool]) -> Future[Iterable[J]]:
        me = cast("LoopFuture[Iterable[J]]", self)
        return me._derive((me,), lambda timeout: list(filter(func, me.get(timeout=timeout))))

    def reduce(self: Future[Iterable[J]], func: Callable[[R, J], R], *args: R) -> Future[R]:
        me = cast("LoopFuture[Iterable[J]]", self)
        return me._derive(
            (me,),
            lambda timeout: functools.reduce(func, me.get(timeout=timeout), *args),
        )

    def join(self: Future[Any], *futures: Future[Any]) -> Future[Iterable[Any]]:
        me = cast("LoopFuture[Any]", self)
        return me._derive(
            (me, *futures),
            lambda timeout: [future.get(timeout=timeout) for future in (me, *futures)],
        )

    def __await__(self) -> Generator[Any, None, T]:
        if not self._settled and self._get_hook is not None:
            if not self._parents:
                # A hook we know nothing about may wait, so it waits on a thread of its own.
                loop = asyncio.get_running_loop()
                return (yield from loop.run_in_executor(None, self.get).__await__())
            for parent in self._parents:
                yield from parent._until_done()
            return self.get()
        yield from self._until_done()
        return self._result()

    __iter__ = __await__

    def _settle(self, value: Any, error: BaseException | None) -> bool:
        with _settling:
            if self._settled:
                return False
            self._value = value
            self._error = error
            self._settled = True
            callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                try:
                    callback(self)
                except KeyboardInterrupt:
                    raise
                except BaseException:
                    logger.exception("a callback of a future raised")
        return True

    def _result(self) -> T:
        if self._error is not None:
            raise fresh(self._error)
        return cast("T", self._value)

    def _compute(self, hook: Callable[[float | None], T], timeout: float | None) -> T:
        value = hook(timeout)
        self._settle(value, None)
        return cast("T", self._value)

    def _wait(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0.0:
            raise Timeout(f"{timeout} seconds")
        driver = self._driver
        if driver is not None and driver.in_loop_thread():
            raise WouldBlockLoop(
                "get() on the event loop's own thread would wait for ever;"
                " await the future, or let the reply come as a message"
            )
        settled = threading.Event()

        def wake(_: LoopFuture[T]) -> None:
            settled.set()

        self.add_done_callback(wake)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if driver is not None and driver.closed():
                self.settle_error(_loop_closed())
            left = _CLOSED_LOOP_POLL_S if deadline is None else deadline - time.monotonic()
            if settled.wait(min(left, _CLOSED_LOOP_POLL_S)):
                return
            if deadline is not None and time.monotonic() >= deadline:
                self.remove_done_callback(wake)
                if not self._settled:
                    raise Timeout(f"{timeout} seconds")

    def _until_done(self) -> Generator[Any, None, None]:
        if self.done():
            return
        loop = asyncio.get_running_loop()
        thread = threading.get_ident()
        settled: asyncio.Future[None] = loop.create_future()

        def release() -> None:
            if not settled.done():
                settled.set_result(None)

        def wake(_: LoopFuture[T]) -> None:
            if threading.get_ident() == thread:
                release()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(release)

        self.add_done_callback(wake)
        try:
            yield from settled.__await__()
        finally:
            self.remove_done_callback(wake)

    def _derive(
        self, inputs: tuple[Future[Any], ...], compute: Callable[[float | None], M]
    ) -> LoopFuture[M]:
        child: LoopFuture[M] = LoopFuture(self._driver)
        child._get_hook = compute
        if all(isinstance(each, LoopFuture) and each._can_tell_when_done() for each in inputs):
            child._parents = cast("tuple[LoopFuture[Any], ...]", inputs)
        return child

    def _can_tell_when_done(self) -> bool:
        return self._get_hook is None or bool(self._parents)

    def _watch_parents(self, callback: Callable[[LoopFuture[T]], object]) -> None:
        if not self._can_tell_when_done():
            raise TypeError("a future with a foreign get hook cannot tell when it is done")
        missing = list(self._parents)

        def one_done(parent: LoopFuture[Any]) -> None:
            with _settling:
                missing.remove(parent)
                last = not missing
            if last:
                callback(self)

        for parent in self._parents:
            parent.add_done_callback(one_done)


def _loop_closed() -> ActorDeadError:
    return ActorDeadError("the event loop was closed before the reply")
