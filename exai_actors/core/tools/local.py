"""The answers of the tools that need no provider."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from exai_actors.core.calls import OutcomeKind, ToolResult
from exai_actors.core.observe.usage import Used
from exai_actors.core.routing import RoutingTable
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.core.tools.table import LocalRequest
from exai_actors.ids import ProviderName, RequestKey, TenantName, shown_tenant

Event = tuple[float, RequestKey, str, OutcomeKind]
"""The end of a request: wall-clock seconds since the epoch, request, tool and kind of outcome."""


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


def usage(
    tenant: TenantName,
    used: Iterable[tuple[ProviderName, str, Used, Used]],
    statistics: BrokerStatistics,
) -> ToolResult:
    """The usage of a tenant in the last hour and day, and the limits of all accounts."""
    return _json(
        {
            "tenant": shown_tenant(tenant),
            "usage": [
                {
                    "provider": provider,
                    "model": model,
                    "calls_hour": hour.calls,
                    "tokens_hour": round(hour.tokens),
                    "calls_day": day.calls,
                    "tokens_day": round(day.tokens),
                }
                for provider, model, hour, day in used
            ],
            "limits": [
                {
                    "provider": each.name,
                    "in_flight": each.in_flight,
                    "limit": each.limit,
                    "queued": each.queued,
                    "gates": each.gates,
                    "waits_for": each.waits_for,
                }
                for each in statistics.providers
            ],
        }
    )


def _shown(event: Event) -> dict[str, object]:
    at, request, tool, outcome = event
    return {"at": at, "request": _name(request), "tool": tool, "outcome": outcome}


def _name(request: RequestKey) -> str | None:
    """The request's id, with a prefix where it could be mistaken for another request's."""
    match request.namespace:
        case "generated":
            return None
        case "op" if not request.text.startswith(("op:", "rpc:", "key:")):
            return request.text
        case namespace:
            return f"{namespace}:{request.text}"


def _json(value: object) -> ToolResult:
    return ToolResult((msgspec.json.encode(value).decode(),))
