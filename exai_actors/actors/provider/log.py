"""Logs the changes of a provider's account, unclear refusals, and its invariant violations."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import assert_never

import structlog

from exai_actors.core.calls import UpstreamFailure
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.changes import CapacityEvent
from exai_actors.ids import ProviderName

log = structlog.get_logger()

MAX_LOGGED_VIOLATIONS = 20
UNRECOGNISED_EVERY_S = 60.0


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
        _log_change(account.unlogged.popleft(), provider)


def _log_change(event: CapacityEvent, provider: ProviderName) -> None:
    cause, model = event.cause, event.model or "all"
    match event.kind:
        case "held":
            log.warning(
                "provider.held", provider=provider, model=model, seconds=event.seconds, cause=cause
            )
        case "hold_ended":
            log.info("provider.hold_ended", provider=provider, model=model, cause=cause)
        case "circuit_opened":
            log.warning(
                "provider.circuit_opened", provider=provider, seconds=event.seconds, cause=cause
            )
        case "circuit_closed":
            log.info("provider.circuit_closed", provider=provider, cause=cause)
        case "limit_adapted":
            log.info("provider.limit_adapted", provider=provider, change=event.what, cause=cause)
        case "changed":
            log.warning(
                "provider.capacity_changed", provider=provider, change=event.what, cause=cause
            )
        case _:
            assert_never(event.kind)


class UnrecognisedRefusals:
    """Logs refusals that no rule recognises, at most one a minute for each status."""

    __slots__ = ("_logged_at", "_provider")

    def __init__(self, provider: ProviderName) -> None:
        self._provider = provider
        self._logged_at: dict[int | None, float] = {}

    def note(self, failure: UpstreamFailure, now: float) -> None:
        logged_at = self._logged_at.get(failure.status)
        if logged_at is not None and now - logged_at < UNRECOGNISED_EVERY_S:
            return
        self._logged_at[failure.status] = now
        log.warning(
            "provider.refusal_unrecognised",
            provider=self._provider,
            status=failure.status,
            treated_as=failure.kind.value,
            excerpt=failure.message,
        )
