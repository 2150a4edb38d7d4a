"""A ring of figures: the last rows, in memory that does not grow."""

from __future__ import annotations

import sys

import pytest

from exai_actors.core.observe.figure_ring import FigureRing


def rows(ring: FigureRing) -> list[list[float]]:
    return [list(row) for row in ring]


@pytest.mark.parametrize("added", [0, 1, 2, 3, 4, 7, 9])
def test_the_last_rows_are_kept_the_oldest_first(added: int) -> None:
    ring = FigureRing(width=2, length=3)
    for number in range(added):
        ring.append((number, number / 4))
    kept = [[number, number / 4] for number in range(max(0, added - 3), added)]
    assert rows(ring) == kept
    assert len(ring) == len(kept)
    assert sorted(ring.column(1)) == [quarter for _, quarter in kept]
    assert [list(ring[at]) for at in range(-len(kept), 0)] == kept


def test_there_is_no_row_beyond_the_ends() -> None:
    ring = FigureRing(width=1, length=3)
    with pytest.raises(IndexError, match="row 0 of 0"):
        ring[0]
    ring.append((1.0,))
    for index in (1, -2):
        with pytest.raises(IndexError, match=f"row {index} of 1"):
            ring[index]


@pytest.mark.parametrize("row", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_a_row_of_another_width_is_refused_and_changes_nothing(row: tuple[float, ...]) -> None:
    ring = FigureRing(width=2, length=3)
    ring.append((1.0, 2.0))
    with pytest.raises(ValueError, match=f"2 figures, not {len(row)}"):
        ring.append(row)
    assert rows(ring) == [[1.0, 2.0]]


def test_rows_leave_no_objects() -> None:
    ring = FigureRing(width=4, length=1_000)
    before = sys.getallocatedblocks()
    for number in range(1_000):
        ring.append((number + 0.5, 1.5, 2.5, 3.5))
    assert sys.getallocatedblocks() < before + 100
