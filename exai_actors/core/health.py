"""Whether the broker is ready for requests, and the reasons if it is not."""

from __future__ import annotations

from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics


def reasons_not_ready(statistics: BrokerStatistics) -> tuple[str, ...]:
    """Empty if new requests can be answered: the broker accepts them and a provider is usable."""
    if statistics.draining:
        return ("the broker is draining",)
    reasons = []
    for provider in statistics.providers:
        reason = unusable_because(provider)
        if reason is None:
            return ()
        reasons.append(f"{provider.name} is {reason}")
    return tuple(reasons)


def unusable_because(provider: ProviderStatistics) -> str | None:
    """Why a provider serves no call at present; None if it does."""
    if provider.mode != "open":
        return provider.mode
    if provider.circuit == "open":
        return "down: its circuit is open"
    if provider.held_for_s > 0:
        return f"held for {provider.held_for_s:.0f} s: {provider.held_because}"
    if not provider.models:
        return f"without models: {provider.trouble or 'its service has not listed them yet'}"
    return None
