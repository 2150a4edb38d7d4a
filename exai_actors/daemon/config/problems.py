"""What is wrong with a configuration, with where it stands and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from exai_actors.daemon.config.toml_lines import KeyPath


class Problem(msgspec.Struct, frozen=True):
    """``str()`` of it is one line: origin (file and line, variable, flag), key, what to change."""

    origin: str
    path: KeyPath
    message: str

    def __str__(self) -> str:
        key = _label(self.path)
        return f"{self.origin}: {key}: {self.message}" if key else f"{self.origin}: {self.message}"


def _label(path: KeyPath) -> str:
    """``[server] port``; ``[[provider]] limit``: which one is told by the line."""
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
    """Where each value of one reading came from."""

    file: Path | None
    lines: Mapping[KeyPath, int]
    overrides: Mapping[KeyPath, str]

    def of(self, path: KeyPath) -> str:
        """The variable or flag that set ``path``, or else the file and its nearest line."""
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
