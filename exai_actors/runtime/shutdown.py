"""Stopping a whole actor system: the last started first, each before the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exai_actors.runtime.future import LoopFuture

if TYPE_CHECKING:
    from exai_actors.runtime.system import ActorSystem


def begin(system: ActorSystem, timeout_s: float) -> LoopFuture[tuple[str, ...]]:
    """Begin to stop everybody, on whatever thread; see ``ActorSystem.begin_stop``."""
    driver = system.driver
    stopped: LoopFuture[tuple[str, ...]] = LoopFuture(driver)
    waiting = system.living()

    def stop_newest(_: object = None) -> None:
        while waiting:
            newest = waiting.pop()
            if newest.is_alive():
                newest.stop(block=False).add_done_callback(stop_newest)
                return
        stopped.settle(())

    def start() -> None:
        limit = driver.call_later(timeout_s, lambda: stopped.settle(tuple(system.paths())))
        stopped.add_done_callback(lambda _: limit.cancel())
        stop_newest()

    if driver.in_loop_thread():
        start()
        return stopped
    try:
        driver.call_soon_threadsafe(start)
    except RuntimeError:
        if not driver.closed():
            raise
        system.abandon()
        stopped.settle(())
    return stopped
