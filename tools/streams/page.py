"""The figures of streams as tables, and their part of docs/benchmarks.md with its picture."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from math import isfinite

from tools.bench_processes import ROOT
from tools.streams import plot
from tools.streams.cases import HELD_LAG_MS, HELD_PART, MANY_STALLED, Found, Rows, of_other_tree
from tools.streams.servers import BROKER, CHAT_FRAMES, DIRECT, RELAY, Sample

PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "img" / "streams.svg"
BEGIN, END = "<!-- streams -->", "<!-- end of streams -->"
MOST = 2000


def goals(found: Found) -> list[tuple[str, str, str, bool]]:
    """What was measured, its value, what it should reach, and whether it does."""
    paced = {streams: rows for streams, rows in found.paced.items() if BROKER in rows}
    rows = [
        _ratio(f"CPU per piece at {streams:,} streams", paced[streams], BROKER, 1.2)
        for streams in (10, 100, 500)
        if streams in paced
    ]
    rows += [
        _ratio(f"CPU per piece unpaced, {streams:,} streams", each, BROKER, 1.0)
        for streams, each in found.unpaced.items()
        if BROKER in each
    ]
    if found.held:
        ours, theirs = found.held[BROKER], found.held[RELAY]
        value = f"{ours:,}, relay {theirs:,}"
        rows.append(("streams held", value, "≥ 1.5 times the relay's", ours >= 1.5 * theirs))
    if MOST in paced:
        most = paced[MOST][BROKER]
        rows += [
            (f"{MOST:,} streams offered: refused", f"{most.refused:,}", "0", not most.refused),
            (
                f"{MOST:,} streams offered: pieces that came",
                f"{most.came:.0%}",
                "≥ 85 %",
                most.came >= 0.85,
            ),
        ]
    for streams, what, text, most_ms in (
        (10, "wait_p50", "added time to the first piece, p50, 10 streams", 0.4),
        (100, "lag_p99", "added lag, p99, 100 streams", 2.0),
        (500, "lag_p99", "added lag, p99, 500 streams", 20.0),
    ):
        if streams in paced:
            value_ms = found.added(streams, BROKER, what)
            rows.append((text, f"{value_ms:.2f} ms", f"≤ {most_ms:g} ms", value_ms <= most_ms))
    rows += [
        _ratio(f"CPU per chat over HTTP, {clients:,} clients", each, CHAT_FRAMES, 2.2)
        for clients, each in found.chats.items()
        if CHAT_FRAMES in each
    ]
    return rows


def _ratio(text: str, rows: Rows, ours: str, least: float) -> tuple[str, str, str, bool]:
    ratio = rows[RELAY].cpu_us / rows[ours].cpu_us
    return f"{text}, relay : broker", f"{ratio:.2f}", f"≥ {least:g}", ratio >= least


def as_markdown(found: Found) -> str:
    """All tables."""
    parts = []
    if kept := goals(found):
        lines = ["| figure | measured | to reach | |", "|---|---:|---:|---|"]
        lines += [
            f"| {text} | {value} | {wanted} | {'reached' if ok else '**missed**'} |"
            for text, value, wanted, ok in kept
        ]
        parts.append("\n".join(lines))
    if compared := _beside_other_tree(found):
        parts.append(compared)
    if found.paced:
        parts.append("### A piece every 20 ms\n\n" + _paced(found))
    if found.unpaced:
        columns = {
            "CPU µs a piece": lambda each: f"{each.cpu_us:.1f}",
            "pieces/s": lambda each: f"{each.pieces / each.seconds:,.0f}",
        }
        parts.append("### As fast as possible\n\n" + _table("streams", found.unpaced, columns))
    if found.chats:
        columns = {
            "CPU µs a chat": lambda each: f"{each.cpu_us:.0f}",
            "chats/s": lambda each: f"{each.pieces / each.seconds:,.0f}",
            "p50 / p99, ms": lambda each: f"{each.wait_p50:.2f} / {each.wait_p99:.2f}",
        }
        parts.append("### Whole chats over HTTP\n\n" + _table("clients", found.chats, columns))
    if found.stalled:
        parts.append(_STALLED + _stalled(found))
    return "\n\n".join(parts)


def _beside_other_tree(found: Found) -> str:
    """The figure that two checkouts are compared for; empty without another one."""
    lines = [
        f"| {case} | {count:,} | {name} | {row.cpu_us / rows[of_other_tree(name)].cpu_us:.3f} |"
        for case in ("paced", "unpaced", "chats")
        for count, rows in getattr(found, case).items()
        for name, row in rows.items()
        if of_other_tree(name) in rows
    ]
    head = ["| case | clients | server | CPU, this tree : other tree |", "|---|---:|---|---:|"]
    return "\n".join(head + lines) if lines else ""


def _paced(found: Found) -> str:
    head = (
        "| streams | server | CPU µs a piece | relay : it | added time to the first piece, "
        "p50 / p99, ms | added lag, p50 / p99, ms | came | refused | RSS a stream, KiB |"
    )
    lines = [head, "|---:|---|---:|---:|---:|---:|---:|---:|---:|"]
    for streams, rows in found.paced.items():
        for name, each in rows.items():
            waits = _times(each.wait_p50, each.wait_p99)
            lags = _times(each.lag_p50, each.lag_p99)
            ratio, memory = f"{rows[RELAY].cpu_us / each.cpu_us:.2f}", f"{each.kib_each:.0f}"
            if name == DIRECT:
                waits, lags, ratio, memory = f"({waits})", f"({lags})", "", ""
            else:
                direct = rows[DIRECT]
                waits = _times(each.wait_p50 - direct.wait_p50, each.wait_p99 - direct.wait_p99)
                lags = _times(each.lag_p50 - direct.lag_p50, each.lag_p99 - direct.lag_p99)
            lines.append(
                f"| {streams:,} | {name} | {each.cpu_us:.1f} | {ratio} | {waits} | {lags} "
                f"| {min(each.came, 1):.0%} | {each.refused:,} | {memory} |"
            )
    return "\n".join(lines)


def _times(p50: float, p99: float) -> str:
    return " / ".join(f"{each:.2f}" if isfinite(each) else "–" for each in (p50, p99))


def _table(
    counted: str, found: dict[int, Rows], columns: dict[str, Callable[[Sample], str]]
) -> str:
    lines = [
        f"| {counted} | server | relay : it | {' | '.join(columns)} |",
        "|---:|---|---:|" + "---:|" * len(columns),
    ]
    for count, rows in found.items():
        for name, each in rows.items():
            ratio = "" if name == DIRECT else f"{rows[RELAY].cpu_us / each.cpu_us:.2f}"
            values = " | ".join(column(each) for column in columns.values())
            lines.append(f"| {count:,} | {name} | {ratio} | {values} |")
    return "\n".join(lines)


def _stalled(found: Found) -> str:
    lines = [
        "| streams | server | lag of the others, p50 / p99, ms | with it | came | with it |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for streams, pairs in found.stalled.items():
        for name, both in pairs.items():
            lags = " | ".join(_times(each.lag_p50, each.lag_p99) for each in both)
            came = " | ".join(f"{min(each.came, 1):.0%}" for each in both)
            lines.append(f"| {streams:,} | {name} | {lags} | {came} |")
    if found.idle_cpu_ms:
        without, beside = (f"{each:.1f} ms" for each in found.idle_cpu_ms.values())
        sentence = (
            f"A broker with nothing else to do uses {without} of CPU a second, "
            f"and {beside} with {MANY_STALLED} such clients."
        )
        lines += ["", sentence]
    return "\n".join(lines)


def part_of(text: str) -> str:
    """The part of a page between the markers, which it includes; empty if there are none."""
    begin, end = text.find(BEGIN), text.find(END)
    return text[begin : end + len(END)] if 0 <= begin < end else ""


def write(found: Found, command: str) -> None:
    """Replace this part of the page and its picture."""
    if found.paced:
        PICTURE.write_text(plot.svg(found.paced))
    machine = (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "uvloop"))
    )
    part = _PART.format(
        begin=BEGIN, end=END, command=command, machine=machine, figures=as_markdown(found)
    )
    text = PAGE.read_text()
    PAGE.write_text(text.replace(part_of(text), part))


_STALLED = """\
### A client that stops reading

