"""Shares and gates in virtual time, on the broker's own core alone.

Every figure follows from its seed; there is no clock, network or actor.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from exai_actors.core.calls import ChatCall, ChatMessage, Usage
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.cost import COMPLETION_WEIGHT
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.flows import Flow
from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.refusals import Refusal
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settings import CapacitySettings, GateSettings
from exai_actors.core.capacity.token_estimates import TokenEstimator, characters_of
from exai_actors.ids import DEFAULT_TENANT, PermitId, RequestKey, SessionId

TOKENS_PER_S = 100.0
"""The speed of the simulated service, for each call."""


@dataclass
class Client:
    """One session: how often it sends a request (0: after each answer), and the size of answers."""

    name: str
    prompt_tokens: int
    mean_tokens: float
    every_s: float = 0.0
    outstanding: int = 0


@dataclass
class Served:
    """The waits, cost and number of calls of one session."""

    waits: list[float] = field(default_factory=list)
    cost: float = 0.0
    calls: int = 0


class _Sized(ScheduledCall, gc=False, eq=False):
    """A call whose answer has a length that is unknown before its end."""

    answer_tokens: int = 0
    came_at: float = 0.0
    call: ChatCall | None = None


class Simulation:
    """A provider with ``limit`` permits; its queue is the broker's or first come, first served."""

    def __init__(self, limit: int, clients: list[Client], seed: int, *, fair: bool) -> None:
        self.served = {client.name: Served() for client in clients}
        self._limit = limit
        self._clients = clients
        self._random = random.Random(seed)
        self._fair = fair
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        settings = CapacitySettings(limit=limit, queue=1_000_000, session_queue=1_000_000)
        self._dispatcher: Dispatcher[_Sized] = Dispatcher(Account(settings))
        self._estimator = TokenEstimator()
        self._line: deque[_Sized] = deque()
        self._running = 0

    def run(self, seconds: float) -> dict[str, Served]:
        for client in self._clients:
            if client.every_s:
                self._at(self._random.expovariate(1 / client.every_s), self._asker(client))
            for _ in range(client.outstanding):
                self._at(0.0, self._once(client))
        while self._events and self._events[0][0] <= seconds:
            now, _, event = heapq.heappop(self._events)
            event(now)
        for scheduled in self._waiting():
            # The calls that still wait at the end have waited for at least that long.
            self.served[scheduled.flow.session].waits.append(seconds - scheduled.came_at)
        return self.served

    def _asker(self, client: Client) -> Callable[[float], None]:
        def ask(now: float) -> None:
            self._arrive(client, now)
            self._at(now + self._random.expovariate(1 / client.every_s), ask)

        return ask

    def _once(self, client: Client) -> Callable[[float], None]:
        return lambda now: self._arrive(client, now)

    def _arrive(self, client: Client, now: float) -> None:
        text = "x" * (4 * client.prompt_tokens)
        call = ChatCall(client.name, (ChatMessage("user", text),))
        prompt, completion = self._estimator.estimate(call, characters_of(call))
        pool = self._dispatcher.pools[0]
        scheduled = _Sized(
            flow=pool.queue.flow(SessionId(client.name), DEFAULT_TENANT),
            request=RequestKey(str(next(self._order))),
            pool=pool,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost=prompt + COMPLETION_WEIGHT * completion,
            came_at=now,
            answer_tokens=max(1, round(self._random.uniform(0, 2 * client.mean_tokens))),
            call=call,
        )
        if self._fair:
            if self._dispatcher.admit(scheduled, now) == "granted":
                self._start(scheduled, now)
        else:
            self._line.append(scheduled)
            self._pump(now)

    def _pump(self, now: float) -> None:
        if self._fair:
            for scheduled in self._dispatcher.pump(now):
                self._start(scheduled, now)
        while self._line and self._running < self._limit:
            self._start(self._line.popleft(), now)

    def _start(self, scheduled: _Sized, now: float) -> None:
        self._running += 1
        self.served[scheduled.flow.session].waits.append(now - scheduled.came_at)
        self._at(
            now + scheduled.answer_tokens / TOKENS_PER_S, lambda then: self._end(scheduled, then)
        )

    def _end(self, scheduled: _Sized, now: float) -> None:
        self._running -= 1
        client = next(each for each in self._clients if each.name == scheduled.flow.session)
        assert scheduled.call is not None
        usage = Usage(client.prompt_tokens, scheduled.answer_tokens)
        prompt, completion = self._estimator.learn(
            scheduled.call.model,
            characters_of(scheduled.call),
            scheduled.prompt_tokens,
            usage,
            4 * scheduled.answer_tokens,
        )
        cost = prompt + COMPLETION_WEIGHT * completion
        served = self.served[scheduled.flow.session]
        served.cost += cost
        served.calls += 1
        if self._fair:
            self._dispatcher.release(scheduled.permit)
            self._dispatcher.settlement.completed(
                scheduled, prompt + completion, cost, now, now - scheduled.granted_at
            )
        self._pump(now)
        if client.outstanding:
            self._arrive(client, now)

    def _waiting(self) -> Iterator[_Sized]:
        yield from self._line
        yield from self._dispatcher.pools[0].queue

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))


