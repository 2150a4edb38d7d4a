"""The part of the configuration that actors go by, as plain values."""

from __future__ import annotations

from math import inf
from typing import Literal

import msgspec

from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import DEFAULT_TENANT, TenantName


class SessionSettings(msgspec.Struct, frozen=True):
    """Limits of one session; times are seconds, sizes are characters."""

    window: int = 8
    conversation_limit: int = 1
    queue: int = 256
    request_size: int = 67_108_864
    request_timeout_s: float = 300.0
    outcome_ttl_s: float = 600.0
    outcome_count: int = 256
    outcome_size: int = 4_194_304
    history_turns: int = 20
    history_size: int = 262_144
    conversations: int = 64
    system_prompt: str = ""
    tenant: TenantName = DEFAULT_TENANT


class ConnectionSettings(msgspec.Struct, frozen=True):
    """How a connection behaves; Times are seconds.

    In ``slow_consumer_s`` a client that is behind catches up or takes ``slow_consumer_bytes``.
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
    """One provider; no ``models`` means that the upstream is asked for them.

    No call of it takes more than ``longest_call_s``, however it ends.
    """

    name: str
    kind: str
    models: tuple[str, ...]
    capacity: CapacitySettings
    progress_interval_s: float = ConnectionSettings().progress_interval_s
    models_retry_s: float = 2.0
    models_refresh_s: float = 300.0
    longest_call_s: float = inf