It orders a long stream beside the others, as fast as the service can, and reads nothing. Measured
once the buffers on the way to it are full, which takes 0.1 s of CPU of the service and as much of
the broker; from then on it costs neither of them anything. At 1,000 streams both cores are full.

"""

_PART = f"""\
{{begin}}
## Streams

Many streams at once are what the broker is used for most. The first comparison is with the least
that a broker in Python can be: `tools/streams/relay.py`, 25 lines of aiohttp on uvloop that pass on
bytes, without fairness, deadlines, cancellation, sessions or a second protocol. To repeat it, which
takes less than eight minutes and needs a C compiler:

<!-- docs-test: skip, it takes minutes -->
```console
$ {{command}}
```

Without `--write` it only prints; `--quick` prints the main figures within a minute; `--peers` (with
the Debian packages haproxy and nginx-light) measures HAProxy and nginx, too, which takes a
minute more. `--tree DIRECTORY` compares the broker of another checkout instead, in turns with new
processes; `--dialect` says how the clients of both speak.

{{machine}}.

![CPU time for each piece of a stream, and the pieces that came in time](img/streams.svg)

{{figures}}

- The service (`tools/streams/service.c`) writes each piece of 60 bytes of text by itself and stamps
  it with the time of that. The clients (`tools/streams/load.c`) have one stream each, and begin the
  next when it has ended; a stream is 100 pieces. Both are one thread of C, and write and read
  100,000 pieces a second. All run on the same cores as the server.
- *CPU* is the user and system time of all threads of the server in the time measured, divided by
  the pieces that came in it. It includes beginning and ending the streams. For the service itself
  it is its own. Compare figures of one run only: the same program takes 0.7 to 1.6 times as much at
  another hour of a shared machine.
- *Lag* is the time from the service's write of a piece to the client's read. It and the *time to
  the first piece* are added ones: the time of the direct way, shown in brackets, is subtracted.
- *Came* are the pieces read, of those that the streams would have had without any wait. *Refused*
  are the most in one run.
- *Streams held*: the most with an added lag of at most {HELD_LAG_MS:g} ms (p99), {HELD_PART:.1%} of
  the pieces and no refusal, of 50, 100, 150, 200, 300 … 1,000, 1,200 … 2,000, found by halving.
- The servers take turns, forwards and backwards. The figures of the broker and the relay are
  medians, those of `tool_call` and of other servers are of one run. The clients of the broker use
  `call_tool` over WebSocket, unless another operation or protocol is named, all others HTTP. To the
  service all speak HTTP.
- The broker has `ask_for_stream = "when_asked"`, so that the service answers a chat to all servers
  in the same form. Without it the broker asks for a stream for every chat, which costs more.
{{end}}"""
