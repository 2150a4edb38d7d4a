"""Values that every actor reads without a message. They are immutable; the broker replaces them."""

from __future__ import annotations

from collections.abc import Mapping

from exai_actors.actors.awaited_providers import AwaitedProviders
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.routing import RoutingTable
from exai_actors.core.tools.table import ToolDescription, describe_tools
from exai_actors.ids import ProviderName
from exai_actors.runtime import PathRef


class Directory:
    """The routing table, the tools that depend on it, and the providers by path.

    ``board`` has the state of each actor at the moment. The providers in ``finish_on_disconnect``
    finish the requests of clients that are gone. ``awaited`` has the sessions that wait for a
    provider's next incarnation.
    """

    __slots__ = (
        "awaited",
        "board",
        "finish_on_disconnect",
        "providers",
        "routing",
        "statistics",
        "tools",
    )

    def __init__(
        self,
        routing: RoutingTable,
        providers: Mapping[ProviderName, PathRef],
        board: StatisticsBoard,
        awaited: AwaitedProviders,
        finish_on_disconnect: frozenset[ProviderName] = frozenset(),
    ) -> None:
        self.providers = providers
        self.finish_on_disconnect = finish_on_disconnect
        self.board = board
        self.awaited = awaited
        self.statistics = board.statistics
        self.routing: RoutingTable
        self.tools: tuple[ToolDescription, ...]
        self.publish(routing)

    def publish(self, routing: RoutingTable) -> None:
        """Replace the routing table, and the tools with it. Only the broker actor does this."""
        self.routing = routing
        self.tools = describe_tools(routing.models())
