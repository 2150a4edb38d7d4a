"""Measure the broker on streams beside a bare relay: ``python tools/bench_streams.py [--quick]``.

Needs the project's environment and a C compiler. ``--write`` renews its part of the page
docs/benchmarks.md and takes less than eight minutes, ``--quick`` prints the main figures in less
than one. ``--peers`` measures HAProxy and nginx, too, ``--tree`` the broker of another checkout, of
which ``--dialect`` chooses the clients. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.bench_processes import end_by_signals
from tools.streams import page
from tools.streams.cases import QUICK, Plan, Point, measure
from tools.streams.servers import CHAT_DIALECTS, STREAM_DIALECTS, CannotMeasure, check_peers

_SOCKETS = 10_000


def main(arguments: list[str] | None = None) -> int:
    plan, options = _plan(arguments)
    end_by_signals()
    try:
        _allow_sockets()
        if plan.peers:
            check_peers()
        found = measure(plan)
    except (CannotMeasure, RuntimeError) as error:
        print(f"tools/bench_streams.py: {error}", file=sys.stderr)
        return 1
    print(page.as_markdown(found))
    if options.write:
        page.write(found, "python tools/bench_streams.py --write" + " --peers" * plan.peers)
    return 0


def _plan(arguments: list[str] | None) -> tuple[Plan, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main figures, once each")
    parser.add_argument("--peers", action="store_true", help="HAProxy and nginx, too")
    parser.add_argument("--write", action="store_true", help="rewrite its part of the page")
    parser.add_argument(
        "--case",
        action="append",
        choices=Plan().cases,
        help="only this case (repeatable): %(choices)s",
    )
    parser.add_argument("--streams", help="only so many clients: 10,100")
    parser.add_argument("--repeats", type=int, help="samples for each median")
    parser.add_argument("--pieces", type=int, default=100, help="pieces of a stream")
    parser.add_argument("--window-ms", type=int, help="how long each sample takes")
    parser.add_argument("--tree", type=Path, help="beside the broker of another checkout")
    parser.add_argument(
        "--dialect",
        action="append",
        choices=list(dict.fromkeys([*STREAM_DIALECTS.values(), *CHAT_DIALECTS.values()])),
        help="only such clients of the broker (repeatable): %(choices)s",
    )
    options = parser.parse_args(arguments)
    if options.write and (options.tree or options.dialect):
        parser.error("the page shows this checkout and every dialect: --write goes without")
    plan = QUICK if options.quick else Plan()
    plan = replace(
        plan,
        peers=options.peers,
        pieces=options.pieces,
        cases=options.case or plan.cases,
        other_tree=options.tree and options.tree.resolve(),
        dialects=options.dialect or (),
    )
    return (
        replace(
            plan,
            paced=_changed(plan.paced, options),
            unpaced=_changed(plan.unpaced, options),
            chats=_changed(plan.chats, options),
            stalled=_changed(plan.stalled, options),
        ),
        options,
    )


def _changed(points: Sequence[Point], options: argparse.Namespace) -> Sequence[Point]:
    if options.streams:
        asked = map(int, options.streams.split(","))
        points = [replace(points[-1], streams=each, all_dialects=True) for each in asked]
    return [
        replace(
            point,
            repeats=options.repeats or point.repeats,
            window_ms=options.window_ms or point.window_ms,
        )
        for point in points
    ]


def _allow_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < _SOCKETS:
        raise CannotMeasure(f"needs {_SOCKETS} open files, {hard} are allowed: see ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
