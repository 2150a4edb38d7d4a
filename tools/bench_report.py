"""The benchmark's figures as text for a terminal, a page and a picture."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tools import bench_crowd, bench_gone, bench_starts, capacity_page
from tools.bench_cases import ECHO, TOOL_CALL, Figures, Idle, Observed, OverHttp
from tools.bench_processes import ROOT
from tools.streams import page as streams_page

PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "img" / "overhead.svg"

# The figures to keep; docs/benchmarks.md and its issue name them.
MIN_TOOL_CALL_RATIO = 0.6
MIN_HTTP_RATIO = 0.65
MAX_IDLE_KIB = 16.0
MAX_OPEN_CPU_US = 250.0
MAX_WAITING_RATIO = 1.5
MAX_STALL_MS = 20.0
MAX_BURST_MB = 30.0
MAX_OBSERVED_RATIO = 1.10
MAX_WATCHED_RATIO = 1.03
MAX_BESIDE_HTTP_RATIO = 1.03


@dataclass
class Report:
    """The results of one run; None for a measurement that was left out."""

    overhead: dict[int, dict[str, Figures]]
    idle: Idle | None
    start_up_s: float | None
    own_answers: int | None
    over_http: OverHttp | None
    gone: list[bench_gone.Gone] | None
    observed: Observed | None = None
    watched: Observed | None = None
    waiting: list[bench_crowd.Waiting] | None = None
    burst: bench_crowd.Burst | None = None
    beside_http: Observed | None = None
    starts: bench_starts.Starts | None = None


def kept_figures(report: Report) -> list[str]:
    """One line for each figure to keep that was measured: the value, the bound and the verdict."""
    lines = []
    if 100 in report.overhead:
        rows = report.overhead[100]
        ratio = rows[ECHO].cpu_us / rows[TOOL_CALL].cpu_us
        lines.append(
            f"- `tool_call` at 100 connections: **{ratio:.2f}** of the bare echo on the same loop, "
            f"at least {MIN_TOOL_CALL_RATIO}: {_verdict(ratio >= MIN_TOOL_CALL_RATIO)}."
        )
    if report.over_http is not None:
        ratio = report.over_http.bare_cpu_us / report.over_http.broker.cpu_us
        lines.append(
            f"- A call over HTTP: **{ratio:.2f}** of the bare aiohttp client, "
            f"at least {MIN_HTTP_RATIO}: {_verdict(ratio >= MIN_HTTP_RATIO)}."
        )
    if report.observed is not None:
        plain, observed = report.observed.plain.cpu_us, report.observed.observed.cpu_us
        lines.append(
            f"- CPU of a `tool_call` with metrics and access log: **{observed / plain:.2f}** of "
            f"that without ({observed:.0f} and {plain:.0f} µs), at most {MAX_OBSERVED_RATIO}: "
            f"{_verdict(observed / plain <= MAX_OBSERVED_RATIO)}."
        )
    if report.watched is not None:
        plain, watched = report.watched.plain.cpu_us, report.watched.observed.cpu_us
        lines.append(
            f"- CPU of a `tool_call` while a terminal console and a web console watch 1,000 "
            f"connections: **{watched / plain:.3f}** of that without ({watched:.1f} and "
            f"{plain:.1f} µs), at most {MAX_WATCHED_RATIO}: "
            f"{_verdict(watched / plain <= MAX_WATCHED_RATIO)}."
        )
    if report.beside_http is not None:
        plain, beside = report.beside_http.plain.cpu_us, report.beside_http.observed.cpu_us
        lines.append(
            f"- CPU of a `tool_call` beside HTTP support: **{beside / plain:.3f}** of that without "
            f"({beside:.1f} and {plain:.1f} µs), at most {MAX_BESIDE_HTTP_RATIO}: "
            f"{_verdict(beside / plain <= MAX_BESIDE_HTTP_RATIO)}."
        )
    if report.starts is not None:
        lines += _start_figures(report.starts)
    if report.idle is not None:
        kib = report.idle.kib_each
        lines.append(
            f"- An idle connection with its actors: **{kib:.1f} KiB**, "
            f"at most {MAX_IDLE_KIB:.0f}: {_verdict(kib <= MAX_IDLE_KIB)}."
        )
        open_us = report.idle.open_cpu_us
        lines.append(
            f"- CPU to open a connection: **{open_us:.0f} µs**, at most {MAX_OPEN_CPU_US:.0f}: "
            f"{_verdict(open_us <= MAX_OPEN_CPU_US)}."
        )
    if report.waiting is not None:
        lines += _waiting_figures(report.waiting)
    if report.burst is not None:
        grown = report.burst.after_mb - report.burst.before_mb
        lines.append(
            f"- Resident memory 10 s after {report.burst.sessions:,} sessions have ended: "
            f"**{grown:.0f} MB** above the start, at most {MAX_BURST_MB:.0f}: "
            f"{_verdict(grown <= MAX_BURST_MB)} (after as many again "
            f"{report.burst.after_again_mb - report.burst.before_mb:.0f})."
        )
    return lines


def _start_figures(found: bench_starts.Starts) -> list[str]:
    return [
        f"- {what}: **{seconds:.2f} s**, at most {most}: {_verdict(seconds <= most)}."
        for what, seconds, most in (
            ("`exai --help`", found.help_s, bench_starts.MAX_HELP_S),
            (
                "The first answer of `exai mcp`, from its start",
                found.first_answer_s,
                bench_starts.MAX_FIRST_ANSWER_S,
            ),
        )
    ]


def _waiting_figures(waiting: list[bench_crowd.Waiting]) -> list[str]:
    few, many = waiting[0], waiting[-1]
    ratio = many.cpu_us / few.cpu_us
    cost = (
        f"- CPU of a `call_tool` with {many.count:,} requests waiting: **{ratio:.2f}** of that "
        f"with {few.count} ({many.cpu_us:.0f} and {few.cpu_us:.0f} µs), at most "
        f"{MAX_WAITING_RATIO}: {_verdict(ratio <= MAX_WAITING_RATIO)}."
    )
    return [cost] + [
        f"- Pings answered with {each.count:,} requests waiting: 99.9 % within "
        f"**{each.stall_p999_ms:.0f} ms** (99 %: {each.stall_p99_ms:.0f}), at most "
        f"{MAX_STALL_MS:.0f}: {_verdict(each.stall_p999_ms <= MAX_STALL_MS)}."
        for each in waiting
        if each.count == 10_000
    ]


def _verdict(is_kept: bool) -> str:
    return "kept" if is_kept else "**not kept**"


def as_markdown(report: Report) -> str:
    parts = []
    if kept := kept_figures(report):
        parts.append("\n".join(["### Figures to keep\n", *kept]))
    parts += [_overhead_table(count, rows) for count, rows in report.overhead.items()]
    facts = []
    if report.over_http is not None:
        http = report.over_http
        facts.append(
            f"- Over HTTP to a local upstream that answers at once: the bare aiohttp client takes "
            f"{http.bare_cpu_us:.0f} µs of CPU a call, the broker with its client "
            f"{http.broker.cpu_us:.0f} µs: "
            f"**{http.bare_cpu_us / http.broker.cpu_us:.2f}** of the bare client "
            f"({http.bare_per_second:,.0f} and {http.broker.per_second:,.0f} calls a second, with "
            "the upstream and the load on the same cores)."
        )
    if report.idle is not None:
        facts.append(
            f"- {report.idle.connections:,} idle connections past their hello: "
            f"**{report.idle.kib_each:.1f} KiB** each with their actors, "
            f"{report.idle.open_cpu_us:.0f} µs of CPU to open one."
        )
    if report.start_up_s is not None:
        facts.append(f"- From starting the process to `ready`: **{report.start_up_s:.2f} s**.")
    if report.own_answers is not None:
        facts.append(
            f"- {report.own_answers:,} calls with a nonce each on 1,000 connections: every answer "
            "held its own nonce, no error."
        )
    if facts:
        parts.append("\n".join(facts))
    if report.gone is not None:
        parts.append(_GONE + bench_gone.as_table(report.gone))
    return "\n\n".join(parts) + "\n"


def _overhead_table(connections: int, rows: dict[str, Figures]) -> str:
    echo = rows[ECHO]
    lines = [
        f"### {connections:,} connections\n",
        "| server | CPU µs a call | calls per CPU second, echo = 1 | calls/s | p50 ms | p99 ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {row.cpu_us:.1f} | {echo.cpu_us / row.cpu_us:.2f} | {row.per_second:,.0f} "
        f"| {row.p50_ms:.2f} | {row.p99_ms:.2f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def write_page(report: Report, command: str) -> None:
    """Replace the figures and the picture of docs/benchmarks.md."""
    machine = (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("websockets", "pykka", "uvloop"))
    )
    _draw(report)
    old = PAGE.read_text()
    whole_calls = _PART.format(
        command=command, machine=machine, figures=as_markdown(report).rstrip()
    )
    parts = [_TITLE, streams_page.part_of(old), whole_calls, capacity_page.part_of(old)]
    PAGE.write_text("\n".join(f"{part.strip()}\n" for part in parts if part))


def _draw(report: Report) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    # Without these two the same figures would make another file each time.
    mpl.rcParams["svg.hashsalt"] = "overhead"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    names = list(next(iter(report.overhead.values())))
    counts = list(report.overhead)
    width = 0.8 / len(counts)
    for index, count in enumerate(counts):
        places = [row + (index - (len(counts) - 1) / 2) * width for row in range(len(names))]
        values = [report.overhead[count][name].cpu_us for name in names]
        bars = axes.barh(places, values, width, label=f"{count:,} connections")
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("CPU µs of the server for one call (shorter is better)")
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    _strip_trailing_blanks(PICTURE)


def _strip_trailing_blanks(path: Path) -> None:
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


_GONE = f"""\
### After a client disconnects

