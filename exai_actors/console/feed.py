"""The tables that one console watches: snapshots and numbered changes, without input or output.

Rows are read for watched tables only, and once for all consoles that watch the same one at about
the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from math import inf

from exai_actors.core.observe.query import PreparedQuery, QueryError, Selecting, Table
from exai_actors.core.observe.tables import Keyed, ManyRows, Row, difference
from exai_actors.wire.console import protocol
from exai_actors.wire.console.protocol import (
    MAX_INTERVAL_S,
    MIN_INTERVAL_S,
    Resync,
    Unwatch,
    Watch,
)

ReadRows = Callable[[], Iterable[Keyed]]

_SHARED_FOR_S = 0.1
ROWS_A_TURN = 1_000
"""Rows of one table that are read before the loop has its turn."""


class Sources:
    """The tables of a broker and how to read them; keeps rows of watched tables only."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[Table, ReadRows]] = {}
        self._read: dict[str, tuple[float, list[Keyed]]] = {}
        self._watching: Counter[str] = Counter()

    def add(self, table: Table, read: ReadRows) -> None:
        self._tables[table.name] = table, read

    @property
    def tables(self) -> tuple[Table, ...]:
        return tuple(table for table, _ in self._tables.values())

    def table(self, name: str) -> Table:
        """Raises QueryError for an unknown name."""
        if name not in self._tables:
            known = ", ".join(self._tables)
            raise QueryError(f"there is no table '{name}'; choose from {known}")
        return self._tables[name][0]

    def rows(self, name: str, now: float) -> list[Keyed] | ManyRows:
        """The rows at ``now``, or those of a moment before; many are not read yet."""
        read_at, rows = self._read.get(name, (-inf, []))
        if now - read_at >= _SHARED_FOR_S:
            read = self._tables[name][1]()
            if isinstance(read, ManyRows):
                return read
            rows = list(read)
            self._read[name] = now, rows
        return rows

    def fresh(self, name: str) -> list[Keyed]:
        """The rows at this moment, for something that acts on them."""
        return list(self._tables[name][1]())

    def glance(self, name: str, now: float) -> list[Keyed] | ManyRows:
        """The rows at ``now`` for something that does not watch the table."""
        rows = self.rows(name, now)
        if not self._watching[name]:
            self._read.pop(name, None)
        return rows

    def watched(self, name: str) -> None:
        """A console watches this table."""
        self._watching[name] += 1

    def unwatched(self, name: str) -> None:
        """A console no longer watches this table; after the last one its rows are forgotten."""
        self._watching[name] -= 1
        if not self._watching[name]:
            del self._watching[name]
            self._read.pop(name, None)


class _Watched:
    def __init__(self, query: PreparedQuery, watch: Watch, due: float) -> None:
        self.query = query
        self.every_s = watch.every_s
        self.id = watch.id
        self.due = due
        self.sent: dict[str, Row] | None = None
        """The rows that the console has; None before its snapshot."""
        self.counts = (0, 0)
        self.number = 0
        self.selecting: Selecting | None = None
        """The rows that are being read, if there are too many for one turn."""


class Feed:
    """The tables that one console watches."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._watched: dict[str, _Watched] = {}
        self._read_at: dict[str, float] = {}
        self._rests_until = -inf

    def watch(self, watch: Watch) -> None:
        """Raises QueryError if the table or the query make no sense."""
        if not MIN_INTERVAL_S <= watch.every_s <= MAX_INTERVAL_S:
            raise QueryError(
                f"every_s must be from {MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g} seconds"
            )
        query = PreparedQuery(self._sources.table(watch.table), watch.query)
        if watch.table not in self._watched:
            self._sources.watched(watch.table)
        due = self._earliest(watch.table)
        self._watched[watch.table] = _Watched(query, watch, due)

    def unwatch(self, unwatch: Unwatch) -> None:
        if self._watched.pop(unwatch.table, None) is not None:
            self._sources.unwatched(unwatch.table)

    def close(self) -> None:
        """Watch nothing any more: the console is gone."""
        while self._watched:
            self._sources.unwatched(self._watched.popitem()[0])

    def resync(self, resync: Resync) -> None:
        """Raises QueryError if the table is not watched."""
        watched = self._watched.get(resync.table)
        if watched is None:
            raise QueryError(f"the table '{resync.table}' is not watched")
        watched.sent = None
        watched.due = self._earliest(resync.table)

    @property
    def is_reading(self) -> bool:
        """Whether a table has more rows than were read in this turn."""
        return any(watched.selecting is not None for watched in self._watched.values())

    def next_due(self) -> float | None:
        """When ``frames`` has something to do again; None if nothing is watched."""
        due = min((watched.due for watched in self._watched.values()), default=None)
        return None if due is None else max(due, self._rests_until)

    def rest(self, until: float) -> None:
        """Read and send nothing before ``until``."""
        self._rests_until = max(self._rests_until, until)

    def _earliest(self, table: str) -> float:
        """A console that asks all the time costs no more than one that watches."""
        return self._read_at.get(table, -inf) + MIN_INTERVAL_S

    def frames(self, now: float, time: float) -> list[bytes]:
        """The frames of the tables that are due at ``now``; ``time`` is the wall clock's.

        A table without a change causes no frame. A console that missed some turns gets one change
        for all of them.
        """
        frames: list[bytes] = []
        if now < self._rests_until:
            return frames
        for name, watched in self._watched.items():
            if watched.due <= now:
                watched.due = now + watched.every_s
                self._read_at[name] = now
                frame = self._frame(name, watched, now, time)
                if frame is not None:
                    frames.append(frame)
        return frames

    def _frame(self, name: str, watched: _Watched, now: float, time: float) -> bytes | None:
        if watched.selecting is None:
            watched.selecting = watched.query.selecting(self._sources.rows(name, now))
        if not watched.selecting.step(ROWS_A_TURN):
            watched.due = now
            return None
        selection, watched.selecting = watched.selecting.selection, None
        counts = selection.matching, selection.total
        before, watched.sent = watched.sent, selection.rows
        if before is None:
            watched.counts = counts
            return protocol.snapshot(
                name, watched.number, time, selection.rows, *counts, watched.id
            )
        change = difference(before, selection.rows)
        if not change and counts == watched.counts:
            return None
        watched.counts = counts
        watched.number += 1
        return protocol.delta(name, watched.number, time, change, *counts)
