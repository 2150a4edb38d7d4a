"""The statistics of the whole broker, without a message: a stuck actor could not answer one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import inf

from msgspec.structs import replace

from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.observe.usage import UsageBook, Used
from exai_actors.core.statistics import (
    BrokerStatistics,
    FlowStatistics,
    ListenerStatistics,
    MemoryStatistics,
    ProviderStatistics,
    StrangerStatistics,
    TenantStatistics,
    tenants_of,
)
from exai_actors.core.wait_reasons import Waiting
from exai_actors.ids import ProviderName, RequestKey, SessionId, TenantName

ExplainWait = Callable[[SessionId, RequestKey], Waiting | None]
Started = Callable[[SessionId, RequestKey], tuple[float, int]]


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
        self.http_requests: Counter[str] = Counter()
        """The requests over HTTP so far, by family."""
        self._started = now()
        self._dead_letters = dead_letters
        self._providers: dict[ProviderName, Callable[[], ProviderStatistics]] = {}
        self._waits: dict[ProviderName, ExplainWait] = {}
        self._flows: dict[ProviderName, Callable[[], tuple[FlowStatistics, ...]]] = {}
        self._queued: dict[ProviderName, Callable[[], int]] = {}
        self._started_at: dict[ProviderName, Started] = {}
        self._figures: dict[ProviderName, CallFigures] = {}
        self._usage: dict[ProviderName, UsageBook] = {}
        self._sessions: dict[SessionId, tuple[TenantName, Callable[[], int]]] = {}
        self._listener: Callable[[], ListenerStatistics] | None = None
        self._strangers: Callable[[], StrangerStatistics] = lambda: StrangerStatistics(0, 0)
        self._memory: Callable[[], MemoryStatistics] = MemoryStatistics

    def register_provider(
        self,
        name: ProviderName,
        statistics: Callable[[], ProviderStatistics],
        waiting: ExplainWait,
        flows: Callable[[], tuple[FlowStatistics, ...]],
        queued: Callable[[], int],
    ) -> None:
        self._providers[name] = statistics
        self._waits[name] = waiting
        self._flows[name] = flows
        self._queued[name] = queued

    @property
    def has_queued(self) -> bool:
        """Whether a request waits at any provider. Costs little, unlike ``statistics``."""
        return any(queued() for queued in self._queued.values())

    def register_calls(
        self, name: ProviderName, figures: CallFigures, started: Started, usage: UsageBook
    ) -> None:
        """Note the figures of a provider's calls, how to find the attempts of one, and the usage of
        its account.
        """
        self._figures[name] = figures
        self._started_at[name] = started
        self._usage[name] = usage

    def usage_of(self, tenant: TenantName) -> Iterator[tuple[ProviderName, str, Used, Used]]:
        """The usage of a tenant in the last hour and the last day, by provider and model."""
        now = self._now()
        for provider, book in self._usage.items():
            models: dict[str, tuple[Used, Used]] = {}
            for (user, _, model), hour, day in book.users(now):
                if user == tenant:
                    sums = models.setdefault(model, (Used(), Used()))
                    sums[0].add(hour)
                    sums[1].add(day)
            for model, (hour, day) in models.items():
                yield provider, model, hour, day

    @property
    def call_figures(self) -> Mapping[ProviderName, CallFigures]:
        """The figures of the calls of each provider's latest incarnation."""
        return self._figures

    def started(
        self, provider: ProviderName, session: SessionId, run: RequestKey
    ) -> tuple[float, int]:
        """When the running attempt of a request got its permit (inf: none runs), and the number of
        its attempts so far.
        """
        find = self._started_at.get(provider)
        return (inf, 0) if find is None else find(session, run)

    def register_session(
        self, session: SessionId, tenant: TenantName, waiting: Callable[[], int]
    ) -> None:
        """Note a session that had to let requests wait, with the number of those that do."""
        self._sessions[session] = (tenant, waiting)

    def forget_session(self, session: SessionId, waiting: Callable[[], int]) -> None:
        """Forget an ended session, but not one of the same name that has begun since."""
        if (session_now := self._sessions.get(session)) and session_now[1] == waiting:
            del self._sessions[session]

    def tenants(self) -> tuple[TenantStatistics, ...]:
        """The requests of each tenant, at all providers and in its sessions."""
        flows = [flow for flows in self._flows.values() for flow in flows()]
        flows += (
            FlowStatistics(tenant, session, 0, waiting())
            for session, (tenant, waiting) in self._sessions.items()
        )
        weights: dict[str, float] = {}
        for statistics in self._providers.values():
            weights = {**statistics().weights, **weights}
        return tenants_of(flows, weights)

    def waiting(
        self, provider: ProviderName, session: SessionId, run: RequestKey
    ) -> Waiting | None:
        """Why a request waits at its provider; None if it does not wait there."""
        explain = self._waits.get(provider)
        return None if explain is None else explain(session, run)

    def close_provider(self, name: ProviderName, trouble: str) -> None:
        """Show the last figures of a provider that is closed, and why it is."""
        self._waits.pop(name, None)
        self._queued.pop(name, None)
        self._started_at.pop(name, None)
        try:
            last = self._providers[name]()
        except Exception:  # noqa: BLE001 - whatever the figures of a failed actor raise
            # Its state may be the reason why it failed.
            self._providers.pop(name, None)
            return
        # Its calls ended with it, and their permits are free again as far as the limit has room.
        over = max(0, last.over - last.in_flight)
        free = last.free + last.in_flight - (last.over - over)
        closed = replace(
            last, mode="closed", trouble=trouble, in_flight=0, queued=0, over=over, free=free
        )
        self._providers[name] = lambda: closed

    def register_listener(self, statistics: Callable[[], ListenerStatistics]) -> None:
        self._listener = statistics

    def register_strangers(self, statistics: Callable[[], StrangerStatistics]) -> None:
        self._strangers = statistics

    def register_memory(self, statistics: Callable[[], MemoryStatistics]) -> None:
        self._memory = statistics

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
            wrong_tokens=listener.wrong_tokens,
            memory=self._memory(),
        )
