"""Recordings: any instant of them, forwards and backwards, in the panes of the console."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exai_actors.errors import UsageError
from exai_actors.terminal.app import ConsoleApp
from exai_actors.terminal.replay import Recording, ReplaySource
from exai_actors.terminal.source import Window
from exai_actors.terminal.timeline import Timeline
from tests.terminal.scripted import SMALL, TABLES, screen_text, settle

BEGIN = 1_700_000_000.0
SECONDS = 60


def broker(second: int) -> list[Any]:
    return ["ok", 100.0 + second, 3, 9, second, 10 * second, 0, 0, 0, 0.001, 5, 5, 0, 0.0]


def kimi(second: int) -> list[Any]:
    return ["kimi", "serving", 6, second % 7, 0, True, second, 0.1, 1.0, 10 * second, 0]


def frame(op: str, table: str, second: int, **rest: Any) -> bytes:
    content = {"op": op, "table": table, "seq": second, "time": BEGIN + second}
    return msgspec.json.encode({**content, "matching": 1, "total": 1, **rest})


def lines(fault: str = "", version: int = 1) -> list[bytes]:
    """A minute in which the queue grows by one a second; snapshots every 20 seconds."""
    greeting = {"version": 1, "role": "admin", "broker": {"version": "1.2.3"}, "tables": TABLES}
    header = {
        "op": "recording",
        "version": version,
        "time": BEGIN + 45,
        "fault": fault,
        "greeting": greeting,
    }
    found = [msgspec.json.encode(header)]
    for second in range(SECONDS + 1):
        for name, row in (("broker", broker(second)), ("providers", kimi(second))):
            if second % 20 == 0:
                found.append(frame("snapshot", name, second, rows=[[name, *row]]))
            else:
                cells = {str(at): cell for at, cell in enumerate(row)}
                found.append(frame("delta", name, second, cells={name: cells}))
    return found


def file_with(folder: Path, content: list[bytes]) -> Path:
    file = folder / "minute.exai"
    file.write_bytes(b"\n".join([*content, b""]))
    return file


@pytest.mark.parametrize("route", [[5], [59, 5], [5, 6, 7], [19, 20, 21], [60, 0], [40, 39, 41]])
def test_any_way_to_an_instant_shows_its_rows(tmp_path: Path, route: list[int]) -> None:
    with closing(Recording(file_with(tmp_path, lines()))) as recording:
        source = ReplaySource(recording)
        source.watch("providers", Window())
        for second in route:
            source.timeline.seek(BEGIN + second)
            assert source.tables["providers"].rows == {"providers": kimi(second)}


def test_filters_and_order_are_those_of_the_broker(tmp_path: Path) -> None:
    rows = [[name, *kimi(second)] for second, name in enumerate(["a", "b", "c"])]
    content = [lines()[0], frame("snapshot", "providers", 0, rows=rows)]
    with closing(Recording(file_with(tmp_path, content))) as recording:
        source = ReplaySource(recording)
        source.watch("providers", Window(filter="queued>=1", sort="-queued", limit=1))
        table = source.tables["providers"]
        assert (list(table.rows), table.matching, table.total) == (["c"], 2, 3)


def test_a_recording_that_was_cut_off_is_shown_up_to_there(tmp_path: Path) -> None:
    content = lines()
    with closing(Recording(file_with(tmp_path, [*content[:41], content[41][:20]]))) as recording:
        assert recording.end == BEGIN + 19


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "its first line is not JSON"),
        ([b"\x00\xff"], "its first line is not JSON"),
        ([b"{}"], "not the header of a recording"),
        ([b'{"op": "hello"}'], "not the header of a recording"),
        (lines(version=2)[:3], "it has version 2 of the format, and this console reads 1"),
        (lines()[:1], "it has no frames"),
        ([lines()[0], lines()[3]], "it has no frames"),
    ],
)
def test_other_files_are_refused_with_the_reason(
    tmp_path: Path, content: list[bytes], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Recording(file_with(tmp_path, content))


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nothing.exai: No such file"):
        Recording(tmp_path / "nothing.exai")


async def test_a_replay_has_the_same_panes_with_a_time_cursor(tmp_path: Path) -> None:
    with closing(Recording(file_with(tmp_path, lines()))) as recording:
        source = ReplaySource(recording)
        app = ConsoleApp(source, "minute.exai", timeline=source.timeline)
        async with app.run_test(size=SMALL) as pilot:
            await settle(pilot)
            assert "REPLAY" in screen_text(app)
            assert "queued 0 " in screen_text(app)
            await pilot.press("right", "right", "right")
            await settle(pilot)
            assert "queued 3 " in screen_text(app)
            await pilot.press("shift+right", "left")
            await settle(pilot)
            assert "queued 12 " in screen_text(app)
            assert "22:13:32" in screen_text(app)
            await pilot.press("end")
            await settle(pilot)
            assert "queued 60 " in screen_text(app)
            await pilot.press("2", "a")
            await settle(pilot)
            assert "a recording cannot be acted on" in screen_text(app)
            assert "kimi" in screen_text(app)


def test_a_fault_is_where_the_replay_begins(tmp_path: Path) -> None:
    with closing(Recording(file_with(tmp_path, lines("kimi failed")))) as recording:
        assert ReplaySource(recording).timeline.at == BEGIN + 46


async def test_the_plots_of_an_instant_are_those_before_it(tmp_path: Path) -> None:
    with closing(Recording(file_with(tmp_path, lines()))) as recording:
        source = ReplaySource(recording)
        source.timeline.seek(BEGIN + 30)
        history = await source.ask("history")
        queued = history["columns"].index("queued")
        assert [row[queued] for row in history["rows"]] == list(range(31))


def test_playing_moves_with_its_speed_and_stops_at_the_end() -> None:
    timeline = Timeline(BEGIN, BEGIN + 10)
    timeline.pass_time(1.0)
    assert timeline.at == BEGIN
    timeline.toggle()
    timeline.change_speed(1)
    timeline.pass_time(1.5)
    assert timeline.at == BEGIN + 3
    timeline.pass_time(60.0)
    assert (timeline.at, timeline.is_playing) == (BEGIN + 10, False)
    timeline.toggle()
    assert (timeline.at, timeline.is_playing) == (BEGIN, True)
