"""The access log: a line for each request, as text or JSON, to a file or a pipe."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
from msgspec.structs import replace

from exai_actors.core.calls import Usage
from exai_actors.core.observe.request_ends import RequestEnd
from exai_actors.daemon.config.reading import read_tables
from exai_actors.daemon.logs.access import MAX_WAITING, AccessLog
from exai_actors.errors import ConfigError, ExaiError
from exai_actors.testing.broker import running_broker
from tests.daemon.processes import exai

END = RequestEnd(
    request="r-1",
    session="abc",
    tenant="ann",
    provider="kimi",
    model="moon",
    outcome="completed",
    code="",
    waited_s=0.0125,
    service_s=1.5,
    attempts=2,
    usage=Usage(3, 40),
)
FAILED = replace(END, outcome="failed", code="TIMEOUT", usage=None, provider="", model="")


class Desk:
    """Access logs whose timers the test runs."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.wall = 1_764_367_200.25
        self.timers: list[Callable[[], None]] = []
        self.opened: list[AccessLog] = []

    def open(self, form: Literal["text", "json"] = "text", file: Path | None = None) -> AccessLog:
        log = AccessLog(
            form,
            file or self.file,
            wall=lambda: self.wall,
            call_later=lambda _, callback: self.timers.append(callback),
        )
        self.opened.append(log)
        return log

    def run_timers(self) -> None:
        while self.timers:
            self.timers.pop(0)()

    @property
    def lines(self) -> list[str]:
        return self.file.read_text("utf-8").splitlines()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path / "access.log")
    yield found
    for log in found.opened:
        log.close()


def test_a_line_of_text_has_every_figure(desk: Desk) -> None:
    log = desk.open()
    log(END)
    log(FAILED)
    assert desk.lines == []
    desk.run_timers()
    completed, failed = desk.lines
    assert completed == (
        "2025-11-28T22:00:00.250Z completed tenant=ann session=abc request=r-1 model=moon "
        "provider=kimi waited=0.013s service=1.500s attempts=2 tokens=3+40"
    )
    assert failed == (
        "2025-11-28T22:00:00.250Z failed code=TIMEOUT tenant=ann session=abc request=r-1 model=- "
        "provider=- waited=0.013s service=1.500s attempts=2 tokens=-"
    )


def test_a_line_of_json_has_every_figure(desk: Desk) -> None:
    log = desk.open("json")
    log(END)
    log(FAILED)
    desk.run_timers()
    first, second = map(json.loads, desk.lines)
    assert first == {
        "time": "2025-11-28T22:00:00.250Z",
        "request": "r-1",
        "tenant": "ann",
        "session": "abc",
        "outcome": "completed",
        "provider": "kimi",
        "model": "moon",
        "waited_s": 0.013,
        "service_s": 1.5,
        "attempts": 2,
        "prompt_tokens": 3,
        "completion_tokens": 40,
    }
    assert second["code"] == "TIMEOUT"
    assert "prompt_tokens" not in second


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "hostile",
    [
        *("a\nb", "a b", 'a"b', "outcome=completed", "\x1b[31m", "\ud800", "", "ü", "\u2028"),
        *("a\\b", '"\n' * 2_000),
    ],
)
def test_words_of_clients_can_neither_begin_a_line_nor_a_field(
    desk: Desk, form: Literal["text", "json"], hostile: str
) -> None:
    log = desk.open(form)
    log(replace(END, request=hostile, model=hostile))
    desk.run_timers()
    (line,) = desk.file.read_bytes().decode("utf-8").split("\n")[:-1]
    assert "\x1b" not in line
    assert len(line.splitlines()) == 1 or form == "json"
    if form == "text":
        before, _, after = line.partition(" request=")
        word, _, rest = after.partition(" model=")
        assert before.endswith("session=abc")
        if word.startswith('"'):
            json.loads(word)
        else:
            assert word.isprintable()
            assert not set(word) & set(' "=')
        assert rest.endswith("attempts=2 tokens=3+40")
    else:
        assert json.loads(line)["tenant"] == "ann"


def test_half_a_character_of_a_client_leaves_the_lines_beside_it_alone(desk: Desk) -> None:
    log = desk.open("json")
    for request in ("ü", "\ud800", "r-2"):
        log(replace(END, request=request))
    desk.run_timers()
    assert [json.loads(line)["request"] for line in desk.lines] == ["ü", "\\ud800", "r-2"]


def test_each_line_has_the_time_of_its_own_end(desk: Desk) -> None:
    log = desk.open("json")
    for seconds in (0.0, 0.0004, 0.001, 1.0):
        desk.wall = 1_764_367_200.25 + seconds
        log(END)
    desk.run_timers()
    assert [json.loads(line)["time"].partition(":00:")[2] for line in desk.lines] == [
        "00.250Z",
        "00.250Z",
        "00.251Z",
        "01.250Z",
    ]


def test_the_file_is_private_and_appended_to(desk: Desk) -> None:
    desk.open()(END)
    desk.run_timers()
    desk.open()(FAILED)
    desk.run_timers()
    assert len(desk.lines) == 2
    assert stat.S_IMODE(desk.file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "move", [lambda file: file.rename(f"{file}.1"), lambda file: file.unlink()]
)
def test_a_rotated_file_is_opened_again(desk: Desk, move: Callable[[Path], object]) -> None:
    log = desk.open()
    log(END)
    desk.run_timers()
    move(desk.file)
    log(FAILED)
    desk.run_timers()
    assert [" failed " in line for line in desk.lines] == [True]


