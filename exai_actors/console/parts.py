"""The parts of a broker that a console reads, from their state and without a message to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.observe.parts import (
    ConnectionState,
    RequestCounts,
    RequestState,
    SessionState,
    UsageState,
)
from exai_actors.core.statistics import BrokerStatistics, TenantStatistics
from exai_actors.ids import ProviderName, SessionId, TenantName

S_co = TypeVar("S_co", covariant=True)


class SizedStates(Protocol[S_co]):
    """Many states, read one by one; ``len`` counts them without reading them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[S_co]: ...


class Parts(Protocol):
    """The parts of one broker at this instant; loop thread only."""

    def statistics(self) -> BrokerStatistics: ...

    def leaving(self, provider: str) -> int: ...

    def counts(self) -> RequestCounts: ...

    def tenants(self) -> Iterable[TenantStatistics]: ...

    def sessions(self) -> SizedStates[SessionState]: ...

    def connections(self) -> SizedStates[ConnectionState]: ...

    def requests(self) -> SizedStates[RequestState]: ...

    def usage(self) -> Iterable[UsageState]: ...

    def recent_tokens(self) -> Mapping[TenantName, int]:
        """The tokens that each tenant has had of all providers in the last minutes."""

    def call_figures(self) -> Mapping[ProviderName, CallFigures]: ...

    def why(self, of: str) -> dict[str, Any]:
        """Why a request waits. Raises LookupError, with the reason, if ``of`` names none."""

    def timeline(self, of: str) -> dict[str, Any]:
        """The way of a request so far. Raises LookupError, with the reason, if there is none."""

    def session(self, number: str) -> SessionState | None: ...

    def has_begun(self, number: str) -> bool:
        """Whether the session has an actor, which it has from its first call on."""

    def session_weight(self, number: str) -> tuple[SessionId, float] | None:
        """The id of a session, and its weight among those of its tenant."""

    def connection(self, connection: str) -> ConnectionState | None: ...

    def request(self, key: str) -> RequestState | None: ...

    def request_name(self, key: str) -> tuple[str, str, str] | None:
        """The text, the namespace and the session by which messages name a request."""
