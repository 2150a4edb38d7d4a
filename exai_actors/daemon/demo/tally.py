"""The demo's measurements: events in, snapshots out. Times are seconds of the caller's clock."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

RATE_WINDOW_S = 2.0


class SessionView(msgspec.Struct, frozen=True):
    """The figures of one session. ``share`` is its fraction of all served requests, from 0 to 1.

    A wait is the time from sending by the client to arrival at the service.
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

    ``holders``, ``peak``, ``refused`` and ``utilisation`` are counted by the service, not by the
    broker. ``utilisation`` is the used fraction of limit times elapsed time.
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
        """The maximum rate of the service, in requests per second."""
        return self.limit / self.service_s

    @property
    def served(self) -> int:
        return sum(session.served for session in self.sessions)

    @property
    def failed(self) -> int:
        return sum(session.failed for session in self.sessions)


class DemoTally:
    """Collects events from the clients and the service; a nonce identifies a request."""

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
        """The clients begin: the counts start here."""
        self._start = self._busy_until = now

    def sent(self, nonce: str, session: str, now: float) -> None:
        self._sent[nonce] = (session, now)

    def arrived(self, nonce: str, now: float) -> None:
        """The service has received the request."""
        self._account(now)
        session, sent = self._sent.pop(nonce)
        self._waits[session].append(now - sent)
        self._running[nonce] = session
        self._calls += 1
        self._peak = max(self._peak, len(self._running))

    def refused(self) -> None:
        """The service had no room and answered 429."""
        self._refused += 1

    def left(self, nonce: str, now: float) -> None:
        """The service has answered, or its caller has disconnected."""
        self._account(now)
        self._running.pop(nonce, None)

    def served(self, session: str, now: float) -> None:
        """The client has received its answer."""
        self._served[session] += 1
        self._answers.append(now)

    def failed(self, nonce: str, session: str) -> None:
        """The client has received an error or another request's answer."""
        self._sent.pop(nonce, None)
        self._failed[session] += 1

    def snapshot(self, now: float) -> Snapshot:
        self._account(now)
        while self._answers and self._answers[0] < now - RATE_WINDOW_S:
            self._answers.popleft()
        elapsed = now - self._start
        waiting = Counter(session for session, _ in self._sent.values())
        total = sum(self._served.values())
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
                    share=self._served[name] / total if total else 0.0,
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
    """The smallest value that is not exceeded by a fraction ``part`` of all; 0 without values."""
    if not values:
        return 0.0
    return sorted(values)[math.ceil(part * len(values)) - 1]
