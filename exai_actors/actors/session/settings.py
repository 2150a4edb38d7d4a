"""The settings of a session, as plain values."""

from __future__ import annotations

import msgspec

from exai_actors.ids import DEFAULT_TENANT, TenantName


class SessionSettings(msgspec.Struct, frozen=True):
    """The limits of one session; times are in seconds.

    ``outcome_bytes`` and ``history_bytes`` are sizes in memory; ``request_bytes`` are characters.
    """

    window: int = 8
    conversation_limit: int = 1
    queue: int = 256
    request_bytes: int = 67_108_864
    request_timeout_s: float = 900.0
    outcome_ttl_s: float = 600.0
    outcome_count: int = 256
    outcome_bytes: int = 4_194_304
    history_turns: int = 20
    history_bytes: int = 262_144
    conversations: int = 64
    system_prompt: str = ""
    tenant: TenantName = DEFAULT_TENANT
