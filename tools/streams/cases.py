"""The cases of the benchmark of streams: each takes turns with all servers, and keeps medians."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.streams.servers import (
    BROKER,
    BROKER_HTTP,
    BROKER_RPC,
    CHAT_DIALECTS,
    CHAT_FRAME,
    DIRECT,
    PEERS,
    RELAY,
    STREAM_DIALECTS,
    Programs,
    Sample,
    Server,
    Workshop,
    compiled,
    workshop,
)

# How many streams the search for the largest number that is held tries.
STEPS = (50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1200, 1400, 1600, 2000)
# One sample says nothing beside the median of several: the machine is not equally quiet throughout.
MEASURED_ONCE = (CHAT_FRAME, *PEERS)
HELD_LAG_MS, HELD_PART = 20.0, 0.975
MANY_STALLED = 8


@dataclass(frozen=True)
class Point:
    """So many streams, repeated so often, measured for so long each time."""

    streams: int
    repeats: int
    window_ms: int
    all_dialects: bool = True


@dataclass(frozen=True)
class Plan:
    """What to measure, and how long."""

    paced: Sequence[Point] = (
        Point(10, 3, 2000),
        Point(100, 3, 2000),
        Point(500, 3, 2000),
        Point(1000, 1, 2000, all_dialects=False),
        Point(2000, 2, 1500, all_dialects=False),
    )
    unpaced: Sequence[Point] = (Point(10, 3, 1000), Point(100, 3, 1000))
    chats: Sequence[Point] = (Point(1, 3, 1000), Point(10, 3, 1000), Point(100, 3, 1000))
    held_window_ms: int = 1200
    stalled: Sequence[Point] = (
        Point(200, 1, 2500),
        Point(500, 1, 2500),
        Point(1000, 3, 2500),
    )
    settle_ms: int = 400
    stalled_settle_ms: int = 1500
    """Until as much has been written as all buffers on the way to the reader hold."""
    pieces: int = 100
    cases: Sequence[str] = ("paced", "unpaced", "chats", "held", "stalled-reader")
    peers: bool = False
    other_tree: Path | None = None
    dialects: Sequence[str] = ()
    """The clients of brokers: all that a case has, unless some are named."""


QUICK = Plan(
    paced=(
        Point(10, 1, 2000, all_dialects=False),
        Point(100, 1, 1500, all_dialects=False),
        Point(500, 1, 1500, all_dialects=False),
    ),
    unpaced=(Point(100, 1, 800, all_dialects=False),),
    chats=(Point(10, 1, 800),),
    held_window_ms=1000,
    stalled=(Point(200, 1, 1500), Point(1000, 1, 1500)),
    cases=("paced", "unpaced", "chats"),
)

Rows = dict[str, Sample]
Pairs = dict[str, tuple[Sample, Sample]]
"""Of each server without and with a client that stops reading."""


@dataclass
class Found:
    """The results; by number of clients, and of each server by its name."""

    paced: dict[int, Rows] = field(default_factory=dict)
    unpaced: dict[int, Rows] = field(default_factory=dict)
    chats: dict[int, Rows] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    stalled: dict[int, Pairs] = field(default_factory=dict)
    idle_cpu_ms: dict[int, float] = field(default_factory=dict)
    """CPU of an idle broker a second, by number of clients that have stopped reading."""

    def added(self, streams: int, name: str, what: str) -> float:
        """What a server adds to a time of the direct way, in ms."""
        rows = self.paced[streams]
        value: float = getattr(rows[name], what) - getattr(rows[DIRECT], what)
        return value


def measure(plan: Plan) -> Found:
    """All cases of the plan. Raises CannotMeasure."""
    found = Found()
    with compiled() as programs:
        if "paced" in plan.cases:
            for point in plan.paced:
                _say(f"{point.streams:,} paced streams")
                # New servers for each, for their memory.
                found.paced |= _in_turn(plan, programs, [point], _stream_servers)
        if "unpaced" in plan.cases:
            _say("streams as fast as possible")
            found.unpaced = _in_turn(plan, programs, plan.unpaced, _stream_servers, every_us=0)
        if "chats" in plan.cases:
            _say("chats")
            found.chats = _in_turn(plan, programs, plan.chats, _chat_servers, stream=0)
        if "held" in plan.cases:
            for name in (BROKER, RELAY):
                _say(f"streams held: {name}")
                found.held[name] = _held(plan, programs, name, found)
        if "stalled-reader" in plan.cases:
            _say("streams and a client that stops reading")
            found.stalled = _stalled(plan, programs)
            found.idle_cpu_ms = _idle_beside_stalled(plan, programs)
    return found


Start = Callable[[Plan, Workshop, Server], list[Server]]


def _stream_servers(plan: Plan, shop: Workshop, service: Server) -> list[Server]:
    return _servers(plan, shop, service, STREAM_DIALECTS)


def _chat_servers(plan: Plan, shop: Workshop, service: Server) -> list[Server]:
    return _servers(plan, shop, service, CHAT_DIALECTS)


def _servers(plan: Plan, shop: Workshop, service: Server, dialects: dict[str, str]) -> list[Server]:
    asked = {
        name: dialect
        for name, dialect in dialects.items()
        if not plan.dialects or dialect in plan.dialects
    }
    broker = shop.broker(service)
    servers = [Server(name, broker, dialect) for name, dialect in asked.items()]
    if plan.other_tree is not None:
        other = shop.broker(service, plan.other_tree)
        servers += [Server(of_other_tree(name), other, dialect) for name, dialect in asked.items()]
    if plan.peers:
        servers += [shop.haproxy(service), shop.nginx(service)]
    return [*servers, shop.relay(service)]


def of_other_tree(name: str) -> str:
    """The name of a row of the broker, for the broker of the other checkout."""
    return f"other tree's {name}"


def _in_turn(
    plan: Plan, programs: Programs, points: Sequence[Point], start: Start, **options: int
) -> dict[int, Rows]:
    """At each point the service alone, then the servers: forwards and backwards in turn.

    Beside another checkout each repeat has new servers: of two processes of one program, one is
    often a tenth faster for as long as it runs.
    """
    options |= {"pieces": plan.pieces, "settle_ms": plan.settle_ms}
    samples: dict[int, dict[str, list[Sample]]] = {point.streams: {} for point in points}
    most = max((point.repeats for point in points), default=0)
    for repeats in [[each] for each in range(most)] if plan.other_tree else [range(most)]:
        with workshop(programs) as shop:
            service = shop.service()
            all_servers = start(plan, shop, service)
            for point in points:
                for repeat in repeats:
                    for each in _turn(plan, point, repeat, service, all_servers):
                        sample = shop.sample(
                            each, point.streams, window_ms=point.window_ms, **options
                        )
                        samples[point.streams].setdefault(each.name, []).append(sample)
    return {
        streams: {name: _median(each) for name, each in rows.items()}
        for streams, rows in samples.items()
    }


def _turn(
    plan: Plan, point: Point, repeat: int, service: Server, all_servers: Sequence[Server]
) -> list[Server]:
    """The servers that a repeat measures, in this order."""
    if repeat >= point.repeats:
        return []
    left_out: set[str] = set()
    if not (point.all_dialects or plan.dialects):
        left_out |= {BROKER_RPC, BROKER_HTTP}
    if repeat and not plan.dialects:
        left_out.update(MEASURED_ONCE)
    left_out |= {of_other_tree(name) for name in left_out}
    servers = [each for each in all_servers if each.name not in left_out]
    return [service, *servers] if repeat == 0 else servers[:: -1 if repeat % 2 else 1]


def _median(samples: Sequence[Sample]) -> Sample:
    """The medians of a server's figures; memory is that of its first run, when it was new."""
    names = ("seconds", "pieces", "ended", "offered", "lag_p50", "lag_p99", "wait_p50", "wait_p99")
    middle = {name: statistics.median(getattr(each, name) for each in samples) for name in names}
    cpu_us = statistics.median(each.cpu_us for each in samples)
    return replace(
        samples[0],
        **middle,
        cpu_s=cpu_us * max(1, middle["pieces"]) / 1e6,
        refused=max(each.refused for each in samples),
    )


