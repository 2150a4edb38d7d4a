"""The measurements of the benchmark, as plain figures."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import orjson

from tools import bench_dialects as dialects
from tools.bench_load import Dialect, Plan, connect, run
from tools.bench_processes import ROOT, Process, running
from tools.bench_watch import watching

_CALLS_PER_SAMPLE = 20_000
_IDLE = Dialect("idle", dialects.CALL_TOOL.greeting, dialects.CALL_TOOL.request, b"")

INSTANT = """
[server]
port = 0
max_connections = 12000
[[provider]]
name = "instant"
kind = "synthetic"
models = ["synthetic"]
tokens_per_second = 0
limit = 4096
queue = 100000
"""

OVER_HTTP = """
[server]
port = 0
[[provider]]
name = "instant"
kind = "openai"
base_url = "{url}/v1"
models = ["synthetic"]
limit = 4096
"""


ECHO = "echo on uvloop"
EDGE = "socket edge alone"
TOOL_CALL = "broker, tool_call (1 frame)"


@dataclass
class Case:
    """One row of the comparison: a server, and the dialect in which it is called.

    ``scrapes``: its metrics are read once in each sample, which counts as time of the server.
    ``is_watched``: two consoles watch it.
    """

    name: str
    process: Process
    dialect: Dialect
    scrapes: bool = False
    is_watched: bool = False
    calls: int = _CALLS_PER_SAMPLE


@dataclass
class Figures:
    """Medians over the repeats of one case: CPU µs of the server a call, calls a second, ms."""

    cpu_us: float
    per_second: float
    p50_ms: float
    p99_ms: float


@contextmanager
def broker(toml: str, program: str = "exai_actors") -> Iterator[Process]:
    """``exai serve`` with this configuration."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "bench.toml"
        config.write_text(toml)
        command = ["-m", program, "serve", "--config", str(config)]
        with running(command, Path(folder) / "broker.log") as process:
            yield process


