"""The record of what operators did, and of what they were refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from exai_actors.core.observe.query import Column, Kind, Table
from exai_actors.core.observe.tables import Row
from exai_actors.core.operators import Role

MAX_ENTRIES = 1_000
MAX_TARGETS_NAMED = 20

AUDIT = Table(
    "audit",
    (
        Column("at", "At", Kind.TEXT, "the instant, in UTC"),
        Column("operator", "Operator", Kind.TEXT, "the operator's name"),
        Column("action", "Action", Kind.TEXT, "its name"),
        Column("target", "Target", Kind.TEXT, "the keys of the rows that it concerns"),
        Column("effect", "Effect", Kind.TEXT, "its effect, or why it was refused"),
        Column("reason", "Reason", Kind.TEXT, "in the operator's words"),
        Column("outcome", "Outcome", Kind.TEXT, "done, partly or refused"),
        Column("before", "Before", Kind.TEXT, "the state that it changed"),
        Column("role", "Role", Kind.TEXT, "the operator's role"),
    ),
)


class TargetEffect(msgspec.Struct, frozen=True, gc=False):
    """The effect on one target; not ``ok`` if it was refused, for the reason in ``text``."""

    target: str
    text: str
    ok: bool = True
    before: str = ""


class AuditEntry(msgspec.Struct, frozen=True):
    """One action or refused attempt.

    ``at`` is in seconds since the epoch. ``effects`` are those on the first targets of ``count``,
    of which ``failed`` were refused. ``suppressed`` refusals before it have no entries.
    """

    at: float
    operator: str
    role: Role
    address: str
    action: str
    arguments: dict[str, Any]
    reason: str
    effects: tuple[TargetEffect, ...]
    count: int
    failed: int
    suppressed: int = 0

    @property
    def outcome(self) -> Literal["done", "partly", "refused"]:
        if not self.failed:
            return "done"
        return "refused" if self.failed == self.count else "partly"

    @property
    def time(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")

    @property
    def targets(self) -> str:
        """The targets in one line."""
        return self._in_line([each.target for each in self.effects])

    @property
    def effect(self) -> str:
        """The different effects in one line."""
        return self._in_line([each.text for each in self.effects])

    @property
    def before(self) -> str:
        return self._in_line([each.before for each in self.effects])

    def _in_line(self, texts: Sequence[str]) -> str:
        different = [text for text in dict.fromkeys(texts) if text]
        line = "; ".join(different[:3])
        if len(different) > 3 or self.count > len(self.effects):
            line += f"; ... ({self.count} targets)"
        return line

    def row(self) -> Row:
        """The row of the table ``audit``."""
        return (
            self.time,
            self.operator,
            self.action,
            self.targets,
            self.effect,
            self.reason,
            self.outcome,
            self.before,
            self.role.value,
        )

    def line(self) -> bytes:
        """The line of the audit file, without its end."""
        content = {
            "time": self.time,
            "operator": self.operator,
            "role": self.role.value,
            "address": self.address,
            "outcome": self.outcome,
            "action": self.action,
            "arguments": self.arguments,
            "reason": self.reason,
            "count": self.count,
            "failed": self.failed,
            "effects": self.effects,
            "suppressed": self.suppressed,
        }
        return msgspec.json.encode(content)
