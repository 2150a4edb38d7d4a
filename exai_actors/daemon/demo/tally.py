"""The demo's measurements: events in, snapshots out. Times are seconds of the caller's clock."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

RATE_WINDOW_S = 2.0
ONE_QUEUE, FAIR_SHARES, MISHAPS = range(3)
"""The acts. Figures of an act cover the requests that were sent in it and reached their goal in it:
the service for waits, the client for answers.
"""


class Figures(msgspec.Struct, frozen=True):
    """A session in one act. ``share`` is its fraction of the served requests, from 0 to 1.

    A wait is the time from sending by the client to arrival at the service.
    """

    served: int
    share: float
    wait_p50: float
    wait_p99: float


class SessionView(msgspec.Struct, frozen=True):
    """A session with its figures in the acts ``ONE_QUEUE`` and ``FAIR_SHARES``."""

    name: str
    connections: int
    waiting: int
    failed: int
    acts: tuple[Figures, Figures]


class Vanished(msgspec.Struct, frozen=True):
    """A client vanished ``at`` some second of the demo; None: not seen yet.

    Seconds from then until the service saw its call aborted, and until it was full again.
    """

    at: float
    aborted_s: float | None = None
    full_again_s: float | None = None


class SlowDown(msgspec.Struct, frozen=True):
    """The service answered 429 ``at`` some second and asked for ``asked_s`` without a call.

    ``silent_s`` is the time until the next one; None: none has come yet.
    """

    at: float
    asked_s: float
    silent_s: float | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """The whole picture at one moment.

    ``holders`` names the session of each call in flight, ``queue`` that of each waiting request,
    the oldest first. ``holders``, ``peak``, ``refused``, ``utilisation`` and the mishaps are seen
    by the service, not by the broker. ``utilisation`` is the used fraction of limit times elapsed
    time, without the mishaps.
    """

    elapsed: float
    duration: float
    act: int
    limit: int
    service_s: float
    holders: tuple[str, ...]
    queue: tuple[str, ...]
    peak: int
    refused: int
    utilisation: float
    served: int
    rate: float
    sessions: tuple[SessionView, ...]
    vanished: Vanished | None = None
    slow_down: SlowDown | None = None

    @property
    def possible_rate(self) -> float:
        """The maximum rate of the service, in requests per second."""
        return self.limit / self.service_s

    @property
    def failed(self) -> int:
        return sum(session.failed for session in self.sessions)


class _Sent(msgspec.Struct, frozen=True):
    session: str
    at: float


class DemoTally:
    """Collects events from the clients and the service; a nonce identifies a request."""

    def __init__(
        self, connections: dict[str, int], *, limit: int, service_s: float, duration: float
    ) -> None:
        self._connections = connections
        self._limit = limit
        self._service_s = service_s
        self._duration = duration
        self._act = ONE_QUEUE
        self._start = 0.0
        self._sent: dict[str, _Sent] = {}
        self._act_of: dict[str, int] = {}
        self._waits: dict[tuple[str, int], list[float]] = {}
        self._served: Counter[tuple[str, int]] = Counter()
        self._all_served = 0
        self._failed: Counter[str] = Counter()
        self._answers: deque[float] = deque()
        self._running: dict[str, str] = {}
        self._peak = 0
        self._refused = 0
        self._busy = 0.0
        self._busy_until = 0.0
        self._comparison: tuple[float, float] | None = None
        self._vanished_nonce = ""
        self._vanished: Vanished | None = None
        self._slow_down: SlowDown | None = None

    def started(self, now: float) -> None:
        """The clients begin: the counts start here."""
        self._start = self._busy_until = now

    def begin_act(self, act: int, now: float) -> None:
        """Requests that are sent from now on belong to this act, and no others are counted."""
        self._account(now)
        self._act = act
        if act == MISHAPS:
            self._comparison = (self._busy, now - self._start)

    def sent(self, nonce: str, session: str, now: float) -> None:
        self._sent[nonce] = _Sent(session, now)
        self._act_of[nonce] = self._act

    def arrived(self, nonce: str, now: float) -> None:
        """The service has received the request and works on it."""
        self._account(now)
        sent = self._sent.pop(nonce)
        if self._act_of[nonce] == self._act:
            self._waits.setdefault((sent.session, self._act), []).append(now - sent.at)
        self._running[nonce] = sent.session
        self._peak = max(self._peak, len(self._running))
        elapsed = now - self._start
        slow_down = self._slow_down
        if slow_down is not None and slow_down.silent_s is None:
            silent_s = elapsed - slow_down.at
            self._slow_down = msgspec.structs.replace(slow_down, silent_s=silent_s)
        gone, full = self._vanished, len(self._running) == self._limit
        if full and gone and gone.aborted_s is not None and gone.full_again_s is None:
            self._vanished = msgspec.structs.replace(gone, full_again_s=elapsed - gone.at)

    def asked_to_slow_down(self, asked_s: float, now: float) -> None:
        """The service has answered 429 because the demo wanted it to."""
        self._refused += 1
        self._slow_down = SlowDown(now - self._start, asked_s)

    def refused(self) -> None:
        """The service had no room and answered 429."""
        self._refused += 1

    def left(self, nonce: str, now: float) -> None:
        """The service has answered, or its caller has disconnected."""
        self._account(now)
        self._running.pop(nonce, None)
        if nonce == self._vanished_nonce and self._vanished is not None:
            aborted_s = now - self._start - self._vanished.at
            self._vanished = msgspec.structs.replace(self._vanished, aborted_s=aborted_s)

    def vanished(self, nonce: str, now: float) -> None:
        """The client of this request is gone."""
        self._sent.pop(nonce, None)
        self._vanished_nonce = nonce
        self._vanished = Vanished(now - self._start)

    def served(self, nonce: str, session: str, now: float) -> None:
        """The client has received its answer."""
        if self._act_of.pop(nonce) == self._act:
            self._served[session, self._act] += 1
        self._all_served += 1
        self._answers.append(now)

    def failed(self, nonce: str, session: str) -> None:
        """The client has received an error or another request's answer."""
        self._sent.pop(nonce, None)
        self._act_of.pop(nonce, None)
        self._failed[session] += 1

    def snapshot(self, now: float) -> Snapshot:
        self._account(now)
        while self._answers and self._answers[0] < now - RATE_WINDOW_S:
            self._answers.popleft()
        elapsed = now - self._start
        queue = tuple(sent.session for sent in self._sent.values())
        waiting = Counter(queue)
        busy, compared_s = self._comparison or (self._busy, elapsed)
        return Snapshot(
            elapsed=elapsed,
            duration=self._duration,
            act=self._act,
            limit=self._limit,
            service_s=self._service_s,
            holders=tuple(self._running.values()),
            queue=queue,
            peak=self._peak,
            refused=self._refused,
            utilisation=busy / (self._limit * compared_s) if compared_s else 0.0,
            served=self._all_served,
            rate=len(self._answers) / min(elapsed, RATE_WINDOW_S) if elapsed else 0.0,
            sessions=tuple(
                SessionView(
                    name=name,
                    connections=connections,
                    waiting=waiting[name],
                    failed=self._failed[name],
                    acts=(self._figures(name, ONE_QUEUE), self._figures(name, FAIR_SHARES)),
                )
                for name, connections in self._connections.items()
            ),
            vanished=self._vanished,
            slow_down=self._slow_down,
        )

    def _figures(self, session: str, act: int) -> Figures:
        served = self._served[session, act]
        total = sum(self._served[name, act] for name in self._connections)
        waits = self._waits.get((session, act), ())
        return Figures(
            served=served,
            share=served / total if total else 0.0,
            wait_p50=percentile(waits, 0.50),
            wait_p99=percentile(waits, 0.99),
        )

    def _account(self, now: float) -> None:
        self._busy += len(self._running) * (now - self._busy_until)
        self._busy_until = now


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that is not exceeded by a fraction ``part`` of all; 0 without values."""
    if not values:
        return 0.0
    return sorted(values)[math.ceil(part * len(values)) - 1]
