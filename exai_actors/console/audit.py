"""Keeps the latest audit entries, and passes each to the log and the audit file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

import structlog

from exai_actors.core.log_budget import LogBudget
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.operations.audit import MAX_ENTRIES, AuditEntry

log = structlog.get_logger()

Write = Callable[[bytes], object]
"""Takes a line for the audit file; never waits."""


class Audit:
    """The audit log of one broker. Refused attempts beyond a rate have no entry of their own."""

    def __init__(self, write: Write | None = None) -> None:
        self._write = write
        self._entries: deque[tuple[str, AuditEntry]] = deque(maxlen=MAX_ENTRIES)
        self._numbers = count(1)
        self._refusals = LogBudget()

    def allows_refusal(self, now: float) -> int | None:
        """How many refusals before this one have no entry; None if it has none either."""
        return self._refusals.take_suppressed() if self._refusals.allow(now) else None

    def note(self, entry: AuditEntry) -> None:
        """Keep an entry, log it, and write it to the file."""
        self._entries.appendleft((str(next(self._numbers)), entry))
        if self._write is not None:
            self._write(entry.line())
        if entry.outcome == "refused":
            log.warning(
                "audit.refused",
                operator=entry.operator,
                role=entry.role.value,
                address=entry.address,
                action=entry.action,
                targets=entry.targets,
                count=entry.count,
                reason=entry.reason,
                cause=entry.effect,
                suppressed=entry.suppressed,
            )
        else:
            log.info(
                "audit.done",
                operator=entry.operator,
                role=entry.role.value,
                address=entry.address,
                action=entry.action,
                targets=entry.targets,
                count=entry.count,
                failed=entry.failed,
                reason=entry.reason,
                before=entry.before,
                effect=entry.effect,
            )

    def rows(self) -> Iterator[Keyed]:
        """The rows of the table ``audit``, the newest first."""
        return ((key, entry.row()) for key, entry in self._entries)
