"""Load the configuration of a process from its file, flags, environment and token files."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from exai_actors.daemon.config.files import find_file, text_of
from exai_actors.daemon.config.problems import Problem
from exai_actors.daemon.config.reading import Reading, read_config
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.config.tokens import with_tokens
from exai_actors.errors import ConfigError


class Loaded(msgspec.Struct, frozen=True):
    """A configuration that can be run, with the warnings about it."""

    config: Config
    warnings: tuple[Problem, ...] = ()


def read(chosen: str | None, env: Mapping[str, str], flags: Mapping[str, str | int]) -> Reading:
    """The configuration or its problems. Raises ConfigError only for a file that is unreadable."""
    file = find_file(chosen, env)
    text = None if file is None else text_of(file)
    reading = read_config(text, file=file, env=env, flags=flags)
    return reading if reading.config is None else with_tokens(reading, reading.config, env)


def load(chosen: str | None, env: Mapping[str, str], flags: Mapping[str, str | int]) -> Loaded:
    """The configuration to run with. Raises ConfigError with all its problems, one a line."""
    reading = read(chosen, env, flags)
    problems = (*reading.problems, *reading.missing_keys)
    if problems or reading.config is None:
        raise ConfigError("\n".join(map(str, problems)))
    return Loaded(reading.config, reading.warnings)
