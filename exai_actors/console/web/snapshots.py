"""Reads tables for pages, within a budget: anyone who may look could load pages all the time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice

from exai_actors.console.feed import ROWS_A_TURN, Sources
from exai_actors.console.web.page import Section
from exai_actors.core.observe.query import PreparedQuery, Query, QueryError, Selection
from exai_actors.core.observe.tables import ManyRows

MOST_ROWS = 2_000
"""So many rows are read in one turn of the loop, longer tables in parts."""
_SHARE = 0.05
"""The part of the processor that pages may have in the long run."""
_CREDIT_S = 0.5
"""How much of it may be used in a row."""


class Snapshots:
    """The tables of pages. ``clock`` is in seconds, and ``cpu`` is the processor time used."""

    def __init__(
        self, sources: Sources, clock: Callable[[], float], cpu: Callable[[], float]
    ) -> None:
        self._sources = sources
        self._clock = clock
        self._cpu = cpu
        self._credit_s = _CREDIT_S
        self._counted_at = clock()
        self._long_page: object | None = None
        """The page whose long tables are being read."""

    @contextmanager
    def budget(self) -> Iterator[None]:
        """The work on one page, which is what the budget is for."""
        now, began = self._clock(), self._cpu()
        earned_s = _SHARE * (now - self._counted_at)
        self._credit_s = min(_CREDIT_S, self._credit_s + earned_s)
        self._counted_at = now
        try:
            yield
        finally:
            self._credit_s -= self._cpu() - began

    def sections(
        self, queries: list[tuple[str, Query]]
    ) -> Generator[None, None, tuple[Section, ...]]:
        """The tables with their rows, or with the reason why these are missing.

        Yields after each part of a long table, for a later turn of the loop. Only one page at a
        time reads such tables.
        """
        now = self._clock()
        if self._credit_s <= 0:
            busy = (
                "The broker was asked for many pages and leaves this snapshot out. Reload in "
                f"{-self._credit_s / _SHARE + 0.5:.0f} s; with scripts nothing is missing."
            )
            return tuple(
                Section(self._sources.table(name), query, None, busy) for name, query in queries
            )
        page = object()
        sections = []
        try:
            for name, query in queries:
                sections.append((yield from self._section(page, name, query, now)))
        finally:
            if self._long_page is page:
                self._long_page = None
        return tuple(sections)

    def _section(
        self, page: object, name: str, query: Query, now: float
    ) -> Generator[None, None, Section]:
        table = self._sources.table(name)
        try:
            prepared = PreparedQuery(table, query)
        except QueryError as error:
            return Section(table, query, None, f"{error}.")
        rows = self._sources.glance(name, now)
        if not isinstance(rows, ManyRows) or len(rows) <= MOST_ROWS:
            return Section(table, query, prepared.select(rows))
        if prepared.takes_all and query.skip + query.limit <= MOST_ROWS:
            window = dict(islice(rows, query.skip, query.skip + query.limit))
            return Section(table, query, Selection(window, len(rows), len(rows)))
        if self._long_page is not None and self._long_page is not page:
            busy = "The broker reads a long table for another page. Reload in a moment."
            return Section(table, query, None, busy)
        self._long_page = page
        # An iterator has no length that would make it read a large window in one step.
        selecting = prepared.selecting(iter(rows))
        while not selecting.step(ROWS_A_TURN):
            yield
        return Section(table, query, selecting.selection)
