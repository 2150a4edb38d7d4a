"""Cells as text with a level: good, bad or between, by the kind of their column."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any

from exai_actors.core.observe.query import BAD_SHARE, WARN_SHARE
from exai_actors.core.observe.written import duration, size

_STATES = {"state", "health", "phase", "circuit", "severity"}
_GOOD = {"ok", "serving", "running", "idle", "ready", "busy", "up", "granted"}
_BAD = (
    *("critical", "failed", "degraded", "open", "closed"),
    *("broken", "stopped", "gave up", "poison"),
)
_MUST_HOLD = {"conserved", "ok"}
"""Flags that are false only if something is wrong."""


class Level(StrEnum):
    """How a cell is coloured; each has other signs than its colour as well."""

    PLAIN = ""
    DIM = "dim"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


def cell_text(value: Any, kind: str, name: str = "") -> str:
    """A cell as people read it; ``name`` is that of its column."""
    if value is None:
        return "-"
    match kind:
        case "share":
            return f"{value:.0%}"
        case "seconds":
            return duration(value)
        case "flag":
            return "yes" if value else "NO" if name in _MUST_HOLD else "no"
        case "bytes":
            return size(value)
        case "count" | "total":
            return count_text(value)
    return str(value)


def count_text(value: float) -> str:
    """A count in at most seven characters, exact below ten million."""
    if value != int(value):
        return f"{value:.3g}"
    if abs(value) < 10_000_000:
        return f"{int(value)}"
    return f"{value / 1e6:.0f}M" if abs(value) < 1e10 else f"{value / 1e9:.0f}G"


def clock_text(wall: float) -> str:
    """The local time of an instant."""
    return time.strftime("%H:%M:%S", time.localtime(wall))


def level(value: Any, column: dict[str, str]) -> Level:
    """The level of a cell. From 85 % of any limit on it is bad."""
    if value is None:
        return Level.DIM
    match column["kind"]:
        case "share":
            if column["name"].startswith("share"):
                return Level.PLAIN  # a part of something that is shared out, not of a limit
            if value >= BAD_SHARE:
                return Level.BAD
            return Level.WARN if value >= WARN_SHARE else Level.PLAIN
        case "flag" if column["name"] in _MUST_HOLD:
            return Level.GOOD if value else Level.BAD
        case "flag":
            return Level.WARN if value else Level.DIM
        case "text" if column["name"] == "circuit" and value == "closed":
            return Level.GOOD
        case "text" if column["name"] in _STATES:
            return _state_level(str(value))
        case "count" | "total" | "seconds" | "bytes" if not value:
            return Level.DIM
    return Level.PLAIN


def _state_level(state: str) -> Level:
    if state in _GOOD:
        return Level.GOOD
    return Level.BAD if any(word in state for word in _BAD) else Level.WARN


def is_right(kind: str) -> bool:
    """Whether cells of this kind are aligned to the right."""
    return kind not in ("text", "flag")


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` characters."""
    if len(text) <= width:
        return text
    return f"{text[: width - 1]}…" if width > 0 else ""


def one_line(text: str) -> str:
    """The text without control characters: rows may quote foreign words."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "·" for c in text)
