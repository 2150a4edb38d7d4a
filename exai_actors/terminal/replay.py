"""A recording as a source of frames, with a time cursor."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from pathlib import Path
from typing import Any

from exai_actors.client.console import WatchedTable
from exai_actors.core.observe.query import Column, Kind, PreparedQuery, Query, QueryError, Table
from exai_actors.errors import UsageError
from exai_actors.terminal.source import Listener, SeenTable, Window
from exai_actors.terminal.timeline import Timeline
from exai_actors.wire.console.recording import NotARecording, read_frame, read_header

TICK_S = 0.1
PLOTTED = "broker"
PLOTTED_S = 300.0


class Recording:
    """A file with frames. Only their times and places are kept in memory.

    Raises UsageError if the file cannot be read or is no recording.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.times: dict[str, list[float]] = {}
        self._places: dict[str, list[int]] = {}
        self._snapshots: dict[str, list[int]] = {}
        try:
            self._open = file.open("rb")
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
        try:
            self.header = read_header(self._open.readline())
            self._index()
        except (OSError, NotARecording) as error:
            self.close()
            raise UsageError(f"{file} is no recording of a console: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    @property
    def begin(self) -> float:
        return min(times[0] for times in self.times.values())

    @property
    def end(self) -> float:
        return max(times[-1] for times in self.times.values())

    def _index(self) -> None:
        place = self._open.tell()
        for line in self._open:
            frame = read_frame(line)
            if frame is not None:
                name = frame["table"]
                is_snapshot = frame["op"] == "snapshot"
                if is_snapshot or name in self.times:
                    times = self.times.setdefault(name, [])
                    if is_snapshot:
                        self._snapshots.setdefault(name, []).append(len(times))
                    times.append(frame["time"])
                    self._places.setdefault(name, []).append(place)
            place += len(line)
        if not self.times:
            raise NotARecording("it has no frames")

    def number(self, table: str, time: float) -> int:
        """The number of the last frame of a table at this time; -1 before the first."""
        return bisect_right(self.times[table], time) - 1

    def frames(self, table: str, after: int, number: int) -> list[dict[str, Any]]:
        """The frames that lead from ``after`` to ``number``, from a snapshot if that is shorter."""
        snapshots = self._snapshots[table]
        start = snapshots[bisect_right(snapshots, number) - 1]
        if start <= after <= number:
            start = after + 1
        return [self._frame(table, each) for each in range(start, number + 1)]

    def _frame(self, table: str, number: int) -> dict[str, Any]:
        self._open.seek(self._places[table][number])
        frame = read_frame(self._open.readline())
        assert frame is not None
        return frame


class ReplaySource:
    """See ``Source``. Filters, order and windows are those of the broker, on recorded rows."""

    def __init__(self, recording: Recording) -> None:
        self.greeting: dict[str, Any] = {**recording.header["greeting"], "actions": []}
        self.greeting["questions"] = ["history"]
        self.greeting["role"] = recording.header["fault"] or "recording"
        self.tables: dict[str, SeenTable] = {}
        fault_at = recording.header["time"] if recording.header["fault"] else None
        self.timeline = Timeline(recording.begin, recording.end, fault_at)
        self._recording = recording
        self._columns: dict[str, list[dict[str, str]]] = dict(self.greeting["tables"])
        self.greeting["tables"] = {
            name: columns for name, columns in self._columns.items() if name in recording.times
        }
        self._whole: dict[str, tuple[int, WatchedTable]] = {}
        self._windows: dict[str, Window] = {}
        self._listener: Listener | None = None
        self.timeline.moved = self._show_all

    def watch(self, table: str, window: Window) -> None:
        if self._windows.get(table) != window:
            self._windows[table] = window
            self._show(table)

    def unwatch(self, table: str) -> None:
        self._windows.pop(table, None)

    async def ask(self, question: str, of: str = "") -> dict[str, Any]:
        if question != "history":
            raise UsageError(f"a recording has no answer to '{question}' about {of}")
        return self._history()

    async def act(self, action: dict[str, Any]) -> dict[str, Any]:
        raise UsageError(f"{action['action']}: a recording cannot be acted on")

    async def run(self, listener: Listener) -> None:
        self._listener = listener
        listener.connected()
        while True:
            await asyncio.sleep(TICK_S)
            self.timeline.pass_time(TICK_S)

    def _show_all(self) -> None:
        for table in list(self._windows):
            self._show(table)

    def _show(self, table: str) -> None:
        window = self._windows[table]
        rows = self._rows_at(table, self.timeline.at)
        columns = tuple(
            Column(each["name"], each["title"], Kind(each["kind"]), each["help"])
            for each in self._columns[table]
        )
        query = Query(window.filter, window.sort, window.limit, window.skip)
        try:
            keyed = [(key, tuple(cells)) for key, cells in rows.items()]
            selection = PreparedQuery(Table(table, columns), query).select(keyed)
        except QueryError as error:
            if self._listener is not None:
                self._listener.refused(table, str(error))
            return
        seen = SeenTable(self._columns[table], window)
        seen.rows = {key: list(row) for key, row in selection.rows.items()}
        seen.matching, seen.total = selection.matching, selection.total
        seen.time = self.timeline.at
        self.tables[table] = seen
        if self._listener is not None:
            self._listener.changed(table)

    def _rows_at(self, table: str, time: float) -> dict[str, list[Any]]:
        number = self._recording.number(table, time)
        if number < 0:
            return {}
        at, whole = self._whole.get(table, (-1, WatchedTable([])))
        for frame in self._recording.frames(table, at if at >= 0 else -2, number):
            whole.apply(frame)
        self._whole[table] = number, whole
        return whole.rows

    def _history(self) -> dict[str, Any]:
        columns = [each["name"] for each in self._columns.get(PLOTTED, ())]
        rows: list[list[Any]] = []
        if PLOTTED in self._recording.times:
            times = self._recording.times[PLOTTED]
            table, at = WatchedTable([]), -2
            first = self._recording.number(PLOTTED, self.timeline.at - PLOTTED_S)
            for number in range(
                max(0, first), self._recording.number(PLOTTED, self.timeline.at) + 1
            ):
                for frame in self._recording.frames(PLOTTED, at, number):
                    table.apply(frame)
                at = number
                rows += [[times[number], *row] for row in table.rows.values()]
        return {"every_s": 1.0, "columns": ["time", *columns], "rows": rows}
