"""What is configured of one provider's capacity, as plain values. Times are seconds."""

from __future__ import annotations

from typing import Literal

import msgspec


class GateSettings(msgspec.Struct, frozen=True):
    """What the provider's account allows per time; None where it sets no such limit.

    ``margin_s`` is by how much each window is taken longer than told: a call reaches the provider
    some time after its grant, and two calls need not take equally long on the way.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    margin_s: float = 0.25


class RetrySettings(msgspec.Struct, frozen=True):
    """When a failed call is tried again.

    ``attempts`` counts the first try too. ``budget`` is the share of requests of the last
    ``budget_window_s`` that may be tries again; ``reserve`` so many are allowed in any case.
    The delay before try k is drawn from U(0, min(cap_s, base_s * 2**k)).
    """

    attempts: int = 3
    budget: float = 0.1
    budget_window_s: float = 120.0
    reserve: int = 3
    base_s: float = 0.5
    cap_s: float = 30.0


class CircuitSettings(msgspec.Struct, frozen=True):
    """When a failing provider is left alone.

    It opens after ``failures_in_a_row``, or when ``failure_rate`` of at least ``calls`` within
    ``window_s`` have failed, for min(open_cap_s, open_s * 2**n), and then lets ``probes`` through.
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

    ``model_limits`` are limits of single models, each apart from ``limit``, which the other models
    share. ``max_wait_s`` is after how long without a grant a waiting session goes first.
    ``on_disconnect`` says what becomes of a call whose client is gone. ``quarantine_s`` is how long
    a provider goes on with a call that was aborted: so long its permit is neither held nor free.
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
    quarantine_s: float = 0.0
    coalesce: bool = False
