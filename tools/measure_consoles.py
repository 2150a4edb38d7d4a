"""The cost of watching: the processor time of each table, and how long a read holds the loop.

``python tools/measure_consoles.py`` builds brokers without sockets and services, with 1,000 actors
and a few requests, and with 5,000 actors and 50,000 queued requests, and reads each table as a
console does. It takes a minute. ``share`` is the part of a core at one update a second; a console
that would need more than its part waits longer between two updates.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import Any

import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.console.consoles import Consoles
from exai_actors.console.feed import Feed
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.core.operators import Operators
from exai_actors.core.places import PlaceLimits
from exai_actors.testing.tree import ManualTree
from exai_actors.wire.console.protocol import Watch

VIEWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("broker", {}),
    ("providers", {}),
    ("tenants", {}),
    ("usage", {}),
    ("sessions", {}),
    ("sessions", {"sort": "-waiting"}),
    ("connections", {}),
    ("actors", {}),
    ("actors", {"sort": "-processed"}),
    ("actors", {"filter": "class:Session", "sort": "path"}),
    ("requests", {}),
    ("requests", {"filter": "state:queued", "sort": "-waited_s"}),
)
"""Tables and how they are watched."""
READS = 5


def broker(sessions: int, requests: int) -> tuple[ManualTree, Consoles]:
    """A tree with so many sessions, each with a connection, and requests that wait."""
    each = requests // sessions
    tree = ManualTree(
        capacity=CapacitySettings(limit=4, queue=requests + 10, session_queue=each + 10),
        session=SessionSettings(window=each + 10),
        sessions=sessions + 10,
        places=PlaceLimits(connections=sessions + 10),
    )
    clients = [tree.client() for _ in range(sessions)]
    for client in clients:
        for number in range(each):
            client.call(str(number))
    consoles = Consoles(
        tree.system,
        operators=Operators((), on_loopback=True),
        parts=tree.overview,
        supervisors=tree.supervisors,
        providers=tree.directory.providers,
        clock=tree.clock,
    )
    return tree, consoles


def read(consoles: Consoles, table: str, query: dict[str, Any]) -> tuple[float, float]:
    """The processor time of one update, and the longest time without a pause; both in ms."""
    feed = Feed(consoles.sources)
    feed.watch(Watch(table, limit=50, every_s=1.0, **query))
    total = longest = 0.0
    for number in range(READS):
        now = 10.0 * number
        while (due := feed.next_due()) is not None and due <= now:
            began = time.process_time()
            feed.frames(now, 0.0)
            took = time.process_time() - began
            total += took
            longest = max(longest, took)
    feed.close()
    return total / READS * 1e3, longest * 1e3


def measure(sessions: int, requests: int) -> None:
    tree, consoles = broker(sessions, requests)
    actors = len(tree.system.paths())
    # As in the daemon, where the collector runs between other work.
    gc.collect()
    gc.disable()
    print(f"\n{actors:,} actors, {requests:,} requests")
    print(f"{'table':<12}{'query':<34}{'ms an update':>13}{'share':>8}{'longest ms':>12}")
    for table, query in VIEWS:
        cost, longest = read(consoles, table, query)
        words = " ".join(f"{name} {value}" for name, value in query.items())
        print(f"{table:<12}{words:<34}{cost:>13.2f}{cost / 1e3:>8.2%}{longest:>12.2f}")

    last = f"{sessions}/{requests // sessions}"
    for question, answer in (("why", tree.overview.why), ("request", tree.overview.timeline)):
        began = time.process_time()
        answer(last)
        print(f"{question:<12}{'the last request':<34}{'':>21}{ms_since(began):>12.2f}")


def ms_since(began: float) -> float:
    return (time.process_time() - began) * 1e3


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    measure(sessions=500, requests=1_000)
    measure(sessions=2_500, requests=50_000)


if __name__ == "__main__":
    main()
