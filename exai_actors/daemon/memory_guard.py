"""Keeps the memory of the process within its limits.

Nothing is counted while requests are served. Instead the guard adds up the buffers of all
connections and sessions, once a second, and more often when much is in use.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import structlog

from exai_actors.core.memory.budget import BufferBudget, Measures
from exai_actors.core.memory.shares import cuts
from exai_actors.core.statistics import MemoryStatistics
from exai_actors.daemon.process_memory import available_bytes, resident_bytes, returner

log = structlog.get_logger()

MAX_SHARE = 0.5
"""Part of the memory available to the process that its buffers may take."""

_CALM_S = 1.0
_BUSY_S = 0.1
# Part of the limit above which the guard looks more often.
_BUSY_SHARE = 0.25
# Freed memory is worth returning from this size on.
_RETURNED_BYTES = 64 * 1024 * 1024


class Holder(Protocol):
    """A connection or a session."""

    def held_bytes(self) -> int:
        """The size of its buffers."""

    def restrain(self) -> None:
        """Take in nothing more until ``release``."""

    def release(self) -> None: ...

    def end_if_left(self) -> None:
        """End it if it belongs to a client that has left: a restrained socket does not notice."""

    def give_up(self) -> None:
        """Free its buffers now, if it can."""


class Keeper(Holder, Protocol):
    """A session, which also keeps outcomes and conversations."""

    @property
    def tenant(self) -> str: ...

    def kept_bytes(self) -> int: ...

    def shrink(self, size: int) -> None:
        """Keep at most ``size`` bytes."""


class MemoryGuard:
    """Looks at all ``connections`` and ``sessions`` and acts on the memory of each."""

    def __init__(
        self,
        buffer_limit: int,
        kept_limit: int,
        connections: Callable[[], Iterable[Holder]],
        sessions: Callable[[], Iterable[Keeper]],
        *,
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        self._budget: BufferBudget[Holder] = BufferBudget(buffer_limit)
        self._kept_limit = kept_limit
        self._connections = connections
        self._sessions = sessions
        self._resident = resident
        self._buffered = 0
        self._kept = 0
        self._alarms = 0
        self._ended = 0
        self._resident_at_look = self._base = resident()

    def statistics(self) -> MemoryStatistics:
        """The figures of the last look."""
        return MemoryStatistics(
            buffered=self._buffered,
            kept=self._kept,
            buffer_limit=self._budget.limit,
            kept_limit=self._kept_limit,
            resident=self._resident_at_look,
            alarm=self._budget.is_short,
            restrained=self._budget.restrained,
            alarms=self._alarms,
            ended=self._ended,
        )

    def look(self) -> float:
        """Measure and act; return the seconds until the next look."""
        for holder in self._budget.restrained_holders():
            holder.end_if_left()
        sessions = list(self._sessions())
        self._shrink_kept(sessions)
        held = [(each, each.held_bytes()) for each in (*self._connections(), *sessions)]
        self._buffered = sum(size for _, size in held)
        self._carry_out(self._budget.look(held))
        self._resident_at_look = self._resident()
        is_busy = self._budget.is_short or self._buffered > self._budget.limit * _BUSY_SHARE
        return _BUSY_S if is_busy else _CALM_S

    def has_freed_much(self) -> bool:
        """Whether the process has much memory that nothing accounts for."""
        resident = self._resident()
        self._base = min(self._base, resident)
        idle = resident - self._base - self._buffered - self._kept
        return idle > _RETURNED_BYTES and not self._budget.is_short

    def note_returned(self) -> None:
        """Freed memory was returned to the system; the rest cannot be, or is in use.

        Buffers and outcomes that are in use now are not part of the base: they are freed later.
        """
        self._base = max(0, self._resident() - self._buffered - self._kept)

    def _shrink_kept(self, sessions: Iterable[Keeper]) -> None:
        kept: dict[str, dict[Keeper, int]] = {}
        for session in sessions:
            kept.setdefault(session.tenant, {})[session] = session.kept_bytes()
        self._kept = sum(sum(each.values()) for each in kept.values())
        found = cuts(kept, self._kept_limit)
        for session, size in found.items():
            session.shrink(size)
        if found:
            log.info("memory.outcomes_dropped", sessions=len(found), kept=self._kept)

    def _carry_out(self, measures: Measures[Holder]) -> None:
        for holder in measures.restrain:
            holder.restrain()
        for holder in measures.release:
            holder.release()
        for holder in measures.give_up:
            holder.give_up()
        self._ended += len(measures.give_up)
        if measures.changed and self._budget.is_short:
            self._alarms += 1
            log.warning(
                "memory.alarm_raised",
                buffered=self._buffered,
                limit=self._budget.limit,
                restrained=self._budget.restrained,
            )
        elif measures.changed:
            log.info("memory.alarm_cleared", buffered=self._buffered, limit=self._budget.limit)
        if measures.give_up:
            log.warning(
                "memory.connections_ended", ended=len(measures.give_up), buffered=self._buffered
            )


def buffer_limit(configured: int) -> int:
    """``configured``, or less where this process may not take that much memory."""
    available = available_bytes()
    if available is None or configured <= available * MAX_SHARE:
        return configured
    limit = int(available * MAX_SHARE)
    log.warning("memory.limit_lowered", configured=configured, limit=limit, available=available)
    return limit


@contextlib.contextmanager
def guarding(guard: MemoryGuard) -> Iterator[None]:
    """Let the guard look at the memory during the block."""
    task = asyncio.ensure_future(_look_repeatedly(guard))
    try:
        yield
    finally:
        task.cancel()


async def _look_repeatedly(guard: MemoryGuard) -> None:
    give_back = returner()
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(guard.look())
        if give_back is not None and guard.has_freed_much():
            # In a thread: it may take long, and releases the interpreter.
            try:
                await loop.run_in_executor(None, give_back)
            except RuntimeError:  # there is no memory for a thread
                give_back()
            guard.note_returned()
