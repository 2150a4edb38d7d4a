"""The process as consoles act on it: drain, snapshots, and the configuration file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from exai_actors.core.observe.tables import Keyed
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.daemon.config.in_force import config_rows, live_changes
from exai_actors.daemon.config.save import prepared, replace
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.config.toml_lines import KeyPath
from exai_actors.errors import ConfigError


class ServedProcess:
    """Implements ``console.broker_actions.ProcessControl`` with callables of the broker."""

    def __init__(
        self,
        config: Config,
        statistics: Callable[[], BrokerStatistics],
        drain: Callable[[str], None],
    ) -> None:
        self._config = config
        self._statistics = statistics
        self._drain = drain
        self.recording: Callable[[str], Callable[[], str | None]] = lambda _: lambda: None
        """The last minutes with the cause, as a function that writes them."""
        self._saved: dict[KeyPath, Any] = {}

    def drain(self, cause: str) -> None:
        self._drain(cause)

    def snapshot(self, cause: str) -> Callable[[], str | None]:
        return self.recording(cause)

    @property
    def snapshots_at(self) -> str:
        return self._config.server.recordings

    def settings(self) -> Iterator[Keyed]:
        return config_rows(self._config, self._changes())

    def changes(self) -> Mapping[KeyPath, Any]:
        return {
            path: value
            for path, (value, _) in self._changes().items()
            if self._saved.get(path) != value
        }

    def diff(self, changes: Mapping[KeyPath, Any]) -> tuple[str, Callable[[], None]]:
        """The difference to the file, and a function that writes it; both may wait for the disk."""
        file = self._config.source.file
        if file is None:
            raise ConfigError("there is no configuration file; the defaults are in force")
        text, diff = prepared(file, changes, os.environ)
        return diff, partial(self._write, file, text, changes)

    def _write(self, file: Path, text: str, changes: Mapping[KeyPath, Any]) -> None:
        try:
            replace(file, text)
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}") from None
        self._saved.update(changes)

    def _changes(self) -> Mapping[KeyPath, tuple[Any, str]]:
        return live_changes(self._config, self._statistics().providers)
