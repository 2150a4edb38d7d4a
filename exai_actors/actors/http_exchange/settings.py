"""The settings of exchanges over HTTP, as plain values. Times are seconds."""

from __future__ import annotations

import msgspec


class ExchangeSettings(msgspec.Struct, frozen=True):
    """How an exchange waits.

    ``commit_after_s``: the time within which an outcome still has a status of its own; later a
    streaming request gets 200, and a sign of life every ``keepalive_s``. ``pad_json``: so do other
    requests. ``retry_grace_s``: how long a call outlives its client's connection, for the same
    request to join it.
    """

    commit_after_s: float = 10.0
    keepalive_s: float = 10.0
    pad_json: bool = False
    retry_grace_s: float = 2.0
