"""Load a broker in every harmful way, and account for every request: ``python tools/stress.py``.

A broker process runs before a service over real HTTP that enforces its limit and keeps its own
account. Every answer is compared, word by word, with its prompt. Exits with 1 if a request is
unaccounted for or was denied an answer, an answer belongs to another request, the service ever had
more calls than the limit, or anything is left over. ``--duration SECONDS`` repeats all cases.
Nothing leaves 127.0.0.1.
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
    """The findings of one run. ``complaints`` is empty if it passed."""

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
    parser.add_argument(
        "--duration", type=float, default=0.0, help="repeat the cases for so many seconds"
    )
    parser.add_argument("--case", help="only the cases whose names begin with this")
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
    """All cases in order, at least once, until the time is over or Ctrl-C ends them."""
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
            # A run of hours would keep an instant for every call.
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
    """The first Ctrl-C ends the run after the present case, the second immediately."""
    loop = asyncio.get_running_loop()

    def end_after_case() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        ended.set()
        print("ending after this case; Ctrl-C again ends immediately", file=sys.stderr, flush=True)

    loop.add_signal_handler(signal.SIGINT, end_after_case)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def judge(account: Account, upstream: LimitedUpstream) -> list[str]:
    """The complaints about the account of a run, or about the calls that the service saw."""
    complaints = []
    if account.unaccounted:
        complaints.append(f"{account.unaccounted} requests never ended, or ended twice")
    if account.denied:
        complaints.append(f"{account.denied} requests had no answer though nothing prevented one")
    if account.wrong:
        complaints.append(f"{account.wrong} answers belonged to other requests")
    if upstream.most > upstream.limit:
        complaints.append(f"the service had {upstream.most} calls, its limit is {upstream.limit}")
    if too_many := upstream.ended[TOO_MANY]:
        complaints.append(f"the service refused {too_many} calls above its limit")
    return complaints


async def _left_behind(url: str, upstream: LimitedUpstream) -> list[str]:
    """The complaints about things left over after the last request has ended."""
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
    complaints = [f"{number} {name} are left" for name, number in left.items() if number]
    complaints += [
        f"{provider[name]} {name} at the provider"
        for name in ("anomalies", "over", "violations")
        if provider[name]
    ]
    return complaints


def as_text(result: Result) -> str:
    account = result.account
    lines = [
        "",
        f"sent {account.sent:,} in {result.seconds:g} s, {result.rounds} whole round(s)",
        *(f"  {kind:<11} {account.ended[kind]:>8,}" for kind in ENDS),
        f"  {'vanished':<11} {account.vanished:>8,}  (their clients left without closing)",
        f"  {'unaccounted':<11} {account.unaccounted:>8,}",
        f"the service had at most {result.most_at_once} calls at a time, of {result.limit}:",
        *(f"  {kind:<26} {number:>8,}" for kind, number in sorted(result.upstream.items())),
        (
            f"memory of the broker: {result.memory_kib[0]:,} KiB after the first round, "
            f"{result.memory_kib[1]:,} KiB at the end"
        ),
    ]
    if result.complaints:
        lines += ["FAILED:", *(f"  {each}" for each in result.complaints)]
    else:
        lines.append("every request is accounted for, every answer was its own, nothing is left")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
