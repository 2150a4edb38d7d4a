"""The settings of a provider, as plain values."""

from __future__ import annotations

from math import inf

import msgspec

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.core.pieces import STALL_TIMEOUT_S


class ProviderSettings(msgspec.Struct, frozen=True):
    """The behaviour of one provider; times are in seconds.

    Without ``models`` the service is asked for them. ``longest_call_s`` is the longest time that a
    call can take, however it ends. ``stall_timeout_s`` is how long a call may be paused, in all,
    because its reader is far behind.
    """

    name: str
    kind: str
    models: tuple[str, ...]
    capacity: CapacitySettings
    progress_interval_s: float = ConnectionSettings().progress_interval_s
    models_retry_s: float = 2.0
    models_refresh_s: float = 300.0
    longest_call_s: float = inf
    stall_timeout_s: float = STALL_TIMEOUT_S
