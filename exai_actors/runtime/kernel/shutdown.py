"""Stopping a whole actor system: the last started first, each before the next."""

from __future__ import annotations

from collections.abc import Callable

from exai_actors.runtime.kernel.cell import STOPPING, ActorCell
from exai_actors.runtime.kernel.driver import Driver
from exai_actors.runtime.kernel.requests import request_stop


def stop_in_reverse(
    cells: list[ActorCell],
    driver: Driver,
    timeout_s: float,
    living: Callable[[], list[str]],
    done: Callable[[tuple[str, ...]], object],
) -> None:
    """Stop all ``cells``; loop thread only.

    ``done`` is called once: with nothing, or after ``timeout_s`` with the paths still ``living``.
    """
    finished = False

    def finish(alive: list[str]) -> None:
        nonlocal finished
        if not finished:
            finished = True
            limit.cancel()
            done(tuple(alive))

    def stop_newest(_: bool = True) -> None:
        while cells:
            cell = cells.pop()
            if cell.state < STOPPING:
                request_stop(cell, stop_newest)
                return
        finish([])

    limit = driver.call_later(timeout_s, lambda: finish(living()))
    stop_newest()
