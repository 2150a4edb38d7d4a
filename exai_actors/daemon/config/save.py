"""Writes changed values into the text of a configuration file, and leaves the rest as it is."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exai_actors.daemon.config.files import text_of
from exai_actors.daemon.config.reading import read_config
from exai_actors.daemon.config.render import literal
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.config.toml_lines import KeyPath, Span, locate, value_spans
from exai_actors.errors import ConfigError


def changed_text(text: str, changes: Mapping[KeyPath, Any]) -> str:
    """The text with the new values, comments included; missing keys go behind their table's last.

    Raises ConfigError if the table of a key is not in the text, or is written inline.
    """
    spans = value_spans(text)
    edits: list[tuple[Span, str]] = []
    for path, value in changes.items():
        if path in spans:
            edits.append((spans[path], literal(value)))
        else:
            at = _end_of_table(text, spans, path)
            edits.append(((at, at), f"\n{path[-1]} = {literal(value)}"))
    for (start, end), new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _end_of_table(text: str, spans: Mapping[KeyPath, Span], path: KeyPath) -> int:
    """The end of the line with the last key of the table."""
    table = path[:-1]
    line = locate(text).get(table)
    ends = [end for key, (_, end) in spans.items() if key[:-1] == table]
    header = "" if line is None else text.splitlines()[line - 1].lstrip()
    if not header.startswith("[[") or not ends:
        name = ".".join(map(str, path))
        raise ConfigError(f"{name} cannot be written: its table is not a [[{path[0]}]] of its own")
    end = text.find("\n", max(ends))
    return len(text) if end < 0 else end


def prepared(file: Path, changes: Mapping[KeyPath, Any], env: Mapping[str, str]) -> tuple[str, str]:
    """The new text of the file and the difference to it. Raises ConfigError."""
    before = text_of(file)
    after = changed_text(before, changes)
    found = read_config(after, file=file, env=env, flags={}).config
    if found is None or any(_value(found, path) != value for path, value in changes.items()):
        raise ConfigError(f"{file} cannot be changed without touching the rest; edit it by hand")
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), str(file), str(file), "", "", 1, ""
    )
    return after, "\n".join(lines)


def _value(config: Config, path: KeyPath) -> Any:
    found: Any = config
    for part in path:
        is_key = isinstance(found, dict | tuple)
        found = found[part] if is_key else getattr(found, str(part))
    return found


def replace(file: Path, text: str) -> None:
    """Replace the file, whole or not at all, with the rights that it had. Raises OSError."""
    file = file.resolve()
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".tmp")
    written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        written.chmod(file.stat().st_mode & 0o7777)
        written.replace(file)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