def jain(values: list[float]) -> float:
    """Jain's index (Jain, Chiu, Hawe, 1984): 1 when all are equal, 1/n when one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def share_of_backlogged(seeds: int) -> float:
    """Jain's index for ten backlogged sessions whose calls cost up to 20 times another's.

    The worst of all seeds; limit 4, 20 virtual minutes.
    """
    found = []
    for seed in range(seeds):
        clients = [
            Client(f"s{number}", 50, 50 * 20 ** (number / 9), outstanding=8) for number in range(10)
        ]
        served = Simulation(4, clients, seed, fair=True).run(1200)
        found.append(jain([each.cost for each in served.values()]))
    return min(found)


def wait_beside_heavy(seeds: int, *, fair: bool) -> float:
    """The p99 wait of a light client beside two long-winded and two chatty ones, in seconds.

    Limit 8, 600 virtual seconds, nearly twice the work that the permits can do; over the waits of
    all seeds.
    """
    found = []
    for seed in range(seeds):
        clients = [
            Client("long 1", 200, 1000, every_s=2.5),
            Client("long 2", 200, 1000, every_s=2.5),
            Client("chatty 1", 50, 100, every_s=0.28),
            Client("chatty 2", 50, 100, every_s=0.28),
            Client("light", 20, 50, every_s=5.0),
        ]
        served = Simulation(8, clients, seed, fair=fair).run(600)
        found += served["light"].waits
    return percentile(found, 0.99)


@dataclass
class GateUse:
    """How much of a rate limit was used, and how many windows held more than it allows."""

    used: float
    windows_above: int
    grants: int


def rate_gate(per_minute: int, hours: float, seed: int = 0) -> GateUse:
    """A gate with more requests than it lets pass; every window of a minute is checked."""
    chance = random.Random(seed)
    settings = CapacitySettings(
        limit=1000, queue=1_000_000, gates=GateSettings(requests_per_minute=per_minute)
    )
    dispatcher: Dispatcher[ScheduledCall] = Dispatcher(Account(settings))
    pool = dispatcher.pools[0]
    grants: list[float] = []
    names = count()
    end, now, comes_at = hours * 3600, 0.0, 0.0
    running: list[tuple[float, PermitId, ScheduledCall]] = []
    while now < end:
        if comes_at <= now:
            flow = pool.queue.flow(SessionId("a"), DEFAULT_TENANT)
            scheduled = _usual_call(flow, RequestKey(str(next(names))), pool)
            if dispatcher.admit(scheduled, now) == "granted":
                _begin(scheduled, now, grants, running, chance)
            comes_at = now + chance.expovariate(1.2 * per_minute / 60)
        while running and running[0][0] <= now:
            _, permit, scheduled = heapq.heappop(running)
            dispatcher.release(permit)
            dispatcher.settlement.completed(scheduled, 20, 30, now, now - scheduled.granted_at)
        for scheduled in dispatcher.pump(now):
            _begin(scheduled, now, grants, running, chance)
        now = min(comes_at, dispatcher.wake_at(now), running[0][0] if running else end, end)
    above = sum(
        grants[index + per_minute] - grants[index] < 60 for index in range(len(grants) - per_minute)
    )
    # Allowed are a full window immediately, and then one more with each that ends.
    return GateUse(len(grants) / (per_minute * hours * 60), above, len(grants))


def _usual_call(flow: Flow, request: RequestKey, pool: Pool[ScheduledCall]) -> ScheduledCall:
    return ScheduledCall(
        flow=flow,
        request=request,
        pool=pool,
        prompt_tokens=10,
        completion_tokens=10,
        cost=10 + COMPLETION_WEIGHT * 10,
    )


def _begin(
    scheduled: ScheduledCall,
    now: float,
    grants: list[float],
    running: list[tuple[float, PermitId, ScheduledCall]],
    chance: random.Random,
) -> None:
    grants.append(now)
    heapq.heappush(running, (now + 1 + chance.random(), scheduled.permit, scheduled))


@dataclass
class GrantCost:
    """µs for the end of a call, the grant that follows and a new request, by waiting sessions."""

    few_us: float
    many_us: float

    @property
    def ratio(self) -> float:
        return self.many_us / self.few_us


def grant_cost(few: int, many: int, repeats: int) -> GrantCost:
    """Medians of both, measured in turn."""
    benches = {number: _Waiting(number) for number in (few, many)}
    found: dict[int, list[float]] = {few: [], many: []}
    for _ in range(repeats):
        for number, bench in benches.items():
            began = time.perf_counter()
            bench.turn(2000)
            found[number].append((time.perf_counter() - began) / 2000 * 1e6)
    middle = {number: sorted(each)[len(each) // 2] for number, each in found.items()}
    return GrantCost(middle[few], middle[many])


class _Waiting:
    """A dispatcher with so many waiting sessions, each with one request."""

    def __init__(self, sessions: int) -> None:
        settings = CapacitySettings(limit=4, queue=1_000_000, max_wait_s=1e9)
        self._dispatcher: Dispatcher[ScheduledCall] = Dispatcher(Account(settings))
        self._names = count()
        self._now = 0.0
        self._running: deque[ScheduledCall] = deque()
        for number in range(sessions + 4):
            self._ask(SessionId(f"s{number}"))

    def turn(self, times: int) -> None:
        for _ in range(times):
            self._now += 0.001
            scheduled = self._running.popleft()
            self._dispatcher.release(scheduled.permit)
            self._dispatcher.settlement.completed(
                scheduled, 20, 30, self._now, self._now - scheduled.granted_at
            )
            self._running.extend(self._dispatcher.pump(self._now))
            self._ask(scheduled.flow.session)

    def _ask(self, session: SessionId) -> None:
        pool = self._dispatcher.pools[0]
        flow = pool.queue.flow(session, DEFAULT_TENANT)
        scheduled = _usual_call(flow, RequestKey(str(next(self._names))), pool)
        admission = self._dispatcher.admit(scheduled, self._now)
        assert not isinstance(admission, Refusal)
        if admission == "granted":
            self._running.append(scheduled)
