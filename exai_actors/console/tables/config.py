"""The configuration in force."""

from __future__ import annotations

from exai_actors.console.tables.cells import TEXT
from exai_actors.core.observe.query import Column, Table

CONFIG = Table(
    "config",
    (
        Column("key", "Key", TEXT, "its table and name in the file"),
        Column("value", "Value", TEXT, "the value in force, with secrets hidden"),
        Column("origin", "Origin", TEXT, "file and line, variable, flag, preset, or live change"),
    ),
)
