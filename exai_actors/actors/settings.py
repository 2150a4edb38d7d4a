"""The settings of the actors: the part of the configuration that they use, as plain values."""

from __future__ import annotations

from math import inf
from typing import Literal

import msgspec

from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import DEFAULT_TENANT, TenantName


class SessionSettings(msgspec.Struct, frozen=True):
    """The limits of one session; times are in seconds.

    ``outcome_bytes`` and ``history_bytes`` are sizes in memory; ``request_bytes`` are characters.
    """

    window: int = 8
    conversation_limit: int = 1
    queue: int = 256
    request_bytes: int = 67_108_864
    request_timeout_s: float = 300.0
    outcome_ttl_s: float = 600.0
    outcome_count: int = 256
    outcome_bytes: int = 4_194_304
    history_turns: int = 20
    history_bytes: int = 262_144
    conversations: int = 64
    system_prompt: str = ""
    tenant: TenantName = DEFAULT_TENANT


class ConnectionSettings(msgspec.Struct, frozen=True):
    """The behaviour of one connection; times are in seconds.

    In each ``slow_consumer_s`` a slow consumer must catch up or read ``slow_consumer_bytes``.
    ``stash_limit`` is the number of frames that may precede the answer to hello.
    """

    hello_timeout_s: float = 15.0
    progress_interval_s: float = 8.0
    slow_consumer_s: float = 10.0
    slow_consumer_bytes: int = 262_144
    call_timeout_s: float = SessionSettings().request_timeout_s
    compat_text: bool = True
    envelope: Literal["plain", "ex-ai"] = "plain"
    stash_limit: int = 64


class ProviderSettings(msgspec.Struct, frozen=True):
    """The behaviour of one provider; times are in seconds.

    Without ``models`` the service is asked for them. ``longest_call_s`` is the longest time that a
    call can take, however it ends.
    """

    name: str
    kind: str
    models: tuple[str, ...]
    capacity: CapacitySettings
    progress_interval_s: float = ConnectionSettings().progress_interval_s
    models_retry_s: float = 2.0
    models_refresh_s: float = 300.0
    longest_call_s: float = inf
