"""The computer's clocks, as the port that actors read."""

from __future__ import annotations

import time


class SystemClock:
    """``now`` only goes forward; ``wall`` is seconds since the epoch."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
