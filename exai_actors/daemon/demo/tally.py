"""What happened in the demo: facts in, snapshots out. Times are seconds of one clock, given in."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

RATE_WINDOW_S = 2.0


class SessionView(msgspec.Struct, frozen=True):
    """One session up to now. ``share`` is its part of all served requests, from 0 to 1.

    A wait is the time from the client's sending to the arrival at the upstream.
    """

    name: str
    connections: int
    waiting: int
    served: int
    failed: int
    share: float
    wait_p50: float
    wait_p99: float


class Snapshot(msgspec.Struct, frozen=True):
    """The whole picture at one moment; ``holders`` names the session of each call in flight.

    What is said of the upstream (``holders``, ``peak``, ``refused``, ``utilisation``) is its own
    count, not the broker's. ``utilisation`` is the part of limit times elapsed time that was used.
    """

    elapsed: float
    duration: float
    limit: int
    service_s: float
    holders: tuple[str, ...]
    peak: int
    calls: int
    refused: int
    utilisation: float
    rate: float
    sessions: tuple[SessionView, ...]

    @property
    def possible_rate(self) -> float:
        """What the upstream can serve at most, in requests per second."""
        return self.limit / self.service_s

    @property
    def served(self) -> int:
        return sum(session.served for session in self.sessions)

    @property
    def failed(self) -> int:
        return sum(session.failed for session in self.sessions)


class DemoTally:
    """Gathers what clients and the upstream report; a request is known by its nonce."""

    def __init__(
        self, connections: dict[str, int], *, limit: int, service_s: float, duration: float
    ) -> None:
        self._connections = connections
        self._limit = limit
        self._service_s = service_s
        self._duration = duration
        self._start = 0.0
        self._sent: dict[str, tuple[str, float]] = {}
        self._waits: dict[str, list[float]] = {name: [] for name in connections}
        self._served: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._answers: deque[float] = deque()
        self._running: dict[str, str] = {}
        self._peak = 0
        self._calls = 0
        self._refused = 0
        self._busy = 0.0
        self._busy_until = 0.0

    def started(self, now: float) -> None:
        """The clients begin; everything is counted from here."""
        self._start = self._busy_until = now

    def sent(self, nonce: str, session: str, now: float) -> None:
        self._sent[nonce] = (session, now)

    def arrived(self, nonce: str, now: float) -> None:
        """The request is at the upstream and runs."""
        self._account(now)
        session, sent = self._sent.pop(nonce)
        self._waits[session].append(now - sent)
        self._running[nonce] = session
        self._calls += 1
        self._peak = max(self._peak, len(self._running))

    def refused(self) -> None:
        """The upstream had no room and said 429."""
        self._refused += 1

    def left(self, nonce: str, now: float) -> None:
        """The upstream has answered, or its caller has gone."""
        self._account(now)
        self._running.pop(nonce, None)

    def served(self, session: str, now: float) -> None:
        """The client has the right answer."""
        self._served[session] += 1
        self._answers.append(now)

    def failed(self, nonce: str, session: str) -> None:
        """The client has an error, or an answer that is not its own."""
        self._sent.pop(nonce, None)
        self._failed[session] += 1

    def snapshot(self, now: float) -> Snapshot:
        self._account(now)
        while self._answers and self._answers[0] < now - RATE_WINDOW_S:
            self._answers.popleft()
        elapsed = now - self._start
        waiting = Counter(session for session, _ in self._sent.values())
        together = sum(self._served.values())
        return Snapshot(
            elapsed=elapsed,
            duration=self._duration,
            limit=self._limit,
            service_s=self._service_s,
            holders=tuple(self._running.values()),
            peak=self._peak,
            calls=self._calls,
            refused=self._refused,
            utilisation=self._busy / (self._limit * elapsed) if elapsed else 0.0,
            rate=len(self._answers) / min(elapsed, RATE_WINDOW_S) if elapsed else 0.0,
            sessions=tuple(
                SessionView(
                    name=name,
                    connections=connections,
                    waiting=waiting[name],
                    served=self._served[name],
                    failed=self._failed[name],
                    share=self._served[name] / together if together else 0.0,
                    wait_p50=percentile(self._waits[name], 0.50),
                    wait_p99=percentile(self._waits[name], 0.99),
                )
                for name, connections in self._connections.items()
            ),
        )

    def _account(self, now: float) -> None:
        self._busy += len(self._running) * (now - self._busy_until)
        self._busy_until = now


def percentile(values: Sequence[float], part: float) -> float:
    """The least value that ``part`` of all do not exceed; 0 when there are none."""
    if not values:
        return 0.0
    return sorted(values)[math.ceil(part * len(values)) - 1]
