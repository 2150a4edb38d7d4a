"""Counts the ends of one session's requests, and reports them to those that observe them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from exai_actors.actors.log import logs_details, shown
from exai_actors.actors.session.request_log import log_end
from exai_actors.core.calls import CallOptions, Outcome
from exai_actors.core.observe.request_ends import RequestEnd, Tally
from exai_actors.core.relay import RelayRequest
from exai_actors.core.routing import Route
from exai_actors.core.session.requests import ActiveRequest
from exai_actors.core.tools.table import ChatRequest, LocalRequest
from exai_actors.core.trace_context import TraceContext
from exai_actors.ids import RequestKey, SessionId, TenantName, shown_tenant
from exai_actors.messages.session import Completed, Failed, Refused

if TYPE_CHECKING:
    from exai_actors.actors.request_board import RequestBoard
    from exai_actors.actors.statistics_board import StatisticsBoard

Reply = Completed | Failed | Refused
"""A provider's last message about a request."""


class RequestEnds:
    """``is_observed`` is false if nothing but the counts on the board is wanted."""

    __slots__ = (
        "_counted_route",
        "_figures",
        "_id",
        "_observers",
        "_shown",
        "_shown_tenant",
        "_statistics",
        "_tally",
        "_tenant",
        "_tracer",
        "board",
        "is_observed",
    )

    def __init__(
        self,
        session: SessionId,
        tenant: TenantName,
        board: RequestBoard,
        statistics: StatisticsBoard,
    ) -> None:
        self._id = session
        self._tenant = tenant
        self._shown = shown(session)
        self._shown_tenant = shown_tenant(tenant)
        self.board = board
        self._figures = board.figures
        # That of the completed requests of the route that one ended last.
        self._tally = Tally()
        self._counted_route: Route | None = None
        self._statistics = statistics
        self._tracer = board.tracer
        self._observers = (*board.observers, *((log_end,) if logs_details() else ()))
        self.is_observed = bool(self._observers or board.tracer)

    def began(self, active: ActiveRequest) -> None:
        """Begin the trace of a request, if requests are traced."""
        if self._tracer is not None:
            active.span = self._tracer.began(active.options.trace)

    def ended(
        self, active: ActiveRequest, outcome: Outcome, now: float, reply: Reply | None
    ) -> None:
        """Count and report an outcome; ``reply`` led to it, None if it was not a provider's."""
        result = outcome.result
        if result is None:
            self._figures.ended(self._tenant, active.route, outcome)
        else:
            route = active.route
            if route is not self._counted_route:
                self._counted_route = route
                series = (self._tenant, route.provider, route.model, outcome.kind, None)
                self._tally = self._figures.tally(series)
            tally = self._tally
            tally.requests += 1
            usage = result.usage
            if usage is not None:
                tally.prompt_tokens += usage.prompt_tokens
                tally.completion_tokens += usage.completion_tokens
        if self.is_observed:
            self._report(active, outcome, now, reply)

    def _report(
        self, active: ActiveRequest, outcome: Outcome, now: float, reply: Reply | None
    ) -> None:
        granted_at, attempts = inf, 0
        match reply:
            case None:
                if active.at_provider:
                    route = active.route
                    granted_at, attempts = self._statistics.started(
                        route.provider, self._id, active.run
                    )
            case Refused():
                attempts = reply.attempts
            case _:
                granted_at, attempts = reply.granted_at, reply.attempts
        began = active.deadline - active.timeout_s
        # It may have joined a call that ran already.
        started_at = max(began, min(granted_at, now))
        result, error = outcome.result, outcome.error
        end = RequestEnd(
            request=active.run.text,
            session=self._shown,
            tenant=self._shown_tenant,
            provider=active.route.provider,
            model=active.route.model if result is None else result.model or active.route.model,
            outcome=outcome.kind,
            code="" if error is None else error.code.value,
            waited_s=started_at - began,
            service_s=now - started_at,
            attempts=active.attempts + attempts,
            usage=None if result is None else result.usage,
            api=api_of(active.arguments, active.options),
        )
        for observe in self._observers:
            observe(end)
        if active.span is not None:
            active.span.ended(end)

    def unrouted(
        self,
        request: RequestKey,
        outcome: Outcome,
        trace: TraceContext | None = None,
        tool: str = "",
        api: str = "",
    ) -> None:
        """Count and report a request that had no route; ``tool`` is the local one that ran,
        ``api`` as in ``RequestEnd``.
        """
        code = None if outcome.error is None else outcome.error.code
        self._figures.unrouted(self._tenant, outcome.kind, code, tool)
        if not self.is_observed:
            return
        end = RequestEnd(
            request=request.text,
            session=self._shown,
            tenant=self._shown_tenant,
            provider="",
            model=tool,
            outcome=outcome.kind,
            code="" if code is None else code.value,
            waited_s=0.0,
            service_s=0.0,
            attempts=0,
            api=api,
        )
        for observe in self._observers:
            observe(end)
        if self._tracer is not None:
            self._tracer.began(trace).ended(end)


def api_of(arguments: ChatRequest | LocalRequest | RelayRequest, options: CallOptions) -> str:
    """The protocol of a request: the family of one that is relayed, or that of its connection."""
    return arguments.family if type(arguments) is RelayRequest else options.api
