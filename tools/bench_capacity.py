"""Measure how well capacity is used and shared: ``python tools/bench_capacity.py [--quick]``.

Some cases run in virtual time on the broker's own core, the others against a broker process before
a service that enforces its limit. Needs nothing but the project's environment (and the extra
``bench`` for ``--write``); a whole run takes about four minutes; nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import bench_gone, capacity_live, capacity_page, capacity_simulated
from tools.capacity_page import Row
from tools.capacity_simulated import percentile


@dataclass
class Plan:
    """How long each case goes on, and how often it is repeated."""

    live_s: float = 20.0
    overload_s: float = 60.0
    calm_s: float = 20.0
    seeds: int = 15
    hours: float = 3.0
    gone: int = 50
    costs: int = 15


QUICK = Plan(live_s=5, overload_s=8, calm_s=6, seeds=3, hours=0.5, gone=5, costs=5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short cases, under a minute in all")
    parser.add_argument("--write", action="store_true", help="rewrite its part of the page")
    options = parser.parse_args()
    rows = measure(QUICK if options.quick else Plan())
    print(capacity_page.as_table(rows))
    if options.write:
        capacity_page.write(rows, "python tools/bench_capacity.py --write")
    return 0 if all(row.reached for row in rows) else 1


def measure(plan: Plan) -> list[Row]:
    """Every case, each figure with what it is to reach."""
    return [*_live(plan), *_simulated(plan), *_gone(plan), *_overload(plan), *_grants(plan)]


def _live(plan: Plan) -> list[Row]:
    _say("a greedy session beside a small one")
    found = asyncio.run(capacity_live.greedy_and_small(plan.live_s))
    errors = found.estimate_errors or [0.0]
    return [
        Row("requests/s, limit 4 x 200 ms", f"{found.per_s:.2f}", "≥ 19.8", found.per_s >= 19.8),
        Row("errors seen by clients", f"{found.errors}", "0", not found.errors),
        Row("429s provoked upstream", f"{found.too_many}", "0", not found.too_many),
        Row("most at once upstream", f"{found.most_at_once}", "≤ 4", found.most_at_once <= 4),
        Row(
            "small session's wait, p99",
            f"{found.small_p99_wait_s:.3f} s",
            "≤ 0.45 s",
            found.small_p99_wait_s <= 0.45,
        ),
        Row("small session's part of all answers", f"{found.small_share:.0%}", "", True),
        Row(
            f"error of {len(errors)} estimates sent to queued requests, median / p90",
            f"{statistics.median(errors):.0%} / {percentile(errors, 0.9):.0%}",
            "",
            True,
        ),
    ]


def _simulated(plan: Plan) -> list[Row]:
    _say("shares and gates, in virtual time")
    index = capacity_simulated.share_of_backlogged(plan.seeds)
    fair = capacity_simulated.wait_beside_heavy(plan.seeds, fair=True)
    line = capacity_simulated.wait_beside_heavy(plan.seeds, fair=False)
    gate = capacity_simulated.rate_gate(200, plan.hours)
    return [
        Row(
            "Jain index, 10 backlogged sessions, costs differing 20 x",
            f"{index:.4f}",
            "≥ 0.99",
            index >= 0.99,
        ),
        Row(
            "light client beside 4 heavy ones, p99 wait",
            f"{fair:.2f} s",
            "≤ 1.5 s",
            fair <= 1.5,
        ),
        Row("the same, first come, first served", f"{line:.0f} s", "", True),
        Row(
            f"rate gate of 200/min for {plan.hours:g} h, used",
            f"{gate.used:.2%}",
            "≥ 99 %",
            gate.used >= 0.99,
        ),
        Row(
            "windows of a minute above it",
            f"{gate.windows_above}",
            "0",
            not gate.windows_above,
        ),
    ]


def _gone(plan: Plan) -> list[Row]:
    _say("clients that are gone")
    worst = max(each.p99_ms for each in bench_gone.gone(plan.gone))
    return [
        Row(
            "permit in use again after a client vanished, worst phase, p99",
            f"{worst:.1f} ms",
            "≤ 100 ms",
            worst <= 100,
        )
    ]


def _overload(plan: Plan) -> list[Row]:
    _say("a flood")
    found = asyncio.run(capacity_live.overload(plan.overload_s, plan.calm_s))
    return [
        Row(
            f"after {plan.overload_s:g} s of 3 x overload: goodput at half load",
            f"{found.goodput_after:.1%}",
            "≥ 95 %",
            found.goodput_after >= 0.95,
        ),
        Row("reached after", f"{found.recovered_in_s:g} s", "≤ 10 s", found.recovered_in_s <= 10),
        Row(
            "refused immediately / expired in the queue, under overload",
            f"{found.refused_at_once} / {found.expired}",
            "",
            True,
        ),
    ]


def _grants(plan: Plan) -> list[Row]:
    _say("the cost of a grant")
    cost = capacity_simulated.grant_cost(10, 10_000, plan.costs)
    return [
        Row(
            "a grant with 10,000 sessions waiting, against 10",
            f"{cost.many_us:.1f} / {cost.few_us:.1f} µs = {cost.ratio:.2f}",
            "≤ 3",
            cost.ratio <= 3,
        )
    ]


def _say(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
