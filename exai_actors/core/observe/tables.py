"""A table that people watch: rows by key, and the difference between two states of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import msgspec

Cell = str | int | float | bool | None
Row = tuple[Cell, ...]
Rows = Mapping[str, Row]
Keyed = tuple[str, Row]
"""The key of a row, which is not among its cells, and the row."""


class ManyRows(ABC):
    """Rows that are made when they are read, because there may be very many.

    The rest of the program runs while a reader pauses between two rows; ``len`` is that at
    present.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Keyed]: ...


class TableChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """The change from one state of a table to the next.

    ``rows`` are whole new rows. ``cells`` are new cells of rows that stay, by key and column.
    ``order`` lists all keys if their order has changed.
    """

    rows: dict[str, Row] = {}
    cells: dict[str, dict[int, Cell]] = {}
    gone: tuple[str, ...] = ()
    order: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        return bool(self.rows or self.cells or self.gone or self.order is not None)


def difference(old: Rows, new: Rows) -> TableChange:
    """The change that turns ``old`` into ``new``; rows of one table have the same columns."""
    rows: dict[str, Row] = {}
    cells: dict[str, dict[int, Cell]] = {}
    for key, row in new.items():
        before = old.get(key)
        if before is None:
            rows[key] = row
        elif before != row or any(map(_differs_in_type, before, row)):
            cells[key] = {
                column: cell
                for column, cell in enumerate(row)
                if cell != before[column] or _differs_in_type(cell, before[column])
            }
    gone = tuple(key for key in old if key not in new)
    kept = [key for key in old if key in new]
    expected = [*kept, *rows]
    order = None if expected == list(new) else tuple(new)
    return TableChange(rows, cells, gone, order)


def _differs_in_type(one: Cell, other: Cell) -> bool:
    # 1, 1.0 and True are equal, and look different.
    return type(one) is not type(other)
