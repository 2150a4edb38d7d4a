"""Reads tables for pages, within a budget: anyone who may look could load pages all the time."""

from __future__ import annotations

from collections.abc import Callable

from exai_actors.console.feed import Sources
from exai_actors.console.web.page import Section
from exai_actors.core.observe.query import PreparedQuery, Query, QueryError

_REST = 20.0
"""Rests so many times as long as the tables took: pages may have a twentieth of the processor."""
_REST_AT_MOST_S = 60.0


class Snapshots:
    """The tables of pages; ``clock`` is in seconds."""

    def __init__(self, sources: Sources, clock: Callable[[], float]) -> None:
        self._sources = sources
        self._clock = clock
        self._rests_until = float("-inf")

    def sections(self, queries: list[tuple[str, Query]]) -> tuple[Section, ...]:
        """The tables with their rows, or with the problem that there is."""
        began = self._clock()
        if began < self._rests_until:
            busy = (
                "The broker has many rows to read and leaves this snapshot out. "
                f"Reload in {self._rests_until - began:.0f} s; with scripts nothing is missing."
            )
            return tuple(
                Section(self._sources.table(name), query, None, busy) for name, query in queries
            )
        found = tuple(self._section(name, query, began) for name, query in queries)
        took = self._clock() - began
        self._rests_until = began + took + min(_REST_AT_MOST_S, _REST * took)
        return found

    def _section(self, name: str, query: Query, now: float) -> Section:
        table = self._sources.table(name)
        try:
            prepared = PreparedQuery(table, query)
        except QueryError as error:
            return Section(table, query, None, f"{error}.")
        return Section(table, query, prepared.select(self._sources.glance(name, now)))