@contextmanager
def program(name: str, *arguments: str) -> Iterator[Process]:
    """One of the servers beside this file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(["-m", f"tools.{name}", *arguments], Path(folder) / "log") as process,
    ):
        yield process


def overhead(connections: int, repeats: int) -> dict[str, Figures]:
    """The bare echo, the socket edge alone and the broker in three dialects, taking turns.

    All run on uvloop, as the broker does by default; the echo runs on asyncio's own loop as well.
    """
    with ExitStack() as stack:
        ours = stack.enter_context(broker(INSTANT))
        cases = [
            Case(ECHO, stack.enter_context(program("bench_echo", "--uvloop")), dialects.BARE),
            Case("echo on asyncio", stack.enter_context(program("bench_echo")), dialects.BARE),
            Case(EDGE, stack.enter_context(program("bench_edge", "--uvloop")), dialects.BARE),
            Case("broker, call_tool (3 frames)", ours, dialects.CALL_TOOL),
            Case(TOOL_CALL, ours, dialects.TOOL_CALL),
            Case("broker, JSON-RPC (1 frame)", ours, dialects.JSON_RPC),
        ]
        return _medians(cases, connections, repeats)


@dataclass
class Observed:
    """The broker without observers, and with them."""

    plain: Figures
    observed: Figures


def observed(connections: int, repeats: int) -> Observed:
    """The cost of metrics and the access log: two brokers taking turns.

    One writes a line for each request, and is asked for its metrics once in each sample. Each
    sample has new brokers: of two processes of one program, one is often a tenth faster for as long
    as it runs.
    """
    plain, observed = [], []
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            log = f'[logging]\naccess = "json"\naccess_file = "{folder}/access.log"\n'
            cases = [
                Case("plain", stack.enter_context(broker(INSTANT)), dialects.TOOL_CALL),
                Case(
                    "observed",
                    stack.enter_context(broker(INSTANT + log)),
                    dialects.TOOL_CALL,
                    scrapes=True,
                ),
            ]
            rows = _medians(cases if repeat % 2 == 0 else cases[::-1], connections, 1)
            lines = sum(1 for _ in (Path(folder) / "access.log").open("rb"))
            if lines < _CALLS_PER_SAMPLE:
                raise RuntimeError(f"the access log has {lines} lines only")
        plain.append(rows["plain"])
        observed.append(rows["observed"])
    return Observed(_median(plain), _median(observed))


def beside_http(connections: int, repeats: int, calls: int = _CALLS_PER_SAMPLE) -> Observed:
    """The cost of HTTP support to clients over WebSocket: two brokers taking turns, new each time.

    One has no HTTP support; the other has answered a chat over HTTP.
    """
    plain, beside = [], []
    for repeat in range(repeats):
        with broker(INSTANT, "tools.bench_without_http") as without, broker(INSTANT) as with_http:
            _chat_over_http(with_http.address)
            cases = [
                Case("without", without, dialects.TOOL_CALL, calls=calls),
                Case("with", with_http, dialects.TOOL_CALL, calls=calls),
            ]
            rows = _medians(cases if repeat % 2 == 0 else cases[::-1], connections, 1)
        plain.append(rows["without"])
        beside.append(rows["with"])
    return Observed(_median(plain), _median(beside))


def _chat_over_http(address: tuple[str, int]) -> None:
    body = {"model": "synthetic", "messages": [{"role": "user", "content": dialects.PROMPT}]}
    request = Request(
        f"http://{address[0]}:{address[1]}/v1/chat/completions",
        orjson.dumps(body),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=10) as answer:
        if dialects.PROMPT.encode() not in answer.read():
            raise RuntimeError("a chat over HTTP was not answered")


def watched(connections: int, repeats: int) -> Observed:
    """The cost of a terminal console and a web console: one broker with and without them."""
    with broker(INSTANT) as process:
        calls = 4 * _CALLS_PER_SAMPLE  # some seconds, as consoles are updated once a second
        cases = [
            Case("plain", process, dialects.TOOL_CALL, calls=calls),
            Case("watched", process, dialects.TOOL_CALL, is_watched=True, calls=calls),
        ]
        rows = _medians(cases, connections, repeats)
    return Observed(rows["plain"], rows["watched"])


def _scrape(address: tuple[str, int]) -> None:
    with urlopen(f"http://{address[0]}:{address[1]}/metrics", timeout=10) as page:
        if b"exai_requests_total" not in page.read():
            raise RuntimeError("/metrics has no requests")


def _medians(cases: Sequence[Case], connections: int, repeats: int) -> dict[str, Figures]:
    samples: dict[str, list[Figures]] = {case.name: [] for case in cases}
    for repeat in range(repeats):
        # Forwards, then backwards, so that changes on the machine affect every case alike.
        for case in cases if repeat % 2 == 0 else reversed(cases):
            samples[case.name].append(_sample(case, connections, f"{repeat}"))
    return {name: _median(each) for name, each in samples.items()}


def _sample(case: Case, connections: int, tag: str) -> Figures:
    each = max(4, case.calls // connections)
    open_ = connect(case.process.address, case.dialect, connections)
    run(open_, Plan(case.dialect, connections, max(1, each // 10), f"warm{tag}"))
    if case.scrapes:
        _scrape(case.process.address)  # the first one imports the library
    plan = Plan(case.dialect, connections, each, f"run{tag}")
    with watching(case.process.address) if case.is_watched else nullcontext():
        before = case.process.cpu_seconds
        sample = run(open_, plan)
        if case.scrapes:
            _scrape(case.process.address)
        spent = case.process.cpu_seconds - before
    for connection in open_:
        connection.close()
    return Figures(
        spent / sample.requests * 1e6,
        sample.requests / sample.seconds,
        sample.quantile(0.5) * 1e3,
        sample.quantile(0.99) * 1e3,
    )


def _median(samples: Sequence[Figures]) -> Figures:
    return Figures(
        *(
            statistics.median(getattr(sample, name) for sample in samples)
            for name in ("cpu_us", "per_second", "p50_ms", "p99_ms")
        )
    )


@dataclass
class Idle:
    """KiB of resident memory and µs of CPU that one idle connection, past its hello, takes."""

    connections: int
    kib_each: float
    open_cpu_us: float


def idle(connections: int) -> Idle:
    """Hold so many connections that have said hello and nothing else."""
    with broker(INSTANT) as process:
        few = connect(process.address, _IDLE, 50)
        time.sleep(0.5)
        memory, cpu = process.resident_kib, process.cpu_seconds
        many = connect(process.address, _IDLE, connections)
        time.sleep(2.0)
        kib_each = (process.resident_kib - memory) / connections
        open_cpu_us = (process.cpu_seconds - cpu) / connections * 1e6
        # All of them are alive: one call each.
        run(many, Plan(dialects.CALL_TOOL, connections, 1, "alive"))
        for connection in few + many:
            connection.close()
    return Idle(connections, kib_each, open_cpu_us)


def start_up(repeats: int) -> float:
    """Median seconds from starting the process to its line that says it is ready."""
    seconds = []
    for _ in range(repeats):
        with broker(INSTANT) as process:
            seconds.append(process.started_in)
    return statistics.median(seconds)


def own_answers(connections: int, requests_each: int) -> int:
    """Make calls with a nonce in each prompt; return how many answers held their own nonce.

    Raises AnswerError at the first that does not.
    """
    nonce = os.urandom(6).hex()

    def request(request_id: str) -> bytes:
        call = orjson.loads(dialects.CALL_TOOL.request(request_id))
        call["arguments"]["prompt"] = f"Repeat {nonce}/{request_id}/{nonce}"
        return orjson.dumps(call)

    def proof(request_id: str) -> bytes:
        return f"{nonce}/{request_id}/{nonce}".encode()

    dialect = Dialect("nonce", dialects.CALL_TOOL.greeting, request, b'"call_tool_res"', proof)
    with broker(INSTANT) as process:
        open_ = connect(process.address, dialect, connections)
        sample = run(open_, Plan(dialect, connections, requests_each, "nonce"))
        for connection in open_:
            connection.close()
    return sample.requests


@dataclass
class OverHttp:
    """The bare aiohttp client and the broker against the same upstream."""

    bare_cpu_us: float
    bare_per_second: float
    broker: Figures


def over_http(concurrency: int, repeats: int) -> OverHttp:
    """A local upstream that answers at once: the client library alone, then through the broker."""
    bare: list[dict[str, float]] = []
    samples: list[Figures] = []
    with program("bench_upstream") as upstream:
        url = f"http://{upstream.address[0]}:{upstream.address[1]}"
        with broker(OVER_HTTP.format(url=url)) as process:
            case = Case("over HTTP", process, dialects.CALL_TOOL)
            for repeat in range(repeats):
                bare.append(_bare_client(f"{url}/v1/chat/completions", concurrency))
                samples.append(_sample(case, concurrency, f"http{repeat}"))
    return OverHttp(
        statistics.median(each["cpu_us"] for each in bare),
        statistics.median(each["per_second"] for each in bare),
        _median(samples),
    )


def _bare_client(url: str, concurrency: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench_aiohttp", url, str(concurrency), "10000"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, float] = orjson.loads(done.stdout)
    return figures
