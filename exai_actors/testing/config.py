"""A complete configuration for a test from the few keys that matter to it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import orjson

from exai_actors.daemon.config.observing_tables import AlarmsConfig
from exai_actors.daemon.config.provider_tables import SyntheticProvider
from exai_actors.daemon.config.reading import ENVIRONMENT, read_config, read_tables
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.config.tokens import with_tokens
from exai_actors.errors import ConfigError

AnyConfig: TypeAlias = Config | str | Mapping[str, Any] | None
"""A checked configuration, the text of a TOML file, its tables, or None for the defaults."""


def config_for_test(config: AnyConfig = None) -> Config:
    """The configuration checked as for ``exai serve``, but on a free port unless it names one.

    The environment supplies API keys but no host, port or token, since a test must not depend on
    where it runs. Synthetic providers answer immediately unless they set ``tokens_per_second``.
    Raises ConfigError, whose text names line, key and correction.
    """
    if isinstance(config, Config):
        return config
    if not _is_text_or_tables(config):
        raise ConfigError(
            f"{config!r} is not a configuration; give the text of an exai.toml or its tables"
        )
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    server = _tables(config).get("server", {})
    flags = {} if isinstance(server, Mapping) and "port" in server else {"--port": 0}
    file = Path("the test's config")
    if isinstance(config, str):
        reading = read_config(config, file=file, env=environment, flags=flags)
    else:
        # Lists for tuples and texts for paths, as a file would have them.
        tables = orjson.loads(orjson.dumps(config or {}, default=str))
        reading = read_tables(tables, {}, file=file, env=environment, flags=flags)
    if reading.config is not None:
        reading = with_tokens(reading, reading.config, environment)
    problems = (*reading.problems, *reading.missing_keys)
    if problems or reading.config is None:
        raise ConfigError("\n".join(str(problem) for problem in problems))
    return _without_alarms_of_the_machine(_with_instant_answers(reading.config, config), config)


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


def _with_instant_answers(config: Config, given: str | Mapping[str, Any] | None) -> Config:
    tables: Sequence[Mapping[str, Any]] = _tables(given).get("provider") or ({},)
    providers = [
        msgspec.structs.replace(provider, tokens_per_second=0.0)
        if isinstance(provider, SyntheticProvider) and "tokens_per_second" not in table
        else provider
        for provider, table in zip(config.provider, tables, strict=True)
    ]
    return msgspec.structs.replace(config, provider=tuple(providers))


def _without_alarms_of_the_machine(config: Config, given: str | Mapping[str, Any] | None) -> Config:
    """A busy machine is no news in a test, unless its configuration has ``[alarms]``."""
    if "alarms" in _tables(given):
        return config
    return msgspec.structs.replace(config, alarms=AlarmsConfig(ignore=("loop_lag", "memory")))


def _tables(config: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The tables as given, which may be wrong; none if the text is not TOML."""
    try:
        return tomllib.loads(config) if isinstance(config, str) else config or {}
    except tomllib.TOMLDecodeError:
        return {}


def _is_text_or_tables(config: object) -> bool:
    return config is None or isinstance(config, str | Mapping)