def _held(plan: Plan, programs: Programs, name: str, found: Found) -> int:
    """The largest number of ``STEPS`` that a server holds: at most two runs for each halving."""
    with workshop(programs) as shop:
        service = shop.service()
        if name == RELAY:
            server = shop.relay(service)
        else:
            server = Server(BROKER, shop.broker(service), "call_tool")

        def holds(streams: int) -> bool:
            point = min(found.paced, key=lambda each: abs(each - streams), default=0)
            direct = found.paced[point][DIRECT].lag_p99 if point else 2.0
            options = {"pieces": plan.pieces, "window_ms": plan.held_window_ms}
            for _ in range(2):
                sample = shop.sample(server, streams, **options)
                if (
                    sample.lag_p99 - direct <= HELD_LAG_MS
                    and sample.came >= HELD_PART
                    and not sample.refused
                ):
                    return True
            return False

        low, high = -1, len(STEPS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(STEPS[middle]) else (low, middle)
        return STEPS[low] if low >= 0 else 0


def _stalled(plan: Plan, programs: Programs) -> dict[int, Pairs]:
    """The client orders a long stream, as fast as the service can, and does not read it.

    To fill the buffers takes a tenth of a second of the service's CPU and as much of the broker's,
    which the others lack on a machine that is full. That is not measured.
    """
    found = {}
    with workshop(programs) as shop:
        service = shop.service()
        servers = [Server(BROKER, shop.broker(service), "call_tool"), shop.relay(service)]
        for point in plan.stalled:
            options = {
                "pieces": plan.pieces,
                "window_ms": point.window_ms,
                "settle_ms": plan.stalled_settle_ms,
            }
            samples: dict[str, dict[int, list[Sample]]] = {
                each.name: {0: [], 1: []} for each in servers
            }
            for repeat in range(point.repeats):
                for each in servers:
                    for stalled in (0, 1) if repeat % 2 == 0 else (1, 0):
                        sample = shop.sample(each, point.streams, stalled=stalled, **options)
                        samples[each.name][stalled].append(sample)
            found[point.streams] = {
                name: (_median(both[0]), _median(both[1])) for name, both in samples.items()
            }
    return found


def _idle_beside_stalled(plan: Plan, programs: Programs) -> dict[int, float]:
    """With nothing but a stream of one piece a second beside them."""
    with workshop(programs) as shop:
        broker = Server(BROKER, shop.broker(shop.service()), "call_tool")
        settle_ms = 2 * plan.stalled_settle_ms
        found = {}
        for stalled in (0, MANY_STALLED):
            sample = shop.sample(
                broker, 1, stalled=stalled, every_us=1_000_000, settle_ms=settle_ms, window_ms=3000
            )
            found[stalled] = sample.cpu_s / sample.seconds * 1e3
    return found


def _say(text: str) -> None:
    print(f"measuring: {text}", file=sys.stderr, flush=True)
