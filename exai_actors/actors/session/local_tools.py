"""What a session answers without a provider, and the events that it can tell of."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from exai_actors.core import error_bodies
from exai_actors.core.calls import Outcome, OutcomeKind
from exai_actors.core.tools.local import Event, answer
from exai_actors.core.tools.table import LocalRequest
from exai_actors.errors import ErrorBody
from exai_actors.ids import RequestKey

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.ports import Clock

EVENTS_KEPT = 50


class LocalTools:
    """``events`` are the last ends of requests of this session, oldest first."""

    __slots__ = ("_clock", "_directory", "events")

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)

    def run(self, request: RequestKey, local: LocalRequest) -> Outcome:
        """Run a tool that needs no provider."""
        directory = self._directory
        result = answer(local, directory.routing, directory.statistics(), self.events)
        self.events.append((self._clock.wall(), request, local.tool, OutcomeKind.COMPLETED))
        return Outcome(OutcomeKind.COMPLETED, result)

    def model_not_found(self, model: str | None) -> ErrorBody:
        """Nobody serves this model; tells which there are, and who could not be asked."""
        troubles = [
            f"{provider.name}: {provider.trouble}"
            for provider in self._directory.statistics().providers
            if provider.trouble is not None
        ]
        return error_bodies.model_not_found(model, self._directory.routing.models(), troubles)
