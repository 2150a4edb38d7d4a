"""The health file is rewritten repeatedly and is complete at any instant."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, TextIO

import pytest

from exai_actors.compat.health_file import HealthFile
from exai_actors.errors import UsageError


def opened(path: Path) -> TextIO:
    return path.open()


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class Counting:
    """A content that counts its calls and lets a test wait for them."""

    def __init__(self) -> None:
        self.asked = 0
        self._changed = asyncio.Condition()

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        self._wake = asyncio.get_running_loop().create_task(self._notify())
        return {"t": self.asked, "host": "127.0.0.1", "sessions": 0}

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, asked: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.asked >= asked)


async def test_start_writes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "ws_daemon.health.json"
    file = HealthFile(path, Counting())
    await file.start()
    assert path.read_text() == '{\n  "host": "127.0.0.1",\n  "sessions": 0,\n  "t": 1\n}\n'
    await file.stop()


async def test_the_file_is_rewritten_until_stop_and_then_stays(tmp_path: Path) -> None:
    content, path = Counting(), tmp_path / "health.json"
    file = HealthFile(path, content, interval_s=0.001)
    await file.start()
    await content.until(4)
    await file.stop()
    assert json.loads(path.read_text())["t"] == content.asked >= 4


async def test_an_open_reader_keeps_the_old_content(tmp_path: Path) -> None:
    content, path = Counting(), tmp_path / "health.json"
    file = HealthFile(path, content, interval_s=0.001)
    await file.start()
    with opened(path) as reading:
        await content.until(4)
        await file.stop()
        assert json.loads(reading.read())["t"] == 1
    assert files_in(tmp_path) == ["health.json"]


async def test_other_users_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    file = HealthFile(path, Counting())
    await file.start()
    await file.stop()
    assert path.stat().st_mode & 0o777 == 0o644


async def test_an_unwritable_path_is_refused_with_its_key(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    file = HealthFile(tmp_path / "file" / "health.json", Counting())
    with pytest.raises(UsageError, match=r"Cannot write the health file .*\[compat\] health_file"):
        await file.start()
    await file.stop()


async def test_rewriting_continues_after_a_failed_write(tmp_path: Path) -> None:
    content, path = Counting(), tmp_path / "logs" / "health.json"
    file = HealthFile(path, content, interval_s=0.001)
    await file.start()
    # A file cannot replace a folder.
    path.unlink()
    path.mkdir()
    await content.until(content.asked + 3)
    path.rmdir()
    await content.until(content.asked + 3)
    await file.stop()
    assert json.loads(path.read_text())["t"] == content.asked
    assert files_in(path.parent) == ["health.json"]
