"""Read configurations from text, with the tokens that they name."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from exai_actors.daemon.config.reading import Reading, read_config
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.config.tokens import with_tokens

FILE = Path("exai.toml")


def reading(
    text: str | None = None,
    env: dict[str, str] | None = None,
    flags: dict[str, str | int] | None = None,
    file: Path | None = FILE,
) -> Reading:
    if text is None:
        return read_config(None, env=env or {}, flags=flags or {})
    found = read_config(dedent(text), file=file, env=env or {}, flags=flags or {})
    return found if found.config is None else with_tokens(found, found.config, env or {})


def config_of(
    text: str | None = None,
    env: dict[str, str] | None = None,
    flags: dict[str, str | int] | None = None,
) -> Config:
    found = reading(text, env, flags)
    assert found.problems == ()
    assert found.config is not None
    return found.config


def errors(text: str, env: dict[str, str] | None = None) -> list[str]:
    """The problems of a configuration that has some."""
    found = reading(text, env)
    assert found.config is None
    return [str(problem) for problem in found.problems]