def test_lines_are_written_in_time_without_a_timer_when_there_are_many(desk: Desk) -> None:
    log = desk.open()
    for _ in range(MAX_WAITING):
        log(END)
    assert len(desk.lines) == MAX_WAITING
    assert len(desk.timers) == 1


def test_closing_writes_the_rest(desk: Desk) -> None:
    desk.open()(END)
    desk.opened.pop().close()
    assert len(desk.lines) == 1


def test_a_file_that_cannot_be_opened_is_reported(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing/access\.log cannot be opened: No such file"):
        desk.open(file=tmp_path / "missing" / "access.log")


def test_a_full_disk_costs_lines_and_is_reported_once() -> None:
    desk = Desk(Path("/dev/full"))
    with structlog.testing.capture_logs() as entries:
        log = desk.open()
        for _ in range(3):
            log(END)
            desk.run_timers()
        for _ in range(2 * MAX_WAITING):
            log(END)
        log.close()
    (entry,) = entries
    assert entry["event"] == "access.not_written"
    assert entry["cause"] == "No space left on device"


def test_after_a_full_disk_the_lost_lines_are_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = desk.open()
    write, room = os.write, [10]

    def write_within(number: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(number, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("os.write", write_within)
    with structlog.testing.capture_logs() as entries:
        for _ in range(2):
            for request in "whole", "lost":
                room[0] = 10 * (request == "whole")
                log(replace(END, request=request))
                desk.run_timers()
            room[0] = 10_000
            log(replace(END, request="after"))
            desk.run_timers()
    monkeypatch.undo()
    assert [_words(line) for line in desk.lines] == 2 * ["whole", "entries=1", "after"]
    assert [entry["event"] for entry in entries] == 2 * ["access.not_written"]


def _words(line: str) -> str:
    return line.partition("request=")[2].partition(" ")[0] or line.rsplit(maxsplit=1)[-1]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reader_that_does_not_read_costs_lines_and_never_time(
    desk: Desk, form: Literal["text", "json"], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = desk.open(form, pipe)
    sent = 0
    # More than a pipe holds.
    for _ in range(20):
        for _ in range(MAX_WAITING):
            log(replace(END, request=f"r-{sent}"))
            sent += 1
    read = _read_all(reading)
    # The rest of the batch that was begun comes first.
    for request in ("next", "next", "last"):
        log(replace(END, request=request))
        desk.run_timers()
        sent += 1
        read += _read_all(reading)
    os.close(reading)
    lines = read.decode().splitlines()
    (loss,) = (line for line in lines if "log.entries_lost" in line)
    lost = json.loads(loss)["entries"] if form == "json" else int(loss.rpartition("=")[2])
    assert lost > 0
    assert len(lines) - 1 + lost == sent
    assert "last" in lines[-1]


def _read_all(number: int) -> bytes:
    found = b""
    try:
        while data := os.read(number, 1 << 16):
            found += data
    except BlockingIOError:
        pass
    return found


async def test_a_broker_logs_each_request_and_no_word_of_it(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    config: dict[str, Any] = {"logging": {"access": "json", "access_file": str(file)}}
    async with running_broker(config) as running, running.connect() as client:
        answer = await client.call("chat", prompt="secret prompt", request_id="mine")
        assert answer.text
    (line,) = file.read_text("utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["outcome"], entry["provider"], entry["attempts"]) == (
        "completed",
        "synthetic",
        1,
    )
    assert entry["completion_tokens"] > 0
    assert "secret" not in line
    assert answer.text not in line


async def test_a_request_that_the_end_of_the_broker_cuts_off_has_a_line_too(
    tmp_path: Path,
) -> None:
    config: dict[str, Any] = {
        "logging": {"access": "json", "access_file": "access.log"},
        "provider": [{"kind": "synthetic", "name": "slow", "delay_ms": 60_000}],
    }
    read = read_tables(config, {}, file=tmp_path / "exai.toml", env={}, flags={"--port": 0}).config
    assert read is not None
    async with running_broker(read) as running, running.connect() as client:
        call = asyncio.ensure_future(client.call("chat", prompt="secret"))
        async with asyncio.timeout(10.0):
            while not running.statistics().in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await running.broker.drain(0.0)
        with pytest.raises(ExaiError):
            await call
    (line,) = (tmp_path / "access.log").read_text("utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["provider"], entry["outcome"], entry["attempts"]) == ("slow", "failed", 1)
    assert entry["code"] == "DRAINING"


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_on_stderr_are_written_one_by_one_beside_the_log(
    desk: Desk, form: Literal["text", "json"], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        log = AccessLog(
            form, None, wall=lambda: desk.wall, call_later=lambda _, run: desk.timers.append(run)
        )
        taken: list[bytes] = []

        def take(lines: bytes) -> bool:
            taken.append(lines)
            return len(taken) != 3

        monkeypatch.setattr(log._writer, "take", take)
        for _ in range(4):
            log(END)
        desk.run_timers()
        assert [lines.count(b"\n") for lines in taken] == [1, 1, 1]
        log(END)
        desk.run_timers()
        log.close()
    os.close(reading)
    assert b"log.entries_lost" in taken[3]
    assert b"2" in taken[3].rpartition(b"entries")[2]
    assert len(taken) == 5


async def test_a_broker_that_cannot_open_its_access_log_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "exai.toml"
    file.write_text('[server]\nport = 0\n[logging]\naccess = "text"\naccess_file = "no/such.log"\n')
    ended = await exai("serve", "--config", str(file))
    assert ended.code == 3
    assert f"[logging] access_file: {tmp_path}/no/such.log cannot be opened" in ended.err
