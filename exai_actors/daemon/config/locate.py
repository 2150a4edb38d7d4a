"""Find and read the configuration: the file, the token file, the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from exai_actors.daemon.config.file import Reading, read_config
from exai_actors.daemon.config.model import Config
from exai_actors.daemon.config.paths import path_of
from exai_actors.daemon.config.problems import Problem
from exai_actors.daemon.config.tokens import with_tokens
from exai_actors.errors import ConfigError

FILE_NAME = "exai.toml"
LARGEST_FILE = 1_048_576


class Loaded(msgspec.Struct, frozen=True):
    """A configuration that can be run, and what its owner should hear all the same."""

    config: Config
    warnings: tuple[Problem, ...] = ()


def user_file() -> Path:
    """Where the user's own configuration lies, whether or not it exists."""
    from platformdirs import user_config_path

    return user_config_path("exai") / FILE_NAME


def find_file(chosen: str | None, env: Mapping[str, str]) -> Path | None:
    """The file in force: ``chosen`` (``--config``), EXAI_CONFIG, ./exai.toml, the user's own.

    None when there is none. Raises ConfigError when a file that was named is not there, and when
    what lies at one of the usual places is no file: it was meant to be one.
    """
    if chosen == "":
        raise ConfigError("--config: names no file; leave it out to have the usual ones looked for")
    for name, what in ((chosen, "--config"), (env.get("EXAI_CONFIG"), "EXAI_CONFIG")):
        if name:
            path = path_of(name)
            if not _is_file(path):
                state = "is not a file" if path.exists() else "does not exist"
                raise ConfigError(
                    f"{what}: {path} {state}; name another, or make one with: exai config init FILE"
                )
            return path
    for path in (Path(FILE_NAME), user_file()):
        if _is_file(path):
            return path
        if path.exists() or path.is_symlink():
            state = "is not a file" if path.exists() else "is a link to a file that does not exist"
            raise ConfigError(f"{path}: {state}; put the configuration there, or remove it")
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def read(chosen: str | None, env: Mapping[str, str], flags: Mapping[str, str | int]) -> Reading:
    """Read everything; raises ConfigError only where a file itself cannot be read."""
    file = find_file(chosen, env)
    text = None if file is None else _text_of(file)
    reading = read_config(text, file=file, env=env, flags=flags)
    return reading if reading.config is None else with_tokens(reading, reading.config, env)


def load(chosen: str | None, env: Mapping[str, str], flags: Mapping[str, str | int]) -> Loaded:
    """The configuration to run with; raises ConfigError that tells all its problems, one a line."""
    reading = read(chosen, env, flags)
    problems = (*reading.problems, *reading.missing_keys)
    if problems or reading.config is None:
        raise ConfigError("\n".join(map(str, problems)))
    return Loaded(reading.config, reading.warnings)


def _text_of(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"{file}: is larger than {LARGEST_FILE} bytes; is it the right file?")
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: is not UTF-8 text; save it as UTF-8") from error
