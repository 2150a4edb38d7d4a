"""The configuration in force: the file's values, and those that operators have changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from exai_actors.core.capacity.changes import GATES
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.statistics import ProviderStatistics
from exai_actors.daemon.config.problems import label
from exai_actors.daemon.config.render import literal, origin, values_of
from exai_actors.daemon.config.tables import HIDDEN, Config
from exai_actors.daemon.config.toml_lines import KeyPath

MAX_SHOWN = 300

Changes = Mapping[KeyPath, tuple[Any, str]]
"""Of each changed key the value in force, and the cause of the change."""


def live_changes(config: Config, providers: tuple[ProviderStatistics, ...]) -> Changes:
    """The keys with other values than the configuration has."""
    statistics = {each.name: each for each in providers}
    found: dict[KeyPath, tuple[Any, str]] = {}
    for index, provider in enumerate(config.provider):
        now = statistics.get(provider.name)
        if now is None:
            continue
        path: KeyPath = ("provider", index)
        limits = {each.model: each.limit for each in now.model_limits}
        values: dict[str, Any] = {"limit": now.configured_limit - sum(limits.values())}
        gates = {gate.name: gate.limit for gate in now.gates}
        values |= {name: gates.get(name, 0) for name in GATES}
        for key, value in values.items():
            if value != getattr(provider, key):
                found[*path, key] = value, _cause(now, key)
        for model, limit in limits.items():
            if limit != provider.model_limits.get(model):
                found[*path, "model_limits", model] = limit, _cause(now, f"limit of {model}")
    for index, entry in enumerate(config.access):
        for now in providers[:1]:
            weight = now.weights.get(entry.tenant_name, entry.weight)
            if weight != entry.weight:
                what = f"weight of tenant '{entry.tenant_name}'"
                found["access", index, "weight"] = weight, _cause(now, what)
    return found


def _cause(provider: ProviderStatistics, what: str) -> str:
    for event in reversed(provider.events):
        if event.kind == "changed" and event.what.startswith(f"{what} "):
            return event.cause
    return "an operator"


def config_rows(config: Config, changes: Changes) -> Iterator[Keyed]:
    """The rows of the table ``config``: every key with its value and its origin."""
    for path, value in values_of(config):
        shown, from_ = _public(str(path[-1]), value), origin(config, path)
        if path in changes:
            changed, cause = changes[path]
            shown, from_ = literal(changed), f"live change by {cause} (was {shown}, {from_})"
        elif path[-1] == "model_limits" and isinstance(value, dict):
            limits = {
                model: changes.get((*path, model), (limit, ""))[0] for model, limit in value.items()
            }
            if limits != value:
                causes = (cause for key, (_, cause) in changes.items() if key[:-1] == path)
                from_ = f"live change by {next(causes)} (was {shown}, {from_})"
                shown = literal(limits)
        key = ".".join(map(str, path))
        yield (
            key,
            (label(path) if isinstance(path[1], str) else _numbered(config, path), shown, from_),
        )


def _public(key: str, value: Any) -> str:
    """The value as viewers may see it: no prompt, and nothing in which people put secrets."""
    match key:
        case "headers" | "query":
            value = dict.fromkeys(value, HIDDEN)
        case "system_prompt" if value:
            return f"(a text of {len(value)} characters)"
        case "base_url" | "endpoint" | "webhook_url" if value:
            parts = urlsplit(value)
            # The path of a webhook is often its secret.
            rest = parts.path if key == "base_url" else f"/{HIDDEN}"
            value = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{rest}"
    shown = literal(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."


def _numbered(config: Config, path: KeyPath) -> str:
    """``[[provider]] kimi limit``: entries are known by their names."""
    table, index, *rest = path
    assert isinstance(index, int)
    entry = getattr(config, str(table))[index]
    name = getattr(entry, "name", None) or getattr(entry, "model", index)
    return " ".join([f"[[{table}]]", str(name), *map(str, rest)])