The time from a client's cancel or disconnect until the service has the next call, over HTTP and
with one permit, \
{bench_gone.REPEATS} times each
(`tools/bench_gone.py`).

"""

_TITLE = "# Benchmarks"

_PART = """\
## Whole calls

The cost of sending every call through three actors, compared with a bare `websockets` server that
only parses the same request and encodes an answer of the same size with orjson
(`tools/bench_echo.py`). To repeat the measurement:

<!-- docs-test: skip, it takes minutes -->
```console
$ {command}
```

The figure to trust is the CPU time of the server's process for one call: user and system time of
all threads, as Linux counts it. Calls a second and latencies depend on other processes: client,
server and upstream share the cores here. All servers are measured in one run, taking turns, and
the figures are medians. The client is `tools/bench_load.py`: raw sockets, one call at a time on
each connection; it counts whole answers and checks the id of each.

{machine}.

![CPU time of the server for one call](img/overhead.svg)

{figures}

### How to read it

- The *echo* is the base: `async for` and `send`, no compression. It runs on uvloop, as the broker
  does by default, so the comparison is on one loop; on asyncio's own loop it is shown besides.
- The *socket edge alone* answers without any actor. The difference to the broker is the cost of
  routing, fairness, permits, deadlines, outcomes and the wire protocol.
- `call_tool` with a request id is answered in three frames (progress, ack, result), as old clients
  expect; `tool_call` and JSON-RPC in one.
- *Beside HTTP support*: the same broker with every socket a WebSocket's from its first byte, and no
  HTTP server (`tools/bench_without_http.py`). Each sample has new processes of both.
  `python tools/bench.py --only-beside-http` measures it alone, `--only-starts` the commands.
- Two system calls and JSON take 10 µs of a call; the messages between actors and their decisions
  take the rest.
"""
