"""What every actor may read at any time without asking: immutable values, swapped by their owner.

The broker actor is the only one that assigns here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from exai_actors.core.routing import RoutingTable
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.core.tools.table import ToolDescription, describe_tools
from exai_actors.ids import ProviderName
from exai_actors.runtime import PathRef


class Directory:
    """The routing table, the tools that follow from it, and the providers' stable references.

    ``finish_on_disconnect`` are the providers that finish the calls of clients that are gone.
    """

    __slots__ = ("finish_on_disconnect", "providers", "routing", "statistics", "tools")

    def __init__(
        self,
        routing: RoutingTable,
        providers: Mapping[ProviderName, PathRef],
        statistics: Callable[[], BrokerStatistics],
        finish_on_disconnect: frozenset[ProviderName] = frozenset(),
    ) -> None:
        self.providers = providers
        self.finish_on_disconnect = finish_on_disconnect
        self.statistics = statistics
        self.routing: RoutingTable
        self.tools: tuple[ToolDescription, ...]
        self.publish(routing)

    def publish(self, routing: RoutingTable) -> None:
        """Let a new table be in force, with the tools that follow from it."""
        self.routing = routing
        self.tools = describe_tools(routing.models())
