"""What a provider tells the sessions that wait for its calls."""

from __future__ import annotations

from collections.abc import Iterable

from exai_actors.actors.provider.request import Asked, SharedCalls
from exai_actors.actors.provider.statistics import Counts
from exai_actors.core import error_bodies
from exai_actors.core.calls import UpstreamFailure
from exai_actors.core.capacity.jobs import Refusal
from exai_actors.ids import ProviderName
from exai_actors.messages.session import Failed, Queued, Refused


class ProviderAnswers:
    """Tells all who share a call; whoever ends one closes it for those who would join."""

    __slots__ = ("_counts", "_name", "_shared")

    def __init__(self, name: ProviderName, counts: Counts, shared: SharedCalls | None) -> None:
        self._name = name
        self._counts = counts
        self._shared = shared

    def failed(self, asked: Asked, failure: UpstreamFailure) -> None:
        self.close(asked)
        for each in asked.wants:
            each.reply_to.tell(Failed(each.request, failure))

    def refused(self, asked: Asked, refusal: Refusal) -> None:
        self.close(asked)
        error = error_bodies.provider_refused(self._name, refusal)
        for each in asked.wants:
            self._counts.refused += 1
            each.reply_to.tell(Refused(each.request, error, refusal.reason))

    def shut_out(self, refused: Iterable[tuple[Asked, Refusal]]) -> None:
        for asked, refusal in refused:
            self.refused(asked, refusal)

    def places(self, due: Iterable[tuple[int, float | None, Asked]]) -> None:
        """Tell those who want to know their position from 1 and their estimated wait."""
        for position, estimate_s, asked in due:
            for want in asked.wants:
                if want.reports_progress:
                    want.reply_to.tell(Queued(want.request, position, estimate_s))

    def close(self, asked: Asked) -> None:
        """Nobody joins this call any more."""
        if self._shared is not None:
            self._shared.close(asked)
