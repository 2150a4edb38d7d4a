"""A configuration as text: the values in force, the JSON Schema, the reference page."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec

from exai_actors.daemon.config.observing_tables import AlarmsConfig, MetricsConfig, TracingConfig
from exai_actors.daemon.config.presets import PRESETS
from exai_actors.daemon.config.provider_tables import (
    PROVIDER_KINDS,
    CapacityKeys,
    OpenAIProvider,
)
from exai_actors.daemon.config.tables import (
    HIDDEN,
    AccessConfig,
    AuditConfig,
    ChatConfig,
    CompatConfig,
    Config,
    FileConfig,
    HttpConfig,
    LogConfig,
    OperatorConfig,
    RouteConfig,
    ServerConfig,
    SessionConfig,
)
from exai_actors.daemon.config.toml_lines import KeyPath
from exai_actors.daemon.config.wording import accepted

# The plain tables, before and after the lists of tables in the order of the file.
FIRST_TABLES: dict[str, type[msgspec.Struct]] = {
    "server": ServerConfig,
    "session": SessionConfig,
    "http": HttpConfig,
}
LAST_TABLES: dict[str, type[msgspec.Struct]] = {
    "compat": CompatConfig,
    "chat": ChatConfig,
    "logging": LogConfig,
    "audit": AuditConfig,
    "metrics": MetricsConfig,
    "alarms": AlarmsConfig,
    "tracing": TracingConfig,
}


def literal(value: Any) -> str:
    """A value as TOML writes it; whole seconds without their decimal point."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        pairs = (f"{literal(key)} = {literal(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(literal, value))}]"
    return str(value)


@cache
def descriptions(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The meaning of each key: the string below it in the source of its Struct."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            (definition,) = ast.parse(inspect.getsource(base)).body
            assert isinstance(definition, ast.ClassDef)
            for field, text in pairwise(definition.body):
                match field, text:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(meaning))),
                    ):
                        found[name] = " ".join(meaning.split())
    return found


def values_of(config: Config) -> Iterator[tuple[KeyPath, Any]]:
    """Every key with its value, in the order of the file, with secrets hidden."""
    for table in FIRST_TABLES:
        yield from _table_values((table,), getattr(config, table))
    for index, entry in enumerate(config.access):
        yield from _table_values(("access", index), entry)
    for index, operator in enumerate(config.operator):
        yield from _table_values(("operator", index), operator)
    for index, provider in enumerate(config.provider):
        yield ("provider", index, "kind"), provider.kind
        yield from _table_values(("provider", index), provider)
    for index, route in enumerate(config.route):
        yield from _table_values(("route", index), route)
    for table in LAST_TABLES:
        yield from _table_values((table,), getattr(config, table))


def _table_values(path: KeyPath, table: msgspec.Struct) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in msgspec.structs.asdict(table).items():
        yield (*path, key), HIDDEN if key == "token" and value else value


def show(config: Config) -> str:
    """The values in force as TOML, each with its origin as a comment."""
    lines: list[str] = []
    header: KeyPath = ()
    entries = [(path, f"{path[-1]} = {literal(value)}") for path, value in values_of(config)]
    width = min(max(len(text) for _, text in entries), 48)
    for path, text in entries:
        if path[:-1] != header:
            header = path[:-1]
            if lines:
                lines.append("")
            lines.append(f"[{header[0]}]" if len(header) == 1 else f"[[{header[0]}]]")
        lines.append(f"{text:<{width}}  # {origin(config, path)}")
    return "\n".join(lines)


def origin(config: Config, path: KeyPath) -> str:
    """The origin of a value: a file and line, a variable, a flag, a preset or ``default``."""
    if path == ("server", "token") and config.server.token_file:
        path = ("server", "token_file")
    return config.source.origins.get(path, "default")


def show_json(config: Config) -> str:
    """The values as a JSON list of ``{"key", "value", "from"}``; providers count from 0."""
    rows = [
        {"key": ".".join(map(str, path)), "value": value, "from": origin(config, path)}
        for path, value in values_of(config)
    ]
    return json.dumps(rows, indent=2)


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The default of a key that is not required."""
    factory = field.default_factory
    return field.default if factory is msgspec.NODEFAULT else factory()


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file."""
    found = msgspec.json.schema(FileConfig)
    openai = found["$defs"]["OpenAIProvider"]
    # A preset supplies the required keys.
    openai["anyOf"] = [{"required": ["preset"]}, {"required": openai.pop("required")}]
    openai["properties"]["preset"]["enum"] = ["", *PRESETS]
    structs: list[type[msgspec.Struct]] = [
        AccessConfig,
        OperatorConfig,
        RouteConfig,
        *PROVIDER_KINDS.values(),
    ]
    for struct in (*structs, *FIRST_TABLES.values(), *LAST_TABLES.values()):
        for key, meaning in descriptions(struct).items():
            found["$defs"][struct.__name__]["properties"][key]["description"] = meaning
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "exai.toml",
        **found,
    }


def reference() -> str:
    """Markdown tables of all keys, as they are in ``docs/reference/config.md``."""
    parts = [_reference_table(f"`[{name}]`", table) for name, table in FIRST_TABLES.items()]
    parts.append(_reference_table("`[[access]]`", AccessConfig))
    parts.append(_reference_table("`[[operator]]`", OperatorConfig))
    parts.append(_reference_table("`[[provider]]` of every `kind`", CapacityKeys))
    parts += [
        _reference_table(f'`[[provider]]` with `kind = "{struct.kind}"`', struct, CapacityKeys)
        for struct in PROVIDER_KINDS.values()
    ]
    parts.append(_reference_table("`[[route]]`", RouteConfig))
    parts += [_reference_table(f"`[{name}]`", table) for name, table in LAST_TABLES.items()]
    return "\n".join(parts)


def family_rows() -> list[str]:
    """A row of Markdown for each preset: the addresses of its families, and the page with them."""
    rows: dict[str, list[str]] = {}
    for name, preset in PRESETS.items():
        keys = {key: value for key, value in preset.values.items() if key != "kind"}
        families: dict[str, list[str]] = {}
        for family, url in OpenAIProvider(**keys).addresses().items():
            families.setdefault(url, []).append(family)
        cell = "; ".join(f"{', '.join(each)}: `{url}`" for url, each in families.items())
        rows.setdefault(f"{cell} | {preset.apis}", []).append(f"`{name}`")
    return [f"| {', '.join(names)} | {cells} |" for cells, names in rows.items()]


def _reference_table(
    title: str, struct: type[msgspec.Struct], base: type[msgspec.Struct] | None = None
) -> str:
    """The keys of ``struct``, except those that it has unchanged from ``base``."""
    rows = _reference_rows(struct)
    inherited = _reference_rows(base) if base else []
    header = [f"## {title}", "", "| key | default | allowed | meaning |", "|---|---|---|---|"]
    return "\n".join([*header, *(row for row in rows if row not in inherited), ""])


def _reference_rows(struct: type[msgspec.Struct]) -> list[str]:
    rows = []
    for field in msgspec.structs.fields(struct):
        default = "required" if field.required else f"`{literal(default_of(field))}`"
        cells = (f"`{field.name}`", default, accepted(field.type), descriptions(struct)[field.name])
        rows.append(f"| {' | '.join(cells)} |")
    return rows
