"""Recordings of faults on disk: written, limited in number, and never in the way."""

from __future__ import annotations

import contextlib
import stat
import threading
from pathlib import Path

import structlog

from exai_actors.daemon.fault_recordings import KEPT, FaultRecordings
from exai_actors.runtime import LoopActor
from exai_actors.terminal.replay import Recording
from exai_actors.testing.broker import running_broker


def test_only_the_newest_files_are_kept_and_other_files_stay(tmp_path: Path) -> None:
    for number in range(KEPT + 5):
        (tmp_path / f"fault-20200101T0000{number:02}-1.exai").write_text("")
    (tmp_path / "notes.exai").write_text("")
    FaultRecordings(tmp_path).write([b"a", b"b"], "boom")
    names = sorted(path.name for path in tmp_path.glob("fault-*"))
    assert len(names) == KEPT
    assert (tmp_path / names[-1]).read_bytes() == b"a\nb\n"
    assert stat.S_IMODE((tmp_path / names[-1]).stat().st_mode) == 0o600
    assert (tmp_path / "notes.exai").exists()


def test_a_folder_that_cannot_be_written_is_logged(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with structlog.testing.capture_logs() as entries:
        FaultRecordings(tmp_path / "file").write([b"a"], "boom")
    assert [entry["event"] for entry in entries] == ["recording.not_saved"]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


class Failing(LoopActor):
    def on_receive(self, message: object) -> None:
        raise ValueError(message)


async def test_a_broker_saves_its_last_minutes_when_an_actor_fails(tmp_path: Path) -> None:
    async with running_broker({"server": {"recordings": str(tmp_path)}}) as running:
        running.broker.system.spawn(Failing, path="/failing").tell("boom")
    with contextlib.closing(Recording(*files(tmp_path))) as recording:
        fault = recording.header["fault"]
        assert fault.startswith("/failing failed: ValueError at test_fault_recordings.py:")
        assert "boom" not in fault
        assert {"broker", "providers", "events"} <= set(recording.times)


async def test_the_watchdog_saves_them_on_its_own_thread(tmp_path: Path) -> None:
    async with running_broker({"server": {"recordings": str(tmp_path)}}) as running:
        watchdog = threading.Thread(target=running.broker.save_recording, args=("stalled",))
        watchdog.start()
        watchdog.join()
        [file] = files(tmp_path)
    with contextlib.closing(Recording(file)) as recording:
        assert recording.header["fault"] == "stalled"


async def test_without_a_folder_nothing_is_saved(tmp_path: Path) -> None:
    async with running_broker({}) as running:
        running.broker.save_recording("stalled")
    assert files(tmp_path) == []
