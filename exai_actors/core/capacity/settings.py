"""The configuration of one provider's capacity, as plain values. Times are seconds."""

from __future__ import annotations

from typing import Literal

import msgspec


class GateSettings(msgspec.Struct, frozen=True):
    """The account's limits per minute and per day; None where it has no such limit.

    ``margin_s`` lengthens each window: a call reaches the service some time after its grant, and
    two calls need not take equally long on the way.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    margin_s: float = 0.25


class RetrySettings(msgspec.Struct, frozen=True):
    """When a failed call is retried.

    ``attempts`` counts the first attempt too. ``budget`` bounds the retries, as a fraction of the
    requests of the last ``budget_window_s``; ``reserve`` retries are allowed in any case. The
    delay before retry k is drawn from U(0, min(cap_s, base_s * 2**k)).
    """

    attempts: int = 3
    budget: float = 0.1
    budget_window_s: float = 120.0
    reserve: int = 3
    base_s: float = 0.5
    cap_s: float = 30.0


class CircuitSettings(msgspec.Struct, frozen=True):
    """When a failing service is left alone.

    The circuit opens after ``failures_in_a_row``, or when ``failure_rate`` of at least ``calls``
    within ``window_s`` have failed, for min(open_cap_s, open_s * 2**n), and then lets ``probes``
    calls pass at a time.
    """

    failures_in_a_row: int = 5
    failure_rate: float = 0.5
    calls: int = 20
    window_s: float = 10.0
    open_s: float = 5.0
    open_cap_s: float = 60.0
    probes: int = 1


class CapacitySettings(msgspec.Struct, frozen=True):
    """One provider's capacity.

    ``model_limits`` are the limits of single models, apart from ``limit``, which the other models
    share. A waiting session without a grant for ``max_wait_s`` is served first. ``on_disconnect``
    decides about a call whose client has gone. ``quarantine_s`` is the abort rest: how long the
    permit of a call that was cut off stays neither held nor free; "auto" follows the time that the
    service takes to notice. While the service wants no calls, one is tried every ``hold_probe_s``.
    """

    limit: int
    queue: int = 1000
    session_queue: int = 1000
    model_limits: tuple[tuple[str, int], ...] = ()
    gates: GateSettings = GateSettings()
    weights: tuple[tuple[str, float], ...] = ()
    max_wait_s: float = 30.0
    retry: RetrySettings = RetrySettings()
    circuit: CircuitSettings = CircuitSettings()
    adaptive: bool = False
    on_disconnect: Literal["abort", "finish"] = "abort"
    quarantine_s: float | Literal["auto"] = "auto"
    hold_probe_s: float = 900.0
    coalesce: bool = False
