"""The settings of the synthetic provider, as plain values. Times are seconds."""

from __future__ import annotations

import msgspec


class SyntheticSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of the built-in provider: the first piece of one comes after ``delay_ms``, the
    rest at ``tokens_per_second`` (0: immediately), by default slowly enough to be watched.
    ``tokens`` 0 leaves the length to the answer. A fraction ``failure_rate`` of calls fails.
    """

    delay_ms: float = 0.0
    tokens: int = 0
    tokens_per_second: float = 20.0
    failure_rate: float = 0.0
    seed: int = 0
