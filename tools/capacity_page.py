"""The figures of capacity as a table, and their part of docs/benchmarks.md with its picture."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from tools.bench_processes import ROOT
from tools.capacity_simulated import Client, Simulation

PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "img" / "shares.svg"
BEGIN, END = "<!-- capacity -->", "<!-- end of capacity -->"


@dataclass
class Row:
    """One figure; ``wanted`` is empty for a figure without a goal."""

    case: str
    found: str
    wanted: str
    reached: bool


def as_table(rows: list[Row]) -> str:
    lines = ["| case | measured | to reach |", "|---|---:|---:|"]
    for row in rows:
        found = row.found if row.reached else f"{row.found} (missed)"
        lines.append(f"| {row.case} | {found} | {row.wanted} |")
    return "\n".join(lines)


def part_of(page: str) -> str:
    """The part of a page between the markers, which it includes; empty if there are none."""
    begin, end = page.find(BEGIN), page.find(END)
    return page[begin : end + len(END)] if 0 <= begin < end else ""


def write(rows: list[Row], command: str) -> None:
    """Replace the capacity part of the page, or add it, and draw its picture."""
    _draw()
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    part = _PART.format(
        begin=BEGIN, end=END, command=command, machine=machine, table=as_table(rows)
    )
    page = PAGE.read_text()
    old = part_of(page)
    PAGE.write_text(page.replace(old, part) if old else f"{page.rstrip()}\n\n{part}\n")


def _draw() -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shares"
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axes, fair, title in zip(
        both, (False, True), ("first come, first served", "exai_actors"), strict=True
    ):
        clients = [
            Client(f"{50 * 20 ** (number / 9):.0f}", 50, 50 * 20 ** (number / 9), outstanding=8)
            for number in range(10)
        ]
        served = Simulation(4, clients, 0, fair=fair).run(1200)
        whole = sum(each.cost for each in served.values())
        axes.bar(list(served), [each.cost / whole * 100 for each in served.values()])
        axes.axhline(10, color="black", linewidth=0.8, linestyle="--")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("mean tokens of a session's answers", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_ylabel("part of the capacity, %", fontsize=8)
    figure.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    PICTURE.write_text("\n".join(line.rstrip() for line in PICTURE.read_text().splitlines()) + "\n")


_PART = """\
{begin}
## Capacity

The use of a scarce service, and its shares. The service in these measurements enforces its limit
with 429s and keeps its own account (`tools/limited_upstream.py`); the cases in virtual time run on
the broker's own core (`tools/capacity_simulated.py`). To repeat them:

<!-- docs-test: skip, it takes minutes -->
```console
$ {command}
```

{machine}.

{table}

![Parts of the capacity of ten sessions whose calls differ twentyfold](img/shares.svg)

- *Greedy and small*: one session with 24 connections and one with 2; each connection asks again as
  soon as it has an answer. A running call is never preempted, so before each call the small session
  waits for the next free permit, up to one service time. With two calls at a time that wait, not
  its share, bounds its part of all answers. The service runs in a separate process and keeps its
  200 ms to some microseconds; requests/s are counted from the end of the first round of four calls
  to the end of the last.
- *Light beside heavy*: 8 permits, two sessions with answers of 1,000 tokens on average and two with
  100, up to twice that, together asking for nearly twice the capacity, and one that occasionally
  asks for 50.
- *The estimates* are sent in `progress` while a request waits; the error is |sent - real| / real.
{end}"""
