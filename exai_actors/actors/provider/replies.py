"""The provider's replies to the sessions whose requests share a call."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from exai_actors.actors.provider.call import ProviderCall
from exai_actors.actors.provider.coalescing import Coalescing
from exai_actors.actors.provider.statistics import Counts
from exai_actors.core import error_bodies
from exai_actors.core.calls import Completion, UpstreamFailure
from exai_actors.core.capacity.explain_wait import WaitExplainer
from exai_actors.core.capacity.refusals import Refusal
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.ids import ProviderName
from exai_actors.messages.provider import RunCall
from exai_actors.messages.session import Completed, Enqueued, Failed, Granted, Queued, Refused


class ProviderReplies:
    """A reply that ends a call also closes it to requests that would join."""

    __slots__ = ("_coalescing", "_counts", "_figures", "_name")

    def __init__(
        self, name: ProviderName, counts: Counts, figures: CallFigures, coalescing: Coalescing
    ) -> None:
        self._name = name
        self._counts = counts
        self._figures = figures
        self._coalescing = coalescing

    def enqueued(self, run: RunCall) -> None:
        if run.options.reports_progress:
            run.reply_to.tell(Enqueued(run.request))

    def granted(self, run: RunCall) -> None:
        if run.options.reports_progress:
            run.reply_to.tell(Granted(run.request))

    def positions(
        self, due: Iterable[tuple[int, float | None, ProviderCall]], explainer: WaitExplainer
    ) -> None:
        """Report positions from 1, estimated waits in seconds, and the reasons."""
        for position, estimate_s, call in due:
            reason = None
            for run in call.runs:
                if run.options.reports_progress:
                    reason = reason or replace(explainer.reason(call), provider=self._name)
                    run.reply_to.tell(Queued(run.request, position, estimate_s, reason))

    def completed(self, call: ProviderCall, completion: Completion) -> None:
        if self._coalescing.enabled:
            self._coalescing.close(call)
        for run in call.runs:
            run.reply_to.tell(Completed(run.request, completion, call.granted_at, call.attempts))

    def failed(
        self, call: ProviderCall, failure: UpstreamFailure, *, would_wait: bool = False
    ) -> None:
        self._coalescing.close(call)
        for run in call.runs:
            run.reply_to.tell(
                Failed(run.request, failure, would_wait, call.granted_at, call.attempts)
            )

    def refused(self, call: ProviderCall, refusal: Refusal, now: float) -> None:
        self._coalescing.close(call)
        error = error_bodies.provider_refused(self._name, refusal, now)
        for run in call.runs:
            self._counts.refused += 1
            self._figures.refusals[refusal.cause.value] += 1
            run.reply_to.tell(
                Refused(run.request, error, refusal.reason, refusal.would_wait, call.attempts)
            )

    def refused_as_poison(self, run: RunCall) -> None:
        """Refuse a call that two actors have failed with."""
        self._counts.refused += 1
        self._figures.refusals["poison"] += 1
        run.reply_to.tell(
            Refused(run.request, error_bodies.poison(self._name), "", would_wait=False)
        )

    def dropped(self, call: ProviderCall) -> None:
        """End a call without a reply: its sessions have ended its requests themselves."""
        self._coalescing.close(call)
