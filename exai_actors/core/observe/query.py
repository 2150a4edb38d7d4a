"""Choosing rows of a table: filter, order, and a window of them.

A filter consists of terms with blanks between them, all of which must match:

    kimi            some cell contains it, in any case
    !idle           no cell contains it
    state:held      the cell of that column contains it
    queued>=10      the number of that column compares so (>, >=, <, <=, =)
    "state: held"   quoted: some cell contains it, blanks and colons included
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from enum import StrEnum
from heapq import nlargest, nsmallest
from itertools import chain, islice

import msgspec

from exai_actors.core.observe.tables import Cell, Keyed, Row

MAX_ROWS = 2_000
MAX_SKIP = 1_000_000
MAX_FILTER_CHARACTERS = 200
MAX_FILTER_TERMS = 16

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_COMPARISON = re.compile(r"(\w+)(>=|<=|>|<|=)(.*)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_COLUMN = re.compile(r"(\w+):(.+)")
_TERM = re.compile(r'(?:"[^"]*"|[^\s"])+|"')


class Kind(StrEnum):
    """The meaning of a column's cells, which decides how they are shown and sorted."""

    TEXT = "text"
    COUNT = "count"
    TOTAL = "total"
    """A count that only grows; consoles can show its change in a window of time."""
    SECONDS = "seconds"
    SHARE = "share"
    """A part of a whole, from 0 to 1."""
    FLAG = "flag"
    BYTES = "bytes"


WARN_SHARE, BAD_SHARE = 0.7, 0.85
"""The parts of a limit from which on consoles show it as nearly and as almost used up."""


class Column(msgspec.Struct, frozen=True):
    """``name`` is stable and used in filters; ``title`` is for people; ``help`` explains it."""

    name: str
    title: str
    kind: Kind
    help: str


class Table(msgspec.Struct, frozen=True):
    """The columns of a table. The key of a row is not a column."""

    name: str
    columns: tuple[Column, ...]

    def index(self, column: str) -> int:
        """The place of a column. Raises QueryError for an unknown name."""
        for place, each in enumerate(self.columns):
            if each.name == column:
                return place
        known = ", ".join(each.name for each in self.columns)
        raise QueryError(f"there is no column '{column}' in {self.name}; choose from {known}")


class Query(msgspec.Struct, frozen=True):
    """``sort`` is the name of a column, with ``-`` before it for descending order; empty keeps the
    order of the broker. At most ``limit`` rows, the first ``skip`` left out.
    """

    filter: str = ""
    sort: str = ""
    limit: int = 200
    skip: int = 0


class QueryError(ValueError):
    """A query that cannot be answered; the text says why."""


Test = Callable[[Row, str], bool]


class Selection(msgspec.Struct, frozen=True):
    """The rows that a query chooses; ``matching`` counts those before the window was cut."""

    rows: dict[str, Row]
    matching: int
    total: int


class PreparedQuery:
    """A query for one table, checked. Raises QueryError if it does not fit the table."""

    def __init__(self, table: Table, query: Query) -> None:
        if not (1 <= query.limit <= MAX_ROWS and 0 <= query.skip <= MAX_SKIP):
            raise QueryError(
                f"limit must be from 1 to {MAX_ROWS}, and skip from 0 to {MAX_SKIP}; "
                "a filter finds rows further on"
            )
        if len(query.filter) > MAX_FILTER_CHARACTERS:
            raise QueryError(f"a filter has at most {MAX_FILTER_CHARACTERS} characters")
        terms = _TERM.findall(query.filter)
        if '"' in terms:
            raise QueryError("a quotation mark of the filter is not closed")
        if len(terms) > MAX_FILTER_TERMS:
            raise QueryError(f"a filter has at most {MAX_FILTER_TERMS} terms")
        self._tests = [_test(table, term) for term in terms]
        self._needs_text = any(map(_is_text, terms))
        self._descending = query.sort.startswith("-")
        name = query.sort.removeprefix("-")
        self._sort = table.index(name) if name else None
        self._first, self._end = query.skip, query.skip + query.limit

    def matching(self, rows: Iterable[Keyed]) -> list[Keyed]:
        """All rows that match the filter, in their order."""
        return [keyed for keyed in rows if self._matches(keyed[1])]

    def select(self, rows: Iterable[Keyed]) -> Selection:
        """Choose among all rows, whatever time that takes."""
        selecting = self.selecting(rows)
        selecting.step(None)
        return selecting.selection

    def selecting(self, rows: Iterable[Keyed]) -> Selecting:
        """Choose among many rows in steps."""
        return Selecting(self, rows)

    @property
    def takes_all(self) -> bool:
        """Whether it takes the rows as they are, so that those behind its window need no look."""
        return not self._tests and self._sort is None

    def _matches(self, row: Row) -> bool:
        # The text of a row is made once for all terms; no term contains a line feed.
        text = "\n".join(map(_text, row)) if self._needs_text else ""
        return all(test(row, text) for test in self._tests)

    def first(self, rows: Iterable[Keyed]) -> list[Keyed]:
        """Those of the rows that may be in the window, in their order."""
        place = self._sort
        if place is None:
            return list(islice(rows, self._end))
        # Sorting all of 50,000 rows for the first 50 would take ten times as long.
        first = nlargest if self._descending else nsmallest
        return first(self._end, rows, key=lambda keyed: _order(keyed[1][place]))

    def window(self, rows: Sequence[Keyed]) -> dict[str, Row]:
        return dict(rows[self._first : self._end])


