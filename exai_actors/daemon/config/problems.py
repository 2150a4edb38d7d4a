"""Problems of a configuration: where, which key, and how to correct it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from exai_actors.daemon.config.toml_lines import KeyPath


class Problem(msgspec.Struct, frozen=True):
    """``str()`` gives one line: origin (file and line, variable or flag), key, message."""

    origin: str
    path: KeyPath
    message: str

    def __str__(self) -> str:
        key = label(self.path)
        return f"{self.origin}: {key}: {self.message}" if key else f"{self.origin}: {self.message}"


def label(path: KeyPath) -> str:
    """``[server] port`` or ``[[provider]] limit``; the line number identifies the entry."""
    match path:
        case ():
            return ""
        case (str(table), int(), *rest):
            return " ".join([f"[[{table}]]", *_names(rest)])
        case (str(table),):
            return table
        case (table, *rest):
            return " ".join([f"[{table}]", *_names(rest)])
    return ""


def _names(parts: list[str | int]) -> list[str]:
    return [str(part) if isinstance(part, str) else f"entry {part + 1}" for part in parts]


class Origins(msgspec.Struct, frozen=True):
    """The origin of each value: a line of the file, or the variable or flag that overrides it."""

    file: Path | None
    lines: Mapping[KeyPath, int]
    overrides: Mapping[KeyPath, str]

    def of(self, path: KeyPath) -> str:
        """The variable or flag that set ``path``, otherwise the file and the nearest line."""
        if path in self.overrides:
            return self.overrides[path]
        if self.file is None:
            return "the defaults"
        for length in range(len(path), 0, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return f"{self.file}:{line}"
        return str(self.file)

    def problem(self, path: KeyPath, message: str) -> Problem:
        return Problem(self.of(path), path, message)
