"""What every actor may read at any time without asking: immutable values, swapped by their owner.

The broker actor is the only one that assigns here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from exai_actors.core.routing import RoutingTable
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.core.tools import ToolDescription, describe_tools
from exai_actors.ids import ProviderName
from exai_actors.messages.provider import ProviderMessage
from exai_actors.messages.recipient import Recipient


class Directory:
    """The routing table, the tools that follow from it, and the providers' stable references."""

    __slots__ = ("_routing", "providers", "statistics", "tools")

    def __init__(
        self,
        routing: RoutingTable,
        providers: Mapping[ProviderName, Recipient[ProviderMessage]],
        statistics: Callable[[], BrokerStatistics],
    ) -> None:
        self.providers = providers
        self.statistics = statistics
        self.tools: tuple[ToolDescription, ...] = ()
        self.routing = routing

    @property
    def routing(self) -> RoutingTable:
        return self._routing

    @routing.setter
    def routing(self, table: RoutingTable) -> None:
        self._routing = table
        self.tools = describe_tools(table.models())
