"""A complete configuration for a test from the few keys that matter to it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from exai_actors.daemon.config.reading import ENVIRONMENT, read_config
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.config.tokens import with_tokens
from exai_actors.errors import ConfigError

AnyConfig: TypeAlias = Config | str | Mapping[str, Any] | None
"""A checked configuration, the text of a TOML file, its tables, or None for the defaults."""


def config_for_test(config: AnyConfig = None) -> Config:
    """The configuration checked as for ``exai serve``, but on a free port unless it names one.

    The environment supplies API keys but no host, port or token, since a test must not depend on
    where it runs. Raises ConfigError, whose text names line, key and correction.
    """
    if isinstance(config, Config):
        return config
    if not _is_text_or_tables(config):
        raise ConfigError(
            f"{config!r} is not a configuration; give the text of an exai.toml or its tables"
        )
    text = config if isinstance(config, str) else "\n".join(_toml(config or {}))
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    flags = {} if _names_a_port(text) else {"--port": 0}
    reading = read_config(text, file=Path("the test's config"), env=environment, flags=flags)
    if reading.config is not None:
        reading = with_tokens(reading, reading.config, environment)
    problems = (*reading.problems, *reading.missing_keys)
    if problems or reading.config is None:
        raise ConfigError("\n".join(str(problem) for problem in problems))
    return reading.config


def provider_at(base_url: str, *, name: str = "scripted", limit: int = 1) -> dict[str, Any]:
    """The table of a provider for a ScriptedUpstream at ``base_url``."""
    return {
        "name": name,
        "kind": "openai",
        "base_url": base_url,
        "models": ["scripted-model"],
        "limit": limit,
    }


def with_upstream(config: AnyConfig, base_url: str) -> AnyConfig:
    """The configuration with a scripted upstream as provider, unless it has providers."""
    if isinstance(config, Config) or not _is_text_or_tables(config):
        return config
    try:
        tables = tomllib.loads(config) if isinstance(config, str) else dict(config or {})
    except tomllib.TOMLDecodeError:
        return config
    return config if "provider" in tables else {**tables, "provider": [provider_at(base_url)]}


def _names_a_port(text: str) -> bool:
    try:
        server = tomllib.loads(text).get("server", {})
    except tomllib.TOMLDecodeError:
        return False
    return isinstance(server, dict) and "port" in server


def _is_text_or_tables(config: object) -> bool:
    return config is None or isinstance(config, str | Mapping)


def _toml(tables: Mapping[str, Any]) -> Iterator[str]:
    # Keys outside any table go first, where TOML has them, to get the right error.
    yield from _keys({name: table for name, table in tables.items() if not _is_table(table)})
    for name, table in tables.items():
        if isinstance(table, Mapping):
            yield from (f"[{name}]", *_keys(table))
        elif _is_table(table):
            for entry in table:
                yield from (f"[[{name}]]", *_keys(entry))


def _is_table(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(entry, Mapping) for entry in value)
    return isinstance(value, Mapping)


def _keys(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{key} = {_value(value)}" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_value(key)} = {_value(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, Path):
        value = str(value)
    # JSON and TOML write strings, numbers, booleans and arrays of them alike.
    return orjson.dumps(value).decode()
