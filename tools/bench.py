"""Measure the cost of the broker: ``python tools/bench.py [--quick] [--write]``.

Needs nothing but the project's environment (and the extra ``bench`` for ``--write``). A whole run
takes a few minutes; nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import bench_cases, bench_crowd, bench_gone, bench_report, bench_starts
from tools.bench_processes import end_by_signals

_IDLE_CONNECTIONS = 10_000
# Its bound is the narrowest, and processes of one program differ by more.
_BESIDE_HTTP = 3
_PARTS = ("only_observed", "only_watched", "only_beside_http", "only_starts", "only_crowd")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--connections", default="3,100,1000", help="how many, in turn")
    parser.add_argument("--repeats", type=int, default=5, help="samples for each median")
    parser.add_argument("--quick", action="store_true", help="few samples, 1,000 idle connections")
    parser.add_argument("--only-overhead", action="store_true", help="nothing but the comparison")
    parser.add_argument("--only-observed", action="store_true", help="nothing but metrics and logs")
    parser.add_argument("--only-beside-http", action="store_true", help="nothing but that")
    parser.add_argument("--only-starts", action="store_true", help="nothing but commands")
    parser.add_argument("--only-crowd", action="store_true", help="nothing but many clients")
    parser.add_argument("--write", action="store_true", help="rewrite docs/benchmarks.md")
    parser.add_argument("--only-watched", action="store_true", help="nothing but consoles")
    options = parser.parse_args()
    end_by_signals()
    repeats = 2 if options.quick else options.repeats
    idle = 1000 if options.quick else _IDLE_CONNECTIONS
    _allow_sockets(idle + 1000)

    report = bench_report.Report({}, None, None, None, None, None)
    if options.only_observed:
        report.observed = bench_cases.observed(100, repeats)
    if options.only_watched:
        report.watched = bench_cases.watched(1000, repeats)
    if options.only_beside_http:
        report.beside_http = bench_cases.beside_http(100, _BESIDE_HTTP * repeats)
    if options.only_starts:
        report.starts = bench_starts.starts()
    if options.only_crowd:
        report.idle = bench_cases.idle(idle)
        report.waiting = [bench_crowd.waiting(count) for count in (bench_crowd.FEW, 10_000, 50_000)]
        report.burst = bench_crowd.burst(5_000)
    if any(vars(options)[part] for part in _PARTS):
        print(bench_report.as_markdown(report))
        return 0
    for count in map(int, options.connections.split(",")):
        _say(f"{count} connections")
        report.overhead[count] = bench_cases.overhead(count, repeats)
    if not options.only_overhead:
        _say("real HTTP upstream")
        report.over_http = bench_cases.over_http(32, repeats)
        _say(f"{idle} idle connections")
        report.idle = bench_cases.idle(idle)
        _say("metrics and access log")
        report.observed = bench_cases.observed(100, repeats)
        _say("consoles that watch 1,000 connections")
        report.watched = bench_cases.watched(1000, repeats)
        _say("clients over WebSocket beside HTTP support")
        report.beside_http = bench_cases.beside_http(100, _BESIDE_HTTP * repeats)
        _say("requests that wait")
        counts = (bench_crowd.FEW, 10_000) if options.quick else (bench_crowd.FEW, 10_000, 50_000)
        report.waiting = [bench_crowd.waiting(count) for count in counts]
        _say("sessions that come and go")
        report.burst = bench_crowd.burst(1_000 if options.quick else 5_000)
        _say("start-up")
        report.starts = bench_starts.starts()
        report.start_up_s = bench_cases.start_up(repeats)
        _say("1,000 connections, a nonce in each call")
        report.own_answers = bench_cases.own_answers(1000, 20)
        _say("clients that are gone")
        report.gone = bench_gone.gone()
    print(bench_report.as_markdown(report))
    if options.write:
        bench_report.write_page(report, "python tools/bench.py --write")
    return 0


def _allow_sockets(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        if hard < needed:
            sys.exit(f"Needs {needed} open files, {hard} are allowed: raise it with ulimit -Hn.")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _say(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
