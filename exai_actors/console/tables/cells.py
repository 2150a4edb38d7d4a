"""The kinds of columns, figures as cells, and rows that are made when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from exai_actors.console.parts import SizedStates
from exai_actors.core.observe.query import Kind
from exai_actors.core.observe.tables import Keyed, ManyRows

S = TypeVar("S")

TEXT, COUNT, TOTAL = Kind.TEXT, Kind.COUNT, Kind.TOTAL
SECONDS, SHARE, FLAG, BYTES = Kind.SECONDS, Kind.SHARE, Kind.FLAG, Kind.BYTES


def share(part: float, whole: float) -> float | None:
    return round(part / whole, 3) if whole else None


def instant(seconds: float) -> float:
    """To the millisecond, after days too: instants are compared with a log."""
    return round(seconds, 3)


def rounded(seconds: float) -> float:
    """With three digits that mean something: figures that look different are different."""
    return float(f"{seconds:.3g}")


def rounded_if(seconds: float | None) -> float | None:
    return None if seconds is None else rounded(seconds)


class StateRows(ManyRows, Generic[S]):
    """One row for each state, made when it is read: there may be many."""

    def __init__(self, states: SizedStates[S], row: Callable[[S], Keyed]) -> None:
        self._states = states
        self._row = row

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[Keyed]:
        return map(self._row, self._states)
