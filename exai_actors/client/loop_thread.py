"""Runs an event loop on a background thread, for callers that block."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from exai_actors.errors import UsageError

T = TypeVar("T")


class LoopThread:
    """An event loop that runs on a daemon thread until it is stopped.

    A daemon thread, because an owner that is never closed must not keep the process alive. ``last``
    is awaited on the loop before it ends.
    """

    def __init__(self, name: str, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._last = last
        # The loop must not end between the check and the hand-over of a call, which would then
        # never return.
        self._handing_over = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    @property
    def stopped(self) -> bool:
        """Whether the loop was stopped."""
        return self._stopped

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` and return its result. An interrupt of the caller cancels it.

        Raises UsageError on the loop's own thread, and if the loop is stopped.
        """
        # Made before the hand-over, because an interrupt may come at any point after that.
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        try:
            self._hand_over(coroutine, outcome)
            return outcome.result()
        except concurrent.futures.CancelledError:
            raise UsageError(f"{self._thread.name} was closed during the call") from None
        except BaseException:
            outcome.cancel()
            raise

    def stop(self) -> None:
        """End the loop and wait for the thread. Idempotent."""
        with self._handing_over:
            if not self._stopped:
                self._stopped = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _hand_over(
        self, coroutine: Coroutine[Any, Any, T], outcome: concurrent.futures.Future[T]
    ) -> None:
        name = self._thread.name
        with self._handing_over:
            if threading.current_thread() is self._thread:
                problem = f"called from {name}'s own thread, which would wait for itself"
            elif self._stopped:
                problem = f"{name} is closed"
            else:
                self._loop.call_soon_threadsafe(self._start, coroutine, outcome)
                return
        coroutine.close()
        raise UsageError(problem)

    def _start(
        self, coroutine: Coroutine[Any, Any, T], outcome: concurrent.futures.Future[T]
    ) -> None:
        task = self._loop.create_task(coroutine)
        task.add_done_callback(functools.partial(_settle, outcome))
        outcome.add_done_callback(lambda _: self._cancel(task))

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        # Called at every end of the outcome. The task is done unless the outcome was cancelled.
        if not task.done():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(task.cancel)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
            runner.run(self._last())


def _settle(outcome: concurrent.futures.Future[T], task: asyncio.Task[T]) -> None:
    error = None if task.cancelled() else task.exception()
    if task.cancelled():
        outcome.cancel()
    elif not outcome.set_running_or_notify_cancel():
        return
    elif error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())
