"""How requests end: the facts of one, and the counts of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from exai_actors.core.calls import Outcome, OutcomeKind, Usage
from exai_actors.core.routing import Route
from exai_actors.core.trace_context import TraceContext
from exai_actors.errors import ErrorCode
from exai_actors.ids import TenantName

MAX_SERIES = 1_000
OTHER = "other"
"""The model of requests for which no more series are kept."""


class RequestEnd(msgspec.Struct, frozen=True, gc=False):
    """A request that has its outcome.

    ``session`` is the beginning of its name. ``provider`` and ``model`` are those of its last
    target, empty if it had none; the ``model`` of a local tool is its name. ``code`` is that of the
    error, empty if it has none.
    ``attempts`` counts the calls that were started for it at all targets. ``waited_s`` is the time
    until the last of them began, or all of its time if none runs; ``service_s`` is the rest.
    ``api`` is the family of one over HTTP, or ``mcp``.
    """

    request: str
    session: str
    tenant: str
    provider: str
    model: str
    outcome: OutcomeKind
    code: str
    waited_s: float
    service_s: float
    attempts: int
    usage: Usage | None = None
    api: str = ""


class RequestSpan(Protocol):
    """The trace of one request from its arrival to its outcome."""

    @property
    def context(self) -> TraceContext | None:
        """The context for the service."""

    def ended(self, end: RequestEnd) -> None: ...


class Tracer(Protocol):
    """Begins spans; ``parent`` is the client's context, if it sent one."""

    def began(self, parent: TraceContext | None) -> RequestSpan: ...


@dataclass(slots=True)
class Tally:
    """The requests of one series and their LLM tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


Series = tuple[TenantName, str, str, OutcomeKind, ErrorCode | None]
"""Tenant, provider, model, kind of outcome, and the code of the error."""


class RequestFigures:
    """Counts requests by tenant, provider, model and end.

    Beyond MAX_SERIES, further models are counted as OTHER; names that have a series keep it.
    """

    __slots__ = ("series",)

    def __init__(self) -> None:
        self.series: dict[Series, Tally] = {}

    def ended(self, tenant: TenantName, route: Route, outcome: Outcome) -> None:
        """Count a request that had a route."""
        result, error = outcome.result, outcome.error
        code = None if error is None else error.code
        tally = self.tally((tenant, route.provider, route.model, outcome.kind, code))
        tally.requests += 1
        usage = None if result is None else result.usage
        if usage is not None:
            tally.prompt_tokens += usage.prompt_tokens
            tally.completion_tokens += usage.completion_tokens

    def unrouted(
        self, tenant: TenantName, kind: OutcomeKind, code: ErrorCode | None, tool: str = ""
    ) -> None:
        """Count a request that had no route: an early end, or a local tool."""
        self.tally((tenant, "", tool, kind, code)).requests += 1

    def tally(self, series: Series) -> Tally:
        """The tally of a series, which stays the same object."""
        if (found := self.series.get(series)) is not None:
            return found
        tenant, provider, model, kind, code = series
        if model and len(self.series) >= MAX_SERIES:
            model = OTHER
        return self.series.setdefault((tenant, provider, model, kind, code), Tally())
