"""The parts of a broker that a console reads, from their state and without a message to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from exai_actors.core.observe.parts import (
    ConnectionState,
    RequestCounts,
    RequestState,
    SessionState,
)
from exai_actors.core.statistics import BrokerStatistics, TenantStatistics


class SizedStates(Protocol):
    """Many states, read one by one; ``len`` counts them without reading them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[RequestState]: ...


class Parts(Protocol):
    """The parts of one broker at this instant; loop thread only."""

    def statistics(self) -> BrokerStatistics: ...

    def leaving(self, provider: str) -> int: ...

    def counts(self) -> RequestCounts: ...

    def tenants(self) -> Iterable[TenantStatistics]: ...

    def sessions(self) -> Iterable[SessionState]: ...

    def connections(self) -> Iterable[ConnectionState]: ...

    def requests(self) -> SizedStates: ...
