"""The tables that one console watches: snapshots and numbered changes, without input or output.

Rows are read for watched tables only, and once for all consoles that watch the same one at about
the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
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
REST = 50.0
"""So many times as long as its frames took a console rests: it may have 1/50 of the processor."""
# Between the parts of one reading it rests only so that others have their turns.
_BREATH = 4.0
HASTY_REST = 10.0
"""The same for queries of a person at the keys."""
HASTY_LOOKS = 8
"""So many new queries in a row are answered immediately: a person at the keys waits for them."""
MOST_KEPT_ROWS = 10_000
HASTY_SHARED_S = 3.0
"""They may show many rows of a moment ago, which are there already; few are read again."""
CHEAP_S = 0.002
"""Tables that take no longer than that do not wait for the rest after others."""
MOST_UNRESTED_S = 20.0
"""The rest that hasty and cheap ones may put off."""
ROWS_A_TURN = 200
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

    def rows(
        self, name: str, now: float, shared_s: float = _SHARED_FOR_S
    ) -> list[Keyed] | ManyRows:
        """The rows at ``now``, or those of a moment before; many are not read yet.

        Only many rows may be older than usual.
        """
        read_at, rows = self._read.get(name, (-inf, []))
        if now - read_at >= (shared_s if len(rows) > ROWS_A_TURN else _SHARED_FOR_S):
            read = self._tables[name][1]()
            if isinstance(read, ManyRows):
                return _KeptRows(read, partial(self._keep, name, now))
            rows = list(read)
            self._read[name] = now, rows
        return rows

    def _keep(self, name: str, now: float, rows: list[Keyed]) -> None:
        if self._watching[name]:
            self._read[name] = now, rows

    def fresh(self, name: str) -> list[Keyed] | ManyRows:
        """The rows at this moment, for something that acts on them; many are not read yet."""
        read = self._tables[name][1]()
        return read if isinstance(read, ManyRows) else list(read)

    def glance(self, name: str, now: float) -> list[Keyed] | ManyRows:
        """The rows at ``now`` for something that does not watch the table."""
        rows = self.rows(name, now)
        if not self._watching[name]:
            self._read.pop(name, None)
        return rows

    def forget(self) -> None:
        """Keep no rows: an operator who has changed something looks for the effect."""
        self._read.clear()

    def watched(self, name: str) -> None:
        """A console watches this table."""
        self._watching[name] += 1

    def unwatched(self, name: str) -> None:
        """A console no longer watches this table; after the last one its rows are forgotten."""
        self._watching[name] -= 1
        if not self._watching[name]:
            del self._watching[name]
            self._read.pop(name, None)


class _KeptRows(ManyRows):
    """Many rows that are kept once all have been read, unless they are too many."""

    def __init__(self, rows: ManyRows, keep: Callable[[list[Keyed]], object]) -> None:
        self._rows = rows
        self._keep = keep

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Keyed]:
        kept: list[Keyed] = []
        for keyed in self._rows:
            if len(kept) < MOST_KEPT_ROWS:
                kept.append(keyed)
            yield keyed
        if len(kept) < MOST_KEPT_ROWS:
            self._keep(kept)


class _Watched:
    def __init__(self, query: PreparedQuery, watch: Watch, due: float) -> None:
        self.query = query
        self.every_s = watch.every_s
        self.id = watch.id
        self.due = due
        self.is_hasty = False
        """Someone waits for these rows: they come before the rest is over."""
        self.cost_s = 0.0
        """How long the last frame took, in all its turns."""
        self.sent: dict[str, Row] | None = None
        """The rows that the console has; None before its snapshot."""
        self.counts = (0, 0)
        self.number = 0
        self.selecting: Selecting | None = None
        """The rows that are being read, if there are too many for one turn."""


class Feed:
    """The tables that one console watches. ``clock`` measures how long each takes to read."""

    def __init__(self, sources: Sources, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._sources = sources
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._read_at: dict[str, float] = {}
        self._rests_until = -inf
        self._haste = float(HASTY_LOOKS)
        self._haste_at = -inf

    def watch(self, watch: Watch) -> None:
        """Raises QueryError if the table or the query make no sense."""
        if not MIN_INTERVAL_S <= watch.every_s <= MAX_INTERVAL_S:
            raise QueryError(
                f"every_s must be from {MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g} seconds"
            )
        query = PreparedQuery(self._sources.table(watch.table), watch.query)
        if watch.table not in self._watched:
            self._sources.watched(watch.table)
        watched = _Watched(query, watch, self._earliest(watch.table))
        if self._haste >= 1:
            self._haste -= 1
            watched.is_hasty, watched.due = True, -inf
        self._watched[watch.table] = watched

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

    def next_due(self) -> float | None:
        """When ``frames`` has something to do again; None if nothing is watched."""
        return min(map(self._due, self._watched.values()), default=None)

    def _due(self, watched: _Watched) -> float:
        # A large table does not keep the small ones beside it from being up to date.
        goes_first = watched.is_hasty or (watched.sent is not None and watched.cost_s < CHEAP_S)
        return max(watched.due, self._rests_until - (MOST_UNRESTED_S if goes_first else 0.0))

    def rest(self, now: float, seconds: float) -> None:
        """Read and send nothing for so long, after the rest that is due already."""
        self._rests_until = max(self._rests_until, now) + seconds

    def _earliest(self, table: str) -> float:
        """A console that asks all the time costs no more than one that watches."""
        return self._read_at.get(table, -inf) + MIN_INTERVAL_S

    def frames(self, now: float, time: float) -> list[bytes]:
        """The frames of the tables that are due at ``now``; ``time`` is the wall clock's.

        A table without a change causes no frame. A console that missed some turns gets one change
        for all of them.
        """
        frames: list[bytes] = []
        if now > self._haste_at:
            saved = (now - self._haste_at) / MIN_INTERVAL_S
            self._haste, self._haste_at = min(HASTY_LOOKS, self._haste + saved), now
        for name, watched in self._watched.items():
            if self._due(watched) <= now:
                watched.due = now + watched.every_s
                self._read_at[name] = now
                frame = self._measured(name, watched, now, time)
                if frame is not None:
                    frames.append(frame)
        return frames

    def _measured(self, name: str, watched: _Watched, now: float, time: float) -> bytes | None:
        """The next frame of a table, and the rest for it."""
        is_hasty, before_s = watched.is_hasty, watched.cost_s if watched.selecting else 0.0
        began = self._clock()
        frame = self._frame(name, watched, now, time)
        took_s = self._clock() - began
        watched.cost_s = before_s + took_s
        if watched.selecting is None:
            self.rest(now, watched.cost_s * (HASTY_REST if is_hasty else REST))
        elif not is_hasty:
            self.rest(now, took_s * _BREATH)
        return frame

    def _frame(self, name: str, watched: _Watched, now: float, time: float) -> bytes | None:
        if watched.selecting is None:
            watched.selecting = watched.query.selecting(
                self._sources.rows(name, now, HASTY_SHARED_S if watched.is_hasty else _SHARED_FOR_S)
            )
        if not watched.selecting.step(ROWS_A_TURN):
            watched.due = now
            return None
        selection, watched.selecting = watched.selecting.selection, None
        watched.is_hasty = False
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
