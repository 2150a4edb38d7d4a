"""Logs the changes of a provider's account, and its invariant violations."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import structlog

from exai_actors.core.capacity.account import Account
from exai_actors.ids import ProviderName

log = structlog.get_logger()

MAX_LOGGED_VIOLATIONS = 20


def log_violations(provider: ProviderName, violations: Iterable[str]) -> int:
    """Log violated invariants, at most MAX_LOGGED_VIOLATIONS; return how many were logged."""
    logged = 0
    for violation in islice(violations, MAX_LOGGED_VIOLATIONS):
        logged += 1
        log.error("provider.invariant_violated", provider=provider, violation=violation)
    return logged


def log_changes(account: Account, provider: ProviderName) -> None:
    """Log each change that is not in the log yet, with its cause."""
    while account.unlogged:
        event = account.unlogged.popleft()
        log.warning(
            "provider.capacity_changed", provider=provider, change=event.what, cause=event.cause
        )
