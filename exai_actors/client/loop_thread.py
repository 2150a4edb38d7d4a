"""An event loop on a thread of its own, for callers that block."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from exai_actors.errors import UsageError

T = TypeVar("T")


class LoopThread:
    """An event loop running on a daemon thread until it is stopped.

    A daemon thread, because an owner that was never closed must not keep the process alive.
    ``last`` is awaited on the loop after everything else.
    """

    def __init__(self, name: str, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._last = last
        # Between the check and the hand-over of a call the loop must not end, or the call would
        # wait for ever.
        self._handing_over = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end and return the result; an interrupt of the caller cancels it."""
        future = self._hand_over(coroutine)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise UsageError(f"{self._thread.name} was closed during the call") from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and wait for the thread. Idempotent."""
        with self._handing_over:
            if not self._stopped:
                self._stopped = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _hand_over(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        name = self._thread.name
        with self._handing_over:
            if threading.current_thread() is self._thread:
                problem = (
                    f"called from {self._thread.name}'s own thread, which would wait for itself"
                )
            elif self._stopped:
                problem = f"{name} is closed"
            else:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise UsageError(problem)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
            runner.run(self._last())
