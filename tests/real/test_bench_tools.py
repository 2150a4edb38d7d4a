"""The benchmarks run, on loads too small to measure anything, and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tools import bench_crowd, bench_starts, bench_streams
from tools.bench_cases import INSTANT, beside_http, broker
from tools.bench_processes import ROOT
from tools.streams import page, plot, servers
from tools.streams.cases import MANY_STALLED, Found, Plan, Point, measure, of_other_tree

TINY = Point(2, 1, 100)


@pytest.fixture(scope="module")
def found() -> Found:
    """All cases but the search, on two streams of three pieces."""
    return measure(
        Plan(
            paced=[TINY],
            unpaced=[TINY],
            chats=[TINY],
            # The broker first reads a megabyte for the client that reads nothing.
            stalled=[Point(2, 1, 500)],
            stalled_settle_ms=100,
            settle_ms=0,
            pieces=3,
            cases=("paced", "unpaced", "chats", "stalled-reader"),
        )
    )


def test_every_server_delivers_whole_streams_in_every_dialect(found: Found) -> None:
    everybody = {
        servers.DIRECT,
        servers.BROKER,
        servers.BROKER_RPC,
        servers.BROKER_HTTP,
        servers.RELAY,
    }
    for rows in (found.paced[2], found.unpaced[2]):
        assert set(rows) == everybody
        for sample in rows.values():
            assert sample.pieces
            assert sample.ended
            assert sample.cpu_s > 0
            assert not sample.refused


def test_chats_are_answered_whole(found: Found) -> None:
    rows = found.chats[2]
    assert set(rows) == {
        servers.DIRECT,
        servers.CHAT_FRAMES,
        servers.CHAT_FRAME,
        servers.BROKER_HTTP,
        servers.RELAY,
    }
    for sample in rows.values():
        assert sample.ended
        # The window can begin or end between the text of a chat and its end.
        assert abs(sample.ended - sample.pieces) <= TINY.streams


def test_a_stalled_reader_is_measured_beside_the_others(found: Found) -> None:
    for without, with_one in found.stalled[2].values():
        assert without.pieces
        assert with_one.pieces


def test_the_cpu_of_a_broker_with_stalled_readers_alone_is_on_the_page(found: Found) -> None:
    assert list(found.idle_cpu_ms) == [0, MANY_STALLED]
    assert all(found.idle_cpu_ms.values())
    assert f"with {MANY_STALLED} such clients." in page.as_markdown(found)


def test_the_page_shows_every_server(found: Found) -> None:
    text = page.as_markdown(found)
    for name in (*found.paced[2], *found.chats[2]):
        assert f"| {name} |" in text
    assert "<svg" in plot.svg(found.paced)


def test_another_checkout_is_compared_in_the_dialects_asked_for() -> None:
    found = measure(
        Plan(
            paced=[Point(2, 2, 100)],
            chats=[Point(2, 2, 100)],
            settle_ms=0,
            pieces=3,
            cases=("paced", "chats"),
            dialects=("jsonrpc", "tool_call", "http"),
            other_tree=ROOT,
        )
    )
    asked = {
        "paced": {servers.BROKER_RPC, servers.BROKER_HTTP},
        "chats": {servers.CHAT_FRAME, servers.BROKER_HTTP},
    }
    text = page.as_markdown(found)
    for case, names in asked.items():
        rows = getattr(found, case)[2]
        both = {*names, *map(of_other_tree, names)}
        assert set(rows) == {servers.DIRECT, servers.RELAY, *both}
        assert all(rows[name].cpu_s > 0 for name in both)
        for name in names:
            assert f"| {case} | 2 | {name} | " in text


def test_the_page_is_written_for_this_checkout_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_streams.main(["--write", "--tree", "."])
    assert "--write goes without" in capsys.readouterr().err


def test_a_server_that_answers_with_errors_is_not_measured() -> None:
    with servers.compiled() as programs, servers.workshop(programs) as shop:
        service = shop.service()
        relay = servers.Server("relay without a service", shop.relay(service).process, "http")
        service.process.stop()
        with pytest.raises(servers.CannotMeasure, match="500 Internal Server Error"):
            shop.sample(relay, 2, window_ms=100, settle_ms=0)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(servers.CannotMeasure, match="apt-get install gcc"), servers.compiled():
        pass


def test_missing_peers_are_named_with_their_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench_streams.main(["--peers"]) == 1
    assert "apt-get install haproxy nginx-light" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "command",
    [
        ["tools/bench.py", "--only-overhead", "--connections=1"],
        ["tools/bench_streams.py", "--case=paced", "--streams=1", "--window-ms=60000"],
    ],
    ids=["bench", "bench_streams"],
)
def test_a_signal_leaves_no_process(command: list[str], number: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    started: dict[int, str] = {}
    while not any("exai_actors" in each for each in started.values()):
        assert child.poll() is None
        time.sleep(0.01)
        started = {pid: command_line(pid) for pid in descendants(child.pid)}
    child.send_signal(number)
    assert child.wait(30) == 128 + number
    assert [pid for pid in started if is_running(pid)] == []


def descendants(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for each in map(int, children.read_text().split()):
                found += [each, *descendants(each)]
    return found


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_crowd_is_served_while_it_waits_and_its_memory_is_read_when_it_has_left() -> None:
    waiting = bench_crowd.waiting(5, seconds=0.3)
    assert waiting.count == 5
    assert waiting.cpu_us > 0
    assert 0 < waiting.stall_p99_ms <= waiting.stall_max_ms
    burst = bench_crowd.burst(3, settle_s=0.0)
    assert burst.sessions == 3
    assert 0 < burst.before_mb <= burst.at_most_mb
    assert burst.after_mb > 0 < burst.after_again_mb


def test_a_broker_without_http_is_compared_with_one_that_has_it() -> None:
    with broker(INSTANT, "tools.bench_without_http") as without:
        with pytest.raises(HTTPError) as refused:
            urlopen(f"http://{without.address[0]}:{without.address[1]}/v1/models", timeout=10)
        refused.value.close()
    assert refused.value.code == 426
    found = beside_http(2, repeats=1, calls=8)
    assert found.plain.cpu_us > 0
    assert found.observed.cpu_us > 0


def test_starts_are_timed_up_to_an_answer() -> None:
    found = bench_starts.starts(repeats=1)
    assert found.help_s > 0
    assert found.first_answer_s > 0
