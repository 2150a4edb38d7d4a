"""The ring: the last minutes of the broker's tables, within a limit, and its figures for plots."""

from __future__ import annotations

from typing import Any

import msgspec

from exai_actors.client.console import WatchedTable
from exai_actors.console.feed import Sources
from exai_actors.console.ring import KEPT_S, MAX_BYTES, PART_S, Ring
from exai_actors.core.observe.query import Column, Kind, Table
from exai_actors.core.observe.tables import Row
from exai_actors.runtime import ManualDriver
from exai_actors.testing.clock import ManualClock

BROKER = Table(
    "broker",
    (
        Column("health", "Health", Kind.TEXT, ""),
        Column("queued", "Queued", Kind.COUNT, ""),
        Column("loop_lag_s", "Lag", Kind.SECONDS, ""),
    ),
)
OTHER = Table("actors", (Column("path", "Path", Kind.TEXT, ""),))


class Minutes:
    """A ring over a broker whose queue grows by one request a second."""

    def __init__(self, max_bytes: int = MAX_BYTES, *, tables: tuple[Table, ...] = (BROKER,)):
        self.driver = ManualDriver()
        self.clock = ManualClock(wall=1000.0)
        self.queued = 0
        self.text = "ok"
        sources = Sources()
        for table in tables:
            sources.add(table, self._rows)
        self.ring = Ring(sources, self.driver, self.clock.wall, max_bytes)
        self.ring.start()

    def _rows(self) -> list[tuple[str, Row]]:
        return [("broker", (self.text, self.queued, None))]

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.queued += 1
            self.clock.advance(1.0)
            self.driver.advance(1.0)

    def frames(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(frame) for frame in self.ring.frames()]


def test_the_figures_of_each_second_are_the_answer_for_plots() -> None:
    minutes = Minutes()
    minutes.run(2)
    assert minutes.ring.history() == {
        "every_s": 1.0,
        "columns": ["time", "queued", "loop_lag_s"],
        "rows": [[1000.0, 0, None], [1001.0, 1, None], [1002.0, 2, None]],
    }


def test_frames_replay_to_the_present_from_any_snapshot() -> None:
    minutes = Minutes()
    minutes.run(int(2 * PART_S + 5))
    frames = minutes.frames()
    starts = [at for at, frame in enumerate(frames) if frame["op"] == "snapshot"]
    assert [frames[start]["time"] for start in starts] == [1000.0, 1000.0 + PART_S, 1060.0]
    for start in starts:
        table = WatchedTable([])
        for frame in frames[start:]:
            table.apply(frame)
        assert table.rows == {"broker": ["ok", 65, None]}


def test_the_oldest_minutes_are_forgotten() -> None:
    minutes = Minutes()
    minutes.run(int(KEPT_S + 2 * PART_S))
    times = [frame["time"] for frame in minutes.frames()]
    assert times[0] == 1000.0 + 2 * PART_S
    assert times[-1] - times[0] == KEPT_S
    assert len(minutes.ring.history()["rows"]) == KEPT_S


def test_it_takes_no_more_than_its_bytes() -> None:
    minutes = Minutes(max_bytes=20_000)
    for second in range(300):
        minutes.text = f"{second}" * 1_000
        minutes.run(1)
        assert sum(map(len, minutes.ring.frames())) <= 20_000
    assert len(minutes.frames()) > 3


def test_a_stopped_ring_reads_nothing_and_keeps_its_frames() -> None:
    minutes = Minutes()
    minutes.ring.stop()
    before = minutes.frames()
    minutes.run(5)
    assert minutes.frames() == before != []


def test_tables_that_are_not_recorded_are_not_read() -> None:
    minutes = Minutes(tables=(OTHER,))
    minutes.run(3)
    assert minutes.frames() == []
    assert minutes.ring.history() == {"every_s": 1.0, "columns": ["time"], "rows": []}
