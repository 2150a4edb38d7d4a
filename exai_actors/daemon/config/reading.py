"""Merge the text of a file, the environment and the flags into one checked configuration.

Pure functions of their arguments; `load` finds and reads the files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from exai_actors.daemon.config import rules
from exai_actors.daemon.config.problems import Origins, Problem
from exai_actors.daemon.config.table_checker import TableChecker
from exai_actors.daemon.config.tables import DEFAULT_PROVIDERS, Config, FileConfig, Source
from exai_actors.daemon.config.toml_errors import explain
from exai_actors.daemon.config.toml_lines import KeyPath, locate

ENVIRONMENT: Mapping[str, KeyPath] = {
    "EXAI_WS_HOST": ("server", "host"),
    "EXAI_WS_PORT": ("server", "port"),
    "EXAI_WS_TOKEN": ("server", "token"),
}
FLAGS: Mapping[str, KeyPath] = {
    "--host": ("server", "host"),
    "--port": ("server", "port"),
    "--log-level": ("logging", "level"),
    "--log-format": ("logging", "format"),
}


class Reading(msgspec.Struct, frozen=True):
    """A configuration, or its problems.

    ``config`` is None when there are ``problems``. ``missing_keys`` prevent calls to providers and
    nothing else; ``warnings`` prevent nothing.
    """

    config: Config | None
    problems: tuple[Problem, ...] = ()
    missing_keys: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def read_config(
    text: str | None,
    *,
    file: Path | None = None,
    env: Mapping[str, str],
    flags: Mapping[str, str | int],
) -> Reading:
    """Merge and check: flags (named as in FLAGS) override ``env``, which overrides ``text``.

    An environment variable that is set but empty counts as not set. ``file`` is the name of the
    text in messages; ``text`` is None when there is no file.
    """
    try:
        raw = tomllib.loads(text or "")
        lines = locate(text or "")
    except tomllib.TOMLDecodeError as error:
        return Reading(None, (_syntax_problem(str(error), text or "", file),))
    except RecursionError:
        return Reading(None, (Problem(str(file), (), "is nested too deeply"),))
    return read_tables(raw, lines, file=file, env=env, flags=flags)


def read_tables(
    raw: dict[str, Any],
    lines: Mapping[KeyPath, int],
    *,
    file: Path | None,
    env: Mapping[str, str],
    flags: Mapping[str, str | int],
) -> Reading:
    """As ``read_config``, for the tables of a file and the lines of their keys."""
    overrides: dict[KeyPath, tuple[str, str | int]] = {
        path: (name, env[name].strip())
        for name, path in ENVIRONMENT.items()
        if env.get(name, "").strip()
    }
    overrides |= {FLAGS[name]: (name, value) for name, value in flags.items()}
    in_file = Origins(file, lines, {})
    checker = TableChecker(in_file)
    settings = checker.file(raw)
    problems = checker.problems
    if settings.server.token and settings.server.token_file:
        problems.append(
            in_file.problem(
                ("server", "token_file"), "is set as well as token; keep one of the two"
            )
        )
    origins = Origins(file, lines, {path: name for path, (name, _) in overrides.items()})
    overriding = TableChecker(origins)
    for path, (_, value) in overrides.items():
        settings = _override(settings, path, value, overriding)
    problems += overriding.problems
    return _checked(settings, origins, problems, env, checker.from_presets)


def _override(
    settings: FileConfig, path: KeyPath, value: str | int, checker: TableChecker
) -> FileConfig:
    """The settings with the value at ``path``, or unchanged after adding a problem."""
    table_name, key = str(path[0]), str(path[1])
    table = getattr(settings, table_name)
    field = next(field for field in msgspec.structs.fields(table) if field.name == key)
    found = checker.value(field.type, value, path, strict=False)
    if found is None:
        return settings
    changes: dict[str, Any] = {key: found}
    if path == ("server", "token"):
        changes["token_file"] = ""
    table = msgspec.structs.replace(table, **changes)
    return msgspec.structs.replace(settings, **{table_name: table})


def _checked(
    settings: FileConfig,
    origins: Origins,
    problems: list[Problem],
    env: Mapping[str, str],
    from_presets: Mapping[KeyPath, str],
) -> Reading:
    """Apply the rules between keys, leaving out tables that have problems already."""
    server, access, routes = settings.server, settings.access, settings.route
    providers = settings.provider or DEFAULT_PROVIDERS
    has_shared_token = bool(server.token or server.token_file)
    checks: list[tuple[set[str], Iterator[rules.Finding]]] = [
        ({"server"}, rules.server_findings(server, access)),
        ({"access"}, rules.access_findings(access, has_shared_token=has_shared_token)),
        ({"operator"}, rules.token_findings("operator", settings.operator)),
        ({"provider"}, rules.provider_findings(providers)),
        ({"provider", "route"}, rules.route_findings(routes, providers)),
        ({"provider", "route", "chat"}, rules.chat_findings(settings.chat, providers, routes)),
        (
            {"metrics", "alarms", "tracing"},
            rules.observing_findings(settings.metrics, settings.alarms, settings.tracing),
        ),
        ({"server", "compat"}, rules.compat_findings(settings.compat, server)),
    ]
    wrong = {problem.path[0] for problem in problems if problem.path}
    for tables, findings in checks:
        if not wrong & tables:
            problems += (origins.problem(*finding) for finding in findings)
    if problems:
        return Reading(None, tuple(sorted(problems, key=_place)))

    keys, missing = rules.key_findings(providers, env)
    config = Config(
        **msgspec.structs.asdict(settings) | {"provider": providers},
        source=Source(origins.file, {**from_presets, **_origins_of_values(origins)}),
        api_keys=keys,
    )
    return Reading(
        config,
        missing_keys=tuple(origins.problem(*finding) for finding in missing),
        warnings=tuple(origins.problem(*finding) for finding in rules.provider_warnings(providers)),
    )


def _origins_of_values(origins: Origins) -> dict[KeyPath, str]:
    named: dict[KeyPath, str] = {path: f"{origins.file}:{at}" for path, at in origins.lines.items()}
    return named | dict(origins.overrides)


def _place(problem: Problem) -> tuple[str, int]:
    origin, _, line = problem.origin.rpartition(":")
    return (origin, int(line)) if origin and line.isdigit() else (problem.origin, 0)


def _syntax_problem(error: str, text: str, file: Path | None) -> Problem:
    line, message = explain(error, text)
    return Problem(f"{file}:{line}", (), message)
