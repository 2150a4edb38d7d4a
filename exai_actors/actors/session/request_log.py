"""Logs the requests of one session: each at debug, failures and fallbacks at info.

An entry never contains a prompt, an answer or a key.
"""

from __future__ import annotations

from typing import Any

import structlog

from exai_actors.actors.log import shown
from exai_actors.core.calls import Outcome
from exai_actors.core.log_budget import LogBudget
from exai_actors.core.observe.request_ends import RequestEnd
from exai_actors.core.routing import Route
from exai_actors.core.session.requests import ActiveRequest
from exai_actors.errors import ErrorBody
from exai_actors.ids import RequestKey, SessionId, TenantName, shown_tenant

log = structlog.get_logger()

QUOTES_THE_REQUEST = frozenset({"rejected", "malformed", "too_large"})
"""Kinds of failures in whose messages a service may quote the prompt."""


class RequestLog:
    """Failures and fallbacks are logged within a budget."""

    __slots__ = ("_budget", "_session", "_tenant")

    def __init__(self, session: SessionId, tenant: TenantName) -> None:
        self._session = shown(session)
        self._tenant = shown_tenant(tenant)
        self._budget = LogBudget()

    def rerouted(self, failed: Route, active: ActiveRequest, error: ErrorBody, now: float) -> None:
        """Log that a request continues at the next target of its route."""
        if self._budget.allow(now):
            log.info(
                "request.rerouted",
                request=active.run.text,
                session=self._session,
                tenant=self._tenant,
                left=f"{failed.provider}/{failed.model}",
                next=f"{active.route.provider}/{active.route.model}",
                cause=_cause(error),
                suppressed=self._budget.take_suppressed(),
            )

    def failed(self, active: ActiveRequest, outcome: Outcome, now: float) -> None:
        """Log that a request ended without an answer."""
        error = outcome.error
        if error is not None and self._budget.allow(now):
            log.info(
                "request.failed",
                request=active.run.text,
                session=self._session,
                tenant=self._tenant,
                model=active.route.model,
                provider=active.route.provider,
                outcome=outcome.kind,
                code=error.code.value,
                cause=_cause(error),
                suppressed=self._budget.take_suppressed(),
            )

    def refused(self, request: RequestKey, error: ErrorBody, now: float) -> None:
        """Log that the session did not take a request in."""
        if self._budget.allow(now):
            log.info(
                "request.refused",
                request=request.text,
                session=self._session,
                tenant=self._tenant,
                code=error.code.value,
                cause=_cause(error),
                suppressed=self._budget.take_suppressed(),
            )


def log_end(end: RequestEnd) -> None:
    """Log a request with its times and tokens, at debug."""
    usage = end.usage
    log.debug(
        "request.ended",
        request=end.request,
        session=end.session,
        tenant=end.tenant,
        model=end.model,
        provider=end.provider,
        outcome=end.outcome,
        waited_s=round(end.waited_s, 3),
        took_s=round(end.waited_s + end.service_s, 3),
        tokens=None
        if usage is None
        else usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
    )


def _cause(error: ErrorBody) -> str:
    details: dict[str, Any] = error.details or {}
    kind = details.get("kind")
    if kind in QUOTES_THE_REQUEST:
        status = details.get("status")
        return f"{kind}" if status is None else f"HTTP {status}, {kind}"
    return " ".join(error.message.split())[:300]
