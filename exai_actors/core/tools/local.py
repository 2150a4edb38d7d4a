"""The answers of the tools that need no provider, from plain values."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from exai_actors.core.calls import OutcomeKind, ToolResult
from exai_actors.core.routing import RoutingTable
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.core.tools.table import LocalRequest

Event = tuple[float, str, str, OutcomeKind]
"""What ended in a session: wall-clock seconds since the epoch, request, tool and how."""


def answer(
    request: LocalRequest,
    routing: RoutingTable,
    statistics: BrokerStatistics,
    events: Iterable[Event],
) -> ToolResult:
    """Run a local tool. Raises KeyError for a tool that is not local."""
    match request.tool:
        case "echo":
            return ToolResult((request.text,))
        case "version":
            return _json({"name": "exai-actors", "version": statistics.version})
        case "list_models":
            default = routing.default_model
            return _json(
                {
                    "default_model": default,
                    "models": [
                        {"model": model, "provider": provider}
                        for provider, models in routing.offers
                        for model in models
                    ]
                    + [
                        {
                            "model": name,
                            "provider": targets[0].provider,
                            "route": [f"{each.provider}/{each.model}" for each in targets],
                        }
                        for name, targets in routing.routes
                    ],
                }
            )
        case "status" | "health":
            return _json(statistics)
        case "activity":
            return _json({"events": [_shown(event) for event in events]})
    raise KeyError(request.tool)


def _shown(event: Event) -> dict[str, object]:
    at, request, tool, outcome = event
    # What stands behind a NUL is ours, and says nothing to anybody.
    shown = request.partition("\x00")[0] or None
    return {"at": at, "request": shown, "tool": tool, "outcome": outcome.value}


def _json(value: object) -> ToolResult:
    return ToolResult((msgspec.json.encode(value).decode(),))
