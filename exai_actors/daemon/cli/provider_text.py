"""The providers of a configuration and the presets, as text and as rows for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from exai_actors.core.capacity.changes import GATES
from exai_actors.daemon.cli.columns import indented
from exai_actors.daemon.config.presets import PRESETS
from exai_actors.daemon.config.provider_tables import OpenAIProvider, ProviderConfig
from exai_actors.daemon.config.render import literal, origin
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.config.toml_lines import KeyPath

SHOWN = (
    "limit",
    "model_limits",
    "queue",
    *GATES,
    "max_wait_s",
    "attempts",
    "circuit_failures",
    "circuit_open_s",
    "hold_probe_s",
    "adaptive",
    "on_disconnect",
    "quarantine_s",
    "coalesce",
)
"""The keys that are shown: the limits of its account, and the broker's behaviour towards it."""


def provider_rows(config: Config) -> list[dict[str, Any]]:
    """Each provider with the values of its keys and their origins."""
    return [
        {
            "name": provider.name,
            "kind": provider.kind,
            "base_url": getattr(provider, "base_url", None),
            "models": list(provider.models),
            "capacity": {
                key: {"value": getattr(provider, key), "from": origin(config, path)}
                for key, path in _paths(index)
            },
        }
        for index, provider in enumerate(config.provider)
    ]


def provider_text(config: Config) -> str:
    """The providers as text, with the tenants and routes."""
    blocks = [
        _provider_block(config, index, provider) for index, provider in enumerate(config.provider)
    ]
    if config.access:
        blocks.append(["tenants", *indented(_tenant_rows(config))])
    if config.route:
        blocks.append(["routes", *indented(_route_rows(config))])
    return "\n\n".join("\n".join(block) for block in blocks)


def preset_rows() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "about": each.about,
            "source": each.source,
            "apis": each.apis,
            "values": dict(each.values),
        }
        for name, each in PRESETS.items()
    ]


def preset_text() -> str:
    """The presets as text, with their values and sources."""
    width = max(map(len, PRESETS))
    return "\n".join(
        f"{name:<{width}}  {_figures(each.values)}\n{'':<{width}}  {each.about}; from {each.source}"
        for name, each in PRESETS.items()
    )


def _provider_block(config: Config, index: int, provider: ProviderConfig) -> list[str]:
    where = provider.base_url if isinstance(provider, OpenAIProvider) else "built in"
    rows = []
    for key, path in _paths(index):
        value = getattr(provider, key)
        if key in GATES and not value:
            shown = "no limit"
        elif key == "model_limits":
            if not value:
                continue
            shown = _by_model(value)
        else:
            shown = f"{value:,}" if type(value) is int else literal(value).strip('"')
        rows.append((key, shown, origin(config, path)))
    models = ", ".join(provider.models) or "listed by the service"
    return [f"{provider.name}  {provider.kind}, {where}", f"  models: {models}", *indented(rows)]


def _by_model(limits: dict[str, int]) -> str:
    shown = [f"{model} {limit}" for model, limit in limits.items()]
    return ", ".join(shown) if len(shown) <= 3 else f"{', '.join(shown[:3])}, {len(shown) - 3} more"


def _tenant_rows(config: Config) -> Iterator[tuple[str, ...]]:
    if config.server.token:
        yield "all others", "weight 1", f"window {config.session.window}", "[server] token"
    for index, entry in enumerate(config.access):
        yield (
            f"{entry.tenant_name}",
            f"weight {entry.weight:g}",
            f"window {entry.window or config.session.window}",
            f'token of "{entry.name}", {origin(config, ("access", index))}',
        )


def _route_rows(config: Config) -> Iterator[tuple[str, ...]]:
    for index, route in enumerate(config.route):
        yield route.model, " then ".join(route.to), origin(config, ("route", index))


def _paths(index: int) -> Iterator[tuple[str, KeyPath]]:
    for key in SHOWN:
        yield key, ("provider", index, key)


def _figures(values: Any) -> str:
    figures = [f"{values['limit']:,} at once"]
    if "model_limits" in values:
        figures = [f"{values['limit']:,} at once of each model"]
    if values.get("adaptive"):
        figures[0] += " to start with, adaptive"
    figures += [
        f"{values[key]:,} {key.replace('_per_', '/').replace('_', ' ')}"
        for key in GATES
        if key in values
    ]
    return ", ".join(figures)
