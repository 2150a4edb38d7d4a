"""The statistics of the whole broker, without a message: a stuck actor could not answer one."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from exai_actors.core.statistics import (
    BrokerStatistics,
    ListenerStatistics,
    ProviderStatistics,
    StrangerStatistics,
)
from exai_actors.core.wait_reasons import Waiting
from exai_actors.ids import ProviderName, RequestKey, SessionId

ExplainWait = Callable[[SessionId, RequestKey], Waiting | None]


class StatisticsBoard:
    """Functions that read an actor's statistics; loop thread only.

    A restarted actor replaces the function of its earlier incarnation. ``now`` is in monotonic
    seconds, ``dead_letters`` counts all so far.
    """

    def __init__(
        self, version: str, now: Callable[[], float], dead_letters: Callable[[], int]
    ) -> None:
        self._version = version
        self._now = now
        self._started = now()
        self._dead_letters = dead_letters
        self._providers: dict[ProviderName, Callable[[], ProviderStatistics]] = {}
        self._waits: dict[ProviderName, ExplainWait] = {}
        self._listener: Callable[[], ListenerStatistics] | None = None
        self._strangers: Callable[[], StrangerStatistics] = lambda: StrangerStatistics(0, 0)

    def register_provider(
        self,
        name: ProviderName,
        statistics: Callable[[], ProviderStatistics],
        waiting: ExplainWait,
    ) -> None:
        self._providers[name] = statistics
        self._waits[name] = waiting

    def waiting(
        self, provider: ProviderName, session: SessionId, run: RequestKey
    ) -> Waiting | None:
        """Why a request waits at its provider; None if it does not wait there."""
        explain = self._waits.get(provider)
        return None if explain is None else explain(session, run)

    def close_provider(self, name: ProviderName, trouble: str) -> None:
        """Show the last figures of a provider that is closed, and why it is."""
        try:
            last = self._providers[name]()
        except Exception:  # noqa: BLE001 - whatever the figures of a failed actor raise
            # Its state may be the reason why it failed.
            self._providers.pop(name, None)
            return
        closed = replace(last, mode="closed", trouble=trouble, in_flight=0, queued=0)
        self._providers[name] = lambda: closed

    def register_listener(self, statistics: Callable[[], ListenerStatistics]) -> None:
        self._listener = statistics

    def register_strangers(self, statistics: Callable[[], StrangerStatistics]) -> None:
        self._strangers = statistics

    def statistics(self) -> BrokerStatistics:
        """The statistics at this instant."""
        listener = ListenerStatistics(0, 0, draining=False)
        if self._listener is not None:
            listener = self._listener()
        strangers = self._strangers()
        return BrokerStatistics(
            version=self._version,
            uptime_s=self._now() - self._started,
            connections=listener.connections,
            sessions=listener.sessions,
            draining=listener.draining,
            dead_letters=self._dead_letters(),
            providers=tuple(statistics() for statistics in self._providers.values()),
            refused=listener.refused,
            strangers=strangers.open,
            strangers_displaced=strangers.displaced,
        )
