"""Writes down what has changed in a provider's account."""

from __future__ import annotations

import structlog

from exai_actors.core.account import Account
from exai_actors.ids import ProviderName

log = structlog.get_logger()


def log_fault(provider: ProviderName, fault: str) -> None:
    """A promise that the broker found broken in itself."""
    log.error("a fault in the broker's own account of a provider", provider=provider, fault=fault)


def log_changes(account: Account, provider: ProviderName) -> None:
    """Each change once, with its cause."""
    while account.unlogged:
        event = account.unlogged.popleft()
        log.warning(
            "a provider's capacity changed", provider=provider, what=event.what, cause=event.cause
        )
