"""The audit file: its lines, its bounds, and a disk that fails."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from exai_actors.client.console import open_console
from exai_actors.daemon import audit_file
from exai_actors.daemon.audit_file import AuditFile
from exai_actors.errors import ConfigError
from exai_actors.testing.broker import running_broker


def test_lines_are_appended_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for line in b"one", b"two":
        file = AuditFile(path, 1_000, 3)
        file.write(line)
        file.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_space_on_disk_is_bounded(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "audit.jsonl", 100, 2)
    for number in range(100):
        file.write(b"line %04d" % number)
    file.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "audit.jsonl",
        "audit.jsonl.1",
        "audit.jsonl.2",
    ]
    assert b"line 0099" in (tmp_path / "audit.jsonl").read_bytes()
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= 300


def test_a_file_that_cannot_be_opened_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[audit\] file: .* cannot be written: "):
        AuditFile(tmp_path / "missing" / "audit.jsonl", 100, 2)


def test_a_full_disk_is_reported_once() -> None:
    with structlog.testing.capture_logs() as entries:
        file = AuditFile(Path("/dev/full"), 10**9, 1)
        file.write(b"one")
        file.write(b"two")
        file.close()
    assert [entry["event"] for entry in entries] == ["audit.not_written"]


def test_a_slow_disk_is_reported_each_time_with_the_number_of_lost_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "MAX_WAITING", 2)
    begun, turns = threading.Semaphore(0), threading.Semaphore(0)
    append = audit_file._PrivateFile.append

    def slowly(file: audit_file._PrivateFile, line: bytes) -> str | None:
        begun.release()
        turns.acquire()
        return append(file, line)

    monkeypatch.setattr(audit_file._PrivateFile, "append", slowly)
    path = tmp_path / "audit.jsonl"
    with structlog.testing.capture_logs() as entries:
        file = AuditFile(path, 10_000, 1)
        for outage in range(2):
            # One is being written, two wait, and the others are lost.
            file.write(b"being written")
            begun.acquire()
            for _ in range(4 + outage):
                file.write(b"more")
            turns.release(3)
            begun.acquire()
            begun.acquire()
        turns.release(3)
        file.write(b"the last")
        file.close()
    events = [(entry["event"], entry.get("entries")) for entry in entries]
    assert events == [
        ("audit.not_written", None),
        ("audit.entries_lost", 2),
        ("audit.not_written", None),
        ("audit.entries_lost", 3),
    ]


@pytest.mark.parametrize(
    "move",
    [
        lambda path: path.rename(f"{path}.old"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.write_bytes(b"")),
    ],
    ids=["renamed", "removed", "replaced"],
)
def test_a_file_that_was_moved_is_opened_again(
    tmp_path: Path, move: Callable[[Path], object]
) -> None:
    path = tmp_path / "audit.jsonl"
    file = AuditFile(path, 1_000, 3)
    file.write(b"one")
    _await_line(path)
    move(path)
    file.write(b"two")
    file.close()
    assert path.read_bytes() == b"two\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o600


def test_a_folder_that_was_removed_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "audit.jsonl"
    path.parent.mkdir()
    with structlog.testing.capture_logs() as entries:
        file = AuditFile(path, 1_000, 3)
        path.unlink()
        path.parent.rmdir()
        file.write(b"one")
        file.write(b"two")
        file.close()
    assert [entry["event"] for entry in entries] == ["audit.not_written"]


def _await_line(path: Path) -> None:
    deadline = time.monotonic() + 10.0
    while not path.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def test_a_broker_writes_beside_its_configuration(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("token-of-an-operator")
    token.chmod(0o600)
    file = tmp_path / "audit.jsonl"
    config = {
        "operator": [{"name": "ada", "token_file": str(token), "role": "operator"}],
        "audit": {"file": str(file)},
    }
    async with (
        running_broker(config) as broker,
        open_console(broker.url, "token-of-an-operator") as console,
    ):
        effect = await console.act("provider.pause", ["synthetic"], reason="lunch")
        assert effect["failed"] == 0
    assert b'"operator":"ada"' in file.read_bytes()
