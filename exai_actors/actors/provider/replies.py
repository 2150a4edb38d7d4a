"""What a provider tells the sessions that wait for its calls."""

from __future__ import annotations

from collections.abc import Iterable

from exai_actors.actors.provider.call import ProviderCall, SharedCalls
from exai_actors.actors.provider.statistics import Counts
from exai_actors.core import error_bodies
from exai_actors.core.calls import UpstreamFailure
from exai_actors.core.capacity.scheduled_call import Refusal
from exai_actors.ids import ProviderName
from exai_actors.messages.session import Failed, Queued, Refused


class ProviderReplies:
    """Tells all who share a call; whoever ends one closes it for those who would join."""

    __slots__ = ("_counts", "_name", "_shared")

    def __init__(self, name: ProviderName, counts: Counts, shared: SharedCalls | None) -> None:
        self._name = name
        self._counts = counts
        self._shared = shared

    def failed(self, call_: ProviderCall, failure: UpstreamFailure) -> None:
        self.close(call_)
        for each in call_.wants:
            each.reply_to.tell(Failed(each.request, failure))

    def refused(self, call_: ProviderCall, refusal: Refusal) -> None:
        self.close(call_)
        error = error_bodies.provider_refused(self._name, refusal)
        for each in call_.wants:
            self._counts.refused += 1
            each.reply_to.tell(Refused(each.request, error, refusal.reason))

    def refuse_unservable(self, refused: Iterable[tuple[ProviderCall, Refusal]]) -> None:
        for call_, refusal in refused:
            self.refused(call_, refusal)

    def places(self, due: Iterable[tuple[int, float | None, ProviderCall]]) -> None:
        """Tell those who want to know their position from 1 and their estimated wait."""
        for position, estimate_s, call_ in due:
            for want in call_.wants:
                if want.reports_progress:
                    want.reply_to.tell(Queued(want.request, position, estimate_s))

    def close(self, call_: ProviderCall) -> None:
        """Nobody joins this call any more."""
        if self._shared is not None:
            self._shared.close(call_)
