"""The providers of a configuration or of a running broker, as text and as rows for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from exai_actors.core.capacity.changes import GATES
from exai_actors.core.durations import format_seconds
from exai_actors.daemon.cli.columns import Row, aligned
from exai_actors.daemon.cli.health_text import state_of
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
        blocks.append(["tenants", *_table(_tenant_rows(config))])
    if config.route:
        blocks.append(["routes", *_table(_route_rows(config))])
    return "\n\n".join("\n".join(block) for block in blocks)


def preset_rows() -> list[dict[str, Any]]:
    return [
        {"name": name, "about": each.about, "source": each.source, "values": dict(each.values)}
        for name, each in PRESETS.items()
    ]


def preset_text() -> str:
    """The presets as text, with their values and sources."""
    width = max(map(len, PRESETS))
    return "\n".join(
        f"{name:<{width}}  {_figures(each.values)}\n{'':<{width}}  {each.about}; from {each.source}"
        for name, each in PRESETS.items()
    )


def running_text(providers: list[dict[str, Any]]) -> str:
    """The statistics of a running broker's providers as text, a block each."""
    return "\n\n".join("\n".join(_running_block(each)) for each in providers)


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
    return [f"{provider.name}  {provider.kind}, {where}", f"  models: {models}", *_table(rows)]


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


def _running_block(each: dict[str, Any]) -> list[str]:
    state = state_of(each)
    rows = [
        ("in flight", f"{each['in_flight']} of {each['limit']}"),
        ("queued", f"{each['queued']} of {each['queue_limit']}"),
        ("completed", f"{each['completed']}"),
        ("failed", f"{each['failed']}, {each['tried_again']} retried"),
        ("aborted", f"{each['aborted']}"),
        ("refused", f"{each['refused']}, {each['displaced']} for the queue's fair shares"),
        ("anomalies", f"{each['anomalies']}"),
    ]
    if each["faults"]:
        rows.append(("violations", f"{each['faults']} of the broker's own invariants; see its log"))
    if each["configured_limit"] != each["limit"]:
        rows.insert(1, ("configured", f"{each['configured_limit']}"))
    if each["waits_for"]:
        rows.append(("waits for", each["waits_for"]["text"].removeprefix(f"{each['name']}: ")))
    rows += [
        (f"held {held['model']}", f"for {format_seconds(held['held_for_s'])}: {held['because']}")
        for held in each["model_holds"]
    ]
    if each["trouble"]:
        rows.append(("trouble", each["trouble"]))
    rows += [
        (gate["name"].replace("_", " "), f"{gate['used']:,.0f} of {gate['limit']:,} used")
        for gate in each["gates"]
    ]
    rows += [
        (each_model["model"], f"{each_model['in_flight']} of {each_model['limit']} in flight")
        for each_model in each["model_limits"]
    ]
    rows += [(event["what"], event["cause"]) for event in each["events"][-5:]]
    return [f"{each['name']}  {each['kind']}, {state}", *_table(rows)]


def _table(rows: Iterable[Row]) -> list[str]:
    return [f"  {line}" for line in aligned(rows, max_width=60)]
