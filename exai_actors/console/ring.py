"""The last minutes of a few tables, kept for plots and for the time before a fault."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from exai_actors.console.feed import Feed, Sources
from exai_actors.core.observe.figure_ring import FigureRing
from exai_actors.core.observe.query import Kind
from exai_actors.core.observe.tables import Cell
from exai_actors.runtime import Cancellable, Driver
from exai_actors.wire.console.protocol import Resync, Watch

TABLES = ("broker", "providers", "events", "alarms")
PLOTTED = "broker"
EVERY_S = 1.0
KEPT_S = 300.0
PART_S = 30.0
MAX_BYTES = 4_194_304
MAX_ROWS = 100

_WITHOUT_FIGURES = {Kind.TEXT, Kind.FLAG}


class Ring:
    """Frames of ``TABLES`` from now back to ``KEPT_S`` ago, at most ``MAX_BYTES`` of them.

    It consists of parts that begin with snapshots; the oldest part is forgotten as a whole.
    """

    def __init__(
        self,
        sources: Sources,
        driver: Driver,
        wall: Callable[[], float],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._sources = sources
        self._driver = driver
        self._wall = wall
        self._max_bytes = max_bytes
        self._feed = Feed(sources)
        self._parts: deque[tuple[float, list[bytes]]] = deque()
        self._bytes = 0
        self._part_bytes = 0
        self._figures = FigureRing(0, 1)
        self._timer: Cancellable | None = None
        self.on_sample: Callable[[], object] = lambda: None
        self.on_cost: Callable[[float], object] = lambda _: None
        """Called with the seconds that each sample took."""

    def start(self) -> None:
        """Sample from now on, until ``stop``."""
        self._figures = FigureRing(1 + len(self._plotted()), int(KEPT_S / EVERY_S))
        for name in self._recorded():
            self._feed.watch(Watch(name, limit=MAX_ROWS, every_s=EVERY_S))
        self._sample()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._feed.close()

    def frames(self) -> list[bytes]:
        """The frames, the oldest first. May be called on any thread."""
        return [frame for _, frames in tuple(self._parts) for frame in tuple(frames)]

    def history(self) -> dict[str, Any]:
        """The figures of the broker at each second: ``time`` is that of the wall clock."""
        return {
            "every_s": EVERY_S,
            "columns": ["time", *self._plotted()],
            "rows": [list(map(_figure, row)) for row in self._figures],
        }

    def latest(self, column: str) -> float | None:
        """A figure of the last sample; None if there is none."""
        columns = ["time", *self._plotted()]
        if not self._figures or column not in columns:
            return None
        return _figure(self._figures[-1][columns.index(column)])

    def _recorded(self) -> list[str]:
        return [table.name for table in self._sources.tables if table.name in TABLES]

    def _plotted(self) -> dict[str, int]:
        """The columns of the broker's table that are figures, with their places."""
        for table in self._sources.tables:
            if table.name == PLOTTED:
                columns = enumerate(table.columns)
                return {each.name: at for at, each in columns if each.kind not in _WITHOUT_FIGURES}
        return {}

    def _sample(self) -> None:
        self._timer = self._driver.call_later(EVERY_S, self._sample)
        now, wall = self._driver.now(), self._wall()
        if self._is_new_part_due(now):
            for name in self._recorded():
                self._feed.resync(Resync(name))
            self._parts.append((now, []))
            self._part_bytes = 0
        added = self._feed.frames(now, wall)
        self._parts[-1][1].extend(added)
        size = sum(map(len, added))
        self._part_bytes += size
        self._bytes += size
        self._forget(now)
        self._note_figures(now, wall)
        self.on_cost(self._driver.now() - now)
        self.on_sample()

    def _is_new_part_due(self, now: float) -> bool:
        if not self._parts or now - self._parts[-1][0] >= PART_S:
            return True
        return self._part_bytes >= self._max_bytes / 4

    def _forget(self, now: float) -> None:
        while len(self._parts) > 1 and (
            self._parts[1][0] <= now - KEPT_S or self._bytes > self._max_bytes
        ):
            self._bytes -= sum(map(len, self._parts.popleft()[1]))

    def _note_figures(self, now: float, wall: float) -> None:
        places = self._plotted().values()
        if places:
            for _, row in self._sources.rows(PLOTTED, now):
                figures = [row[place] for place in places]
                self._figures.append(map(_number, (round(wall, 3), *figures)))


def _number(figure: Cell) -> float:
    return math.nan if figure is None else float(figure)


def _figure(number: float) -> float | None:
    return None if math.isnan(number) else number