class Selecting:
    """A selection under way: the rows are read in steps, so that nothing waits for all of them."""

    def __init__(self, query: PreparedQuery, rows: Iterable[Keyed]) -> None:
        self._query = query
        self._rows = iter(rows)
        self._best: list[Keyed] = []
        self._matching = 0
        self._total = 0
        if query.takes_all and isinstance(rows, Sized):
            self._best = query.first(self._rows)
            self._matching = self._total = max(len(rows), len(self._best))
            self._rows = iter(())

    def step(self, most: int | None) -> bool:
        """Read that many rows more (None: all); return whether all are read."""
        chunk = list(islice(self._rows, most))
        chosen = chunk if self._query.takes_all else self._query.matching(chunk)
        self._matching += len(chosen)
        self._total += len(chunk)
        self._best = self._query.first(chain(self._best, chosen))
        return most is None or len(chunk) < most

    @property
    def selection(self) -> Selection:
        """The result, once all rows are read."""
        return Selection(self._query.window(self._best), self._matching, self._total)


def _test(table: Table, term: str) -> Test:
    if term.startswith("!") and len(term) > 1:
        inverse = _test(table, term[1:])
        return lambda row, text: not inverse(row, text)
    if comparison := _COMPARISON.fullmatch(term):
        name, sign, bound_text = comparison.groups()
        place = _index_of_term(table, name, term)
        if table.columns[place].kind is Kind.TEXT:
            raise QueryError(f"{name} is text and cannot be compared; use {name}:{bound_text}")
        if not _NUMBER.fullmatch(bound_text):
            raise QueryError(f"{name}{sign} needs a number, and '{bound_text}' is none")
        compare, bound = _COMPARISONS[sign], float(bound_text)
        return lambda row, _: _compares(row[place], compare, bound)
    if (column := _COLUMN.fullmatch(term)) and not term.startswith('"'):
        place, wanted = _index_of_term(table, column[1], term), _unquoted(column[2]).lower()
        return lambda row, _: wanted in _text(row[place])
    sought = _unquoted(term).lower()
    return lambda _, text: sought in text


def _is_text(term: str) -> bool:
    """Whether the term is sought in the text of a whole row."""
    bare = term.lstrip("!")
    is_of_column = _COLUMN.fullmatch(bare) and not bare.startswith('"')
    return not (is_of_column or _COMPARISON.fullmatch(bare))


def _index_of_term(table: Table, column: str, term: str) -> int:
    try:
        return table.index(column)
    except QueryError as error:
        raise QueryError(f'{error}; to search for this text, quote it: "{term}"') from None


def _unquoted(text: str) -> str:
    return text.replace('"', "")


def _compares(cell: Cell, compare: Callable[[float, float], bool], bound: float) -> bool:
    return isinstance(cell, int | float) and compare(cell, bound)


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell).lower()


def _order(cell: Cell) -> tuple[int, float, str]:
    """Empty cells come first, numbers before text."""
    if cell is None:
        return (0, 0.0, "")
    if isinstance(cell, str):
        return (2, 0.0, cell)
    return (1, float(cell), "")
