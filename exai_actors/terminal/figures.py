"""The broker's figures over the last minutes, from its own ring and from what came since."""

from __future__ import annotations

from collections import deque
from typing import Any

from exai_actors.terminal.plots import rates

KEPT = 600
RATE_OVER = 10


class Figures:
    """Rows of the table ``broker`` by time, and the last one whole."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = {}
        self._times: deque[float] = deque(maxlen=KEPT)
        self._rows: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def clear(self) -> None:
        self.now = {}
        self._times.clear()
        self._rows.clear()

    def add(self, time: float, row: dict[str, Any]) -> None:
        """The row at this time; those of later times, as after a step back, are forgotten."""
        while self._times and time <= self._times[-1]:
            self._times.pop()
            self._rows.pop()
        self.now = row
        self._times.append(time)
        self._rows.append(row)

    def fill(self, history: dict[str, Any]) -> None:
        """Put the answer to ``history`` before the rows that have come already."""
        columns = history["columns"]
        rows = [dict(zip(columns, row, strict=True)) for row in history["rows"]]
        later = list(zip(self._times, self._rows, strict=True))
        now = self.now
        self.clear()
        for row in rows:
            self.add(row["time"], row)
        for time, row in later:
            self.add(time, row)
        self.now = now or self.now

    def series(self, column: str) -> list[float | None]:
        """The figures of a column, the newest last."""
        return [row.get(column) for row in self._rows]

    def rates(self, column: str) -> list[float | None]:
        """The growth per second of a total, the newest last."""
        return rates(list(self._times), self.series(column))

    def rate(self, column: str) -> float | None:
        """The growth per second of a total over the last seconds; None if not known yet."""
        times, totals = list(self._times)[-RATE_OVER:], self.series(column)[-RATE_OVER:]
        if len(times) < 2:
            return None
        return rates([times[0], times[-1]], [totals[0], totals[-1]])[0]
