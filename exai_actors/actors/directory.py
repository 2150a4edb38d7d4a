"""Values that every actor reads without a message. They are immutable; the broker replaces them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from exai_actors.actors.awaited_providers import AwaitedProviders
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.families import Family
from exai_actors.core.routing import RoutingTable
from exai_actors.core.tools.table import ToolDescription, describe_tools
from exai_actors.ids import ProviderName
from exai_actors.runtime import PathRef

_CHAT: frozenset[Family] = frozenset(("chat",))


class Directory:
    """The routing tables, the tools that depend on them, and the providers by path.

    ``everything`` has all providers, ``by_family`` for each family those of which it is one
    (``families``), and ``routing`` those for chat completions.

    ``board`` has the state of each actor at the moment. The providers in ``finish_on_disconnect``
    finish the requests of clients that are gone. ``awaited`` has the sessions that wait for a
    provider's next incarnation.
    """

    __slots__ = (
        "awaited",
        "board",
        "by_family",
        "everything",
        "families",
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
        families: Mapping[ProviderName, frozenset[Family]] | None = None,
    ) -> None:
        self.families = families or dict.fromkeys(providers, _CHAT)
        self.providers = providers
        self.finish_on_disconnect = finish_on_disconnect
        self.board = board
        self.awaited = awaited
        self.statistics = board.statistics
        self.everything: RoutingTable
        self.by_family: Mapping[Family, RoutingTable]
        self.routing: RoutingTable
        self.tools: tuple[ToolDescription, ...]
        self.publish(routing)

    def publish(self, routing: RoutingTable) -> None:
        """Replace the routing tables, and the tools with them. Only the broker actor does this."""
        self.everything = routing
        tables = {family: routing.only(self._serving(family)) for family in get_args(Family)}
        either = routing.only(self._serving("responses") | self._serving("chat"))
        tables["responses"] = tables["responses"].with_translated_routes(either)
        self.by_family = tables
        self.routing = routing = self.by_family["chat"]
        self.tools = describe_tools(routing.models())

    def _serving(self, family: Family) -> frozenset[ProviderName]:
        return frozenset(name for name, served in self.families.items() if family in served)
