"""Writes down what has changed in a provider's account."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import structlog

from exai_actors.core.capacity.account import Account
from exai_actors.ids import ProviderName

log = structlog.get_logger()

MAX_LOGGED_VIOLATIONS = 20


def log_faults(provider: ProviderName, faults: Iterable[str]) -> int:
    """Promises that the broker found broken in itself; the number of those that are told."""
    told = 0
    for fault in islice(faults, MAX_LOGGED_VIOLATIONS):
        told += 1
        log.error("provider.invariant_violated", provider=provider, violation=fault)
    return told


def log_changes(account: Account, provider: ProviderName) -> None:
    """Each change once, with its cause."""
    while account.unlogged:
        event = account.unlogged.popleft()
        log.warning(
            "provider.capacity_changed", provider=provider, change=event.what, cause=event.cause
        )
