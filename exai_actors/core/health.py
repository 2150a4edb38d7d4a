"""Whether the broker is ready for requests, and the reasons if it is not."""

from __future__ import annotations

from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics


def reasons_not_ready(statistics: BrokerStatistics) -> tuple[str, ...]:
    """Empty if new requests can be answered: the broker accepts them and a provider is usable."""
    if statistics.draining:
        return ("the broker is draining",)
    troubles = [trouble_of(provider) for provider in statistics.providers]
    if any(trouble is None for trouble in troubles):
        return ()
    return tuple(trouble for trouble in troubles if trouble is not None)


def trouble_of(provider: ProviderStatistics) -> str | None:
    """The reason why a provider serves no call at present; None if it does."""
    problem = problem_of(provider)
    return None if problem is None else f"{provider.name} is {problem}"


def problem_of(provider: ProviderStatistics) -> str | None:
    """As ``trouble_of``, without the name of the provider."""
    if provider.mode != "open":
        return provider.mode
    if provider.circuit == "open":
        return "down: its circuit is open"
    if provider.held_for_s > 0:
        return f"held for {provider.held_for_s:.0f} s: {provider.held_because}"
    return None
