"""The last rows of figures, in memory of their own."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator


class FigureRing:
    """The last ``length`` rows of ``width`` figures; a new row overwrites the oldest.

    It makes no objects that last. Those would lie between the objects of a burst of sessions, and
    one keeps a MiB of the allocator's memory from being returned to the system.
    """

    __slots__ = ("_added", "_figures", "_length", "_width")

    def __init__(self, width: int, length: int) -> None:
        self._width = width
        self._length = length
        self._figures = array("d", bytes(8 * width * length))
        self._added = 0

    def append(self, row: Iterable[float]) -> None:
        """Add a row, in place of the oldest if there are ``length`` of them."""
        figures = array("d", row)
        if len(figures) != self._width:
            raise ValueError(f"a row has {self._width} figures, not {len(figures)}")
        start = self._added % self._length * self._width
        self._figures[start : start + self._width] = figures
        self._added += 1

    def __len__(self) -> int:
        return min(self._added, self._length)

    def __getitem__(self, index: int) -> array[float]:
        """A row: 0 is the oldest, -1 the latest."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        from_end = index % len(self) - len(self)
        start = (self._added + from_end) % self._length * self._width
        return self._figures[start : start + self._width]

    def __iter__(self) -> Iterator[array[float]]:
        """The rows, the oldest first."""
        return map(self.__getitem__, range(len(self)))

    def column(self, at: int) -> array[float]:
        """The figures of one column, in any order."""
        return self._figures[at : len(self) * self._width : self._width]
