"""Load a broker in every way that hurts, and account for every request: ``python tools/stress.py``.

A broker process runs before a service over real HTTP that enforces its limit and keeps its own
account. Every answer is compared, word by word, with what was asked for. Exits with 1 if a request
is unaccounted for or went without an answer for no reason, an answer is somebody else's, the
service ever saw more at once than the limit, or anything is left behind. ``--duration SECONDS``
goes through all cases again and again. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from exai_actors.client import connect
from tools.capacity_live import broker_before
from tools.limited_upstream import TOO_MANY, LimitedUpstream, limited_upstream
from tools.stress_cases import CASES, Account, Stage

SETTLE_S = 10.0
ENDS = ("completed", "refused", "expired", "cancelled", "failed")


@dataclass
class Result:
    """What one run found. ``complaints`` is empty when all is as it must be."""

    limit: int
    rounds: int
    seconds: float
    most_at_once: int
    account: Account
    upstream: dict[str, int]
    memory_kib: tuple[int, int]
    complaints: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=3, help="how many calls the service allows")
    parser.add_argument("--duration", type=float, default=0.0, help="go on for so many seconds")
    parser.add_argument("--case", help="only the case whose name begins so")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    result = asyncio.run(
        run(options.limit, options.duration, options.seed, options.case or "", quiet=options.json)
    )
    print(json.dumps(asdict(result), indent=2) if options.json else as_text(result))
    return 1 if result.complaints else 0


async def run(
    limit: int, duration_s: float, seed: int, only: str = "", *, quiet: bool = False
) -> Result:
    """All cases in their order, once and again until the time is over or Ctrl-C ends them."""
    cases = [(name, case) for name, case in CASES if name.startswith(only)]
    if not cases:
        sys.exit(f"no case begins with '{only}'; there are: {', '.join(name for name, _ in CASES)}")
    account = Account()
    began, rounds, ended = time.monotonic(), 0, asyncio.Event()
    async with (
        ctrl_c_sets(ended),
        limited_upstream(limit) as upstream,
        broker_before(upstream.url, limit=limit, session="resume_s = 0\nqueue = 10000") as (
            url,
            broker,
        ),
    ):
        stage = Stage(url, upstream, account, random.Random(seed))
        first_kib = 0
        while rounds == 0 or time.monotonic() - began < duration_s:
            for name, case in cases:
                if ended.is_set():
                    break
                at, sent = time.monotonic(), account.sent
                await case(stage)
                if not quiet:
                    took = time.monotonic() - at
                    print(
                        f"{name:<24} {account.sent - sent:>6} requests {took:>7.1f} s", flush=True
                    )
            if ended.is_set():
                break
            rounds += 1
            # A run of hours would keep an instant of every call.
            upstream.arrived.clear()
            upstream.served.clear()
            first_kib = first_kib or broker.resident_kib
        complaints = await _left_behind(url, upstream)
        memory = first_kib or broker.resident_kib, broker.resident_kib
    complaints += judge(account, upstream)
    return Result(
        limit,
        rounds,
        round(time.monotonic() - began, 1),
        upstream.most,
        account,
        dict(upstream.ended),
        memory,
        complaints,
    )


@asynccontextmanager
async def ctrl_c_sets(ended: asyncio.Event) -> AsyncIterator[None]:
    """The first one ends the run behind its present case, with the account; the second at once."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        ended.set()
        print("ending behind this case; Ctrl-C again ends at once", file=sys.stderr, flush=True)

    loop.add_signal_handler(signal.SIGINT, heard)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def judge(account: Account, upstream: LimitedUpstream) -> list[str]:
    """What is wrong with the account of a run, or with what the service saw of it."""
    complaints = []
    if account.unaccounted:
        complaints.append(f"{account.unaccounted} requests never ended, or ended twice")
    if account.denied:
        complaints.append(
            f"{account.denied} requests had no answer though nothing was in their way"
        )
    if account.wrong:
        complaints.append(f"{account.wrong} answers were not those that were asked for")
    if upstream.most > upstream.limit:
        complaints.append(f"the service saw {upstream.most} at once, its limit is {upstream.limit}")
    if too_many := upstream.ended[TOO_MANY]:
        complaints.append(f"the service had to refuse {too_many} calls as too many at once")
    return complaints


async def _left_behind(url: str, upstream: LimitedUpstream) -> list[str]:
    """What is still there when nobody asks for anything any more."""
    left: dict[str, Any] = {}
    async with connect(url) as client:
        until = time.monotonic() + SETTLE_S
        while True:
            status = json.loads((await client.call("status")).text)
            (provider,) = status["providers"]
            left = {
                "permits held": provider["in_flight"],
                "permits in quarantine": provider["quarantined"],
                "requests waiting": provider["queued"],
                "calls at the service": upstream.running,
                "connections": status["connections"] - 1,
                "sessions": status["sessions"] - 1,
            }
            if not any(left.values()) or time.monotonic() > until:
                break
            await asyncio.sleep(0.1)
    complaints = [f"{number} {what} are left" for what, number in left.items() if number]
    complaints += [
        f"{provider[what]} {what} at the provider"
        for what in ("anomalies", "over", "faults")
        if provider[what]
    ]
    return complaints


def as_text(result: Result) -> str:
    account = result.account
    lines = [
        "",
        f"sent {account.sent:,} in {result.seconds:g} s, {result.rounds} whole round(s)",
        *(f"  {kind:<11} {account.ended[kind]:>8,}" for kind in ENDS),
        f"  {'vanished':<11} {account.vanished:>8,}  (their clients left without a word)",
        f"  {'unaccounted':<11} {account.unaccounted:>8,}",
        f"the service saw at most {result.most_at_once} at once, of {result.limit}:",
        *(f"  {kind:<26} {number:>8,}" for kind, number in sorted(result.upstream.items())),
        (
            f"memory of the broker: {result.memory_kib[0]:,} KiB after the first round, "
            f"{result.memory_kib[1]:,} KiB at the end"
        ),
    ]
    if result.complaints:
        lines += ["NOT as it must be:", *(f"  {each}" for each in result.complaints)]
    else:
        lines.append("every request is accounted for, every answer was its own, nothing is left")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
