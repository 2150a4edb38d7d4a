"""The tools that a session answers itself, and the events that ``activity`` lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from exai_actors.actors.log import shown
from exai_actors.core import error_bodies
from exai_actors.core.calls import Outcome, OutcomeKind
from exai_actors.core.relay import RelayRequest
from exai_actors.core.statistics import TenantStatistics
from exai_actors.core.tools.local import Event, answer, usage
from exai_actors.core.tools.table import LocalRequest
from exai_actors.errors import ErrorBody
from exai_actors.ids import RequestKey, SessionId, TenantName

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.ports import Clock

MAX_EVENTS = 50


class LocalTools:
    """Runs local tools, and remembers the ends of the last MAX_EVENTS requests of the session."""

    __slots__ = ("_clock", "_directory", "_events", "_tenant")

    def __init__(self, directory: Directory, clock: Clock, tenant: TenantName) -> None:
        self._tenant = tenant
        self._directory = directory
        self._clock = clock
        # An empty deque takes 760 bytes, a sixteenth of an idle connection's memory.
        self._events: list[Event] = []

    def note_end(self, request: RequestKey, tool: str, kind: OutcomeKind) -> None:
        """Remember the end of a request."""
        self._events.append((self._clock.wall(), request, tool, kind))
        if len(self._events) > MAX_EVENTS:
            del self._events[0]

    def run(self, request: RequestKey, local: LocalRequest) -> Outcome:
        """Run a tool that needs no provider."""
        directory = self._directory
        statistics = directory.statistics()
        if local.tool in ("status", "health"):
            statistics = replace(statistics, tenants=self._tenants())
        if local.tool == "usage":
            result = usage(self._tenant, directory.board.usage_of(self._tenant), statistics)
        else:
            result = answer(local, directory.routing, statistics, self._events)
        self.note_end(request, local.tool, "completed")
        return Outcome("completed", result)

    def _tenants(self) -> tuple[TenantStatistics, ...]:
        """All tenants, the sessions of this session's own with the beginning of their names."""
        return tuple(
            replace(
                tenant,
                sessions=tuple(
                    replace(each, session=shown(SessionId(each.session)))
                    for each in tenant.sessions
                    if tenant.name == self._tenant
                ),
            )
            for tenant in self._directory.board.tenants()
        )

    def family_not_found(self, request: RelayRequest) -> ErrorBody:
        """The error for a model that no provider of the request's family serves."""
        directory = self._directory
        others = [
            family
            for family, routing in directory.by_family.items()
            if routing.find(request.model) is not None
        ]
        available = {family: table.models() for family, table in directory.by_family.items()}
        return error_bodies.family_not_found(request.family, request.model, available, others)

    def model_not_found(self, model: str | None) -> ErrorBody:
        """The error for a model that no provider serves; names the models that are served.

        Also names the providers that could not be asked for theirs.
        """
        routing = self._directory.routing
        troubles = {
            provider.name: provider.trouble
            for provider in self._directory.statistics().providers
            if provider.trouble is not None
        }
        if model is None and routing.default_model is None and routing.default_provider is not None:
            provider = routing.default_provider
            return error_bodies.default_unknown(provider, troubles.get(provider), routing.models())
        return error_bodies.model_not_found(model, routing.models(), troubles)
