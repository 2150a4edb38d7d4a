"""Read the access tokens from the files and variables that the configuration names."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from exai_actors.daemon.config.files import path_of
from exai_actors.daemon.config.problems import Problem
from exai_actors.daemon.config.reading import Reading
from exai_actors.daemon.config.rules import token_error
from exai_actors.daemon.config.tables import AccessConfig, Config, OperatorConfig
from exai_actors.daemon.config.toml_lines import KeyPath

MAX_TOKEN_BYTES = 65_536
SERVER_VARIABLE = "EXAI_WS_TOKEN"


def with_tokens(reading: Reading, config: Config, env: Mapping[str, str]) -> Reading:
    """The reading with all tokens in its configuration, or with the problems of the tokens.

    A variable that is not set counts as a missing key: the file itself may be correct.
    """
    tokens = _Tokens(config, env)
    shared = config.server.token
    if config.server.token_file:
        shared = tokens.in_file(("server", "token_file"), config.server.token_file)
    if shared:
        tokens.found["server", ""] = shared
    for index, entry in enumerate(config.access):
        tokens.read(("access", index), entry)
    for index, operator in enumerate(config.operator):
        tokens.read(("operator", index), operator)
    metrics, webhook = config.metrics, config.alarms.webhook_token_env
    metrics_token = webhook_token = ""
    if metrics.token_file:
        metrics_token = tokens.in_file(("metrics", "token_file"), metrics.token_file)
    elif metrics.token_env:
        metrics_token = tokens.in_variable(("metrics", "token_env"), metrics.token_env)
    if webhook:
        webhook_token = tokens.in_variable(("alarms", "webhook_token_env"), webhook)
    warnings = (*reading.warnings, *tokens.warnings)
    if tokens.problems:
        return msgspec.structs.replace(reading, config=None, problems=tuple(tokens.problems))
    server = msgspec.structs.replace(config.server, token=shared)
    return msgspec.structs.replace(
        reading,
        config=msgspec.structs.replace(
            config,
            server=server,
            access_tokens=tokens.of("access"),
            operator_tokens=tokens.of("operator"),
            metrics_token=metrics_token,
            webhook_token=webhook_token,
        ),
        missing_keys=(*reading.missing_keys, *tokens.missing),
        warnings=warnings,
    )


class _Tokens:
    """Reads tokens and collects problems, missing variables and warnings."""

    def __init__(self, config: Config, env: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self.missing: list[Problem] = []
        self.warnings: list[Problem] = []
        self.found: dict[tuple[str, str], str] = {}
        """The tokens by table and name of their entry."""
        self._source = config.source
        self._env = env

    def of(self, table: str) -> dict[str, str]:
        """The tokens of one table by the name of their entry."""
        return {name: token for (each, name), token in self.found.items() if each == table}

    def read(self, path: tuple[str, int], entry: AccessConfig | OperatorConfig) -> None:
        """Read the token of an entry, which must be no other's."""
        if entry.token_file:
            token = self.in_file((*path, "token_file"), entry.token_file)
        else:
            token = self.in_variable((*path, "token_env"), entry.token_env)
        if token and token in self.found.values():
            self.report(path, self._twice(token))
        self.found[path[0], entry.name] = token

    def _twice(self, token: str) -> str:
        """The advice for a token that an earlier entry or the server has as well."""
        table, name = next(key for key, each in self.found.items() if each == token)
        if table != "server":
            return f'has the same token as the entry "{name}" of [[{table}]]; generate a new one'
        if self._source.origins.get(("server", "token"), "") == SERVER_VARIABLE:
            return (
                f"has the same token as {SERVER_VARIABLE}, which is the broker's own; a client's "
                f"token belongs into EXAI_TOKEN: unset {SERVER_VARIABLE}"
            )
        return "has the same token as [server]; generate a new one"

    def in_file(self, path: KeyPath, name: str) -> str:
        """The token in a file; empty beside a problem."""
        folder = self._source.file.parent if self._source.file else Path()
        file = folder / path_of(name)
        try:
            with file.open("rb") as opened:
                token = opened.read(MAX_TOKEN_BYTES).decode("ascii", "replace").strip()
                mode = os.fstat(opened.fileno()).st_mode
        except OSError as error:
            self.report(path, f"{file} cannot be read: {error.strerror}")
            return ""
        except ValueError as error:
            self.report(path, f"{file} cannot be read: {error}")
            return ""
        if not token:
            self.report(path, f"{file} is empty; write a token of at least 16 characters to it")
        elif message := token_error(token):
            self.report(path, f"{file}: {message}")
        elif os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            self.warnings.append(
                self._problem(
                    path,
                    f"{file} is readable by other users; restrict it with: chmod 600 {file}",
                )
            )
        return token

    def in_variable(self, path: KeyPath, name: str) -> str:
        """The token in an environment variable; empty beside a problem."""
        token = self._env.get(name, "").strip()
        if not token:
            self.missing.append(
                self._problem(
                    path,
                    f"the environment variable {name} is not set; set it to the token: "
                    f"export {name}=...",
                )
            )
        elif message := token_error(token):
            self.report(path, f"{name}: {message}")
        return token

    def report(self, path: KeyPath, message: str) -> None:
        self.problems.append(self._problem(path, message))

    def _problem(self, path: KeyPath, message: str) -> Problem:
        origins = self._source.origins
        origin = origins.get(path) or origins.get(path[:2]) or str(self._source.file)
        return Problem(origin, path, message)
