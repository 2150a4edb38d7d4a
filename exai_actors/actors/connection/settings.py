"""The settings of a connection, as plain values."""

from __future__ import annotations

from typing import Literal

import msgspec

from exai_actors.actors.session.settings import SessionSettings


class ConnectionSettings(msgspec.Struct, frozen=True):
    """The behaviour of one connection; times are in seconds.

    In each ``slow_consumer_s`` a slow consumer must catch up or read ``slow_consumer_bytes``.
    ``stash_limit`` is the number of frames that may precede the answer to hello.
    """

    hello_timeout_s: float = 3.0
    progress_interval_s: float = 8.0
    slow_consumer_s: float = 10.0
    slow_consumer_bytes: int = 262_144
    call_timeout_s: float = SessionSettings().request_timeout_s
    compat_text: bool = True
    envelope: Literal["plain", "ex-ai"] = "plain"
    stash_limit: int = 64
