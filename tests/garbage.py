"""Finds what reference counting does not free: the daemon runs its collector rarely."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_found_by_the_collector() -> Iterator[list[object]]:
    """Yield a list that ``gc.collect`` fills with the objects in cycles that were made since.

    Older objects are left out: in a long run of tests there are millions, and each collection would
    take seconds.
    """
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.unfreeze()
