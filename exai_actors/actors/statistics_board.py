"""Where each actor posts how it can be looked at, because a stuck one could not answer."""

from __future__ import annotations

from collections.abc import Callable

from exai_actors.core.statistics import BrokerStatistics, ListenerStatistics, ProviderStatistics
from exai_actors.ids import ProviderName


class StatisticsBoard:
    """Statistics of the whole broker, read on the loop's thread without a message.

    A restarted actor posts itself anew over its earlier incarnation. ``now`` gives seconds that
    only go forward, ``dead_letters`` the number of messages told to nobody.
    """

    def __init__(
        self, version: str, now: Callable[[], float], dead_letters: Callable[[], int]
    ) -> None:
        self._version = version
        self._now = now
        self._started = now()
        self._dead_letters = dead_letters
        self._providers: dict[ProviderName, Callable[[], ProviderStatistics]] = {}
        self._listener: Callable[[], ListenerStatistics] | None = None

    def post_provider(
        self, name: ProviderName, statistics: Callable[[], ProviderStatistics]
    ) -> None:
        self._providers[name] = statistics

    def post_listener(self, statistics: Callable[[], ListenerStatistics]) -> None:
        self._listener = statistics

    def statistics(self) -> BrokerStatistics:
        listener = ListenerStatistics(0, 0, draining=False)
        if self._listener is not None:
            listener = self._listener()
        return BrokerStatistics(
            version=self._version,
            uptime_s=self._now() - self._started,
            connections=listener.connections,
            sessions=listener.sessions,
            draining=listener.draining,
            dead_letters=self._dead_letters(),
            providers=tuple(statistics() for statistics in self._providers.values()),
        )
