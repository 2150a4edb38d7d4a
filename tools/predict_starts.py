"""How well the predicted starts of waiting requests come true, at a simulated provider.

Sessions of several tenants send requests to one dispatcher, the real one, in virtual time; every
few seconds the prediction of each waiting request is noted and compared with the time that it then
really takes. ``python tools/predict_starts.py`` prints, for each kind of load, the part of the
predictions that are right within 25 %. It takes half a minute.

No prediction can be better than the lengths of calls and the next requests are known: equal calls
of agents, or a backlog, come true; single calls of any length, and bursts, do not.
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from exai_actors.core.calls import IfBusy
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.changes import SetLimit
from exai_actors.core.capacity.cost import COMPLETION_WEIGHT
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.settings import CapacitySettings, GateSettings
from exai_actors.ids import RequestKey, SessionId, TenantName

TOLERANCE = 0.25
FLOOR = 0.54
"""The part of all predictions that has to be right."""
LASTS_S = 1_800.0
WARM_UP_S = 60.0
EVERY_S = 5.0
TOKENS_PER_S = 40.0

Service = Callable[[random.Random], float]


def constant(seconds: float) -> Service:
    return lambda _: seconds


def log_normal(mean_s: float, spread: float) -> Service:
    """``spread`` is the standard deviation divided by the mean."""
    sigma = math.sqrt(math.log(1 + spread**2))
    return lambda chance: chance.lognormvariate(math.log(mean_s) - sigma**2 / 2, sigma)


@dataclass(frozen=True)
class Load:
    """``agents`` send ``at_once`` requests, wait for all answers, and think for ``pause_s`` on
    average before they send the next ones. With ``pause_s`` inf, that is all. Those of ``bursts``
    do not wait for answers, but send all the time.
    """

    name: str
    service: Service
    limit: int = 4
    agents: int = 12
    tenants: int = 3
    at_once: int = 4
    pause_s: float = 20.0
    bursts: bool = False
    gates: GateSettings = field(default_factory=GateSettings)
    limit_later: int | None = None


MIXED = log_normal(8.0, 0.5)

LOADS = (
    Load("a backlog", MIXED, agents=10, at_once=30, pause_s=math.inf),
    Load("agents, equal calls", constant(8.0)),
    Load("agents, like calls", log_normal(8.0, 0.25)),
    Load("agents, mixed calls", MIXED),
    Load("agents, wild calls", log_normal(8.0, 1.0)),
    Load("agents, one permit", MIXED, limit=1),
    Load("many agents, 16 permits", MIXED, limit=16, agents=60),
    Load("agents of one tenant", MIXED, tenants=1),
    Load("agents, one call each", MIXED, agents=40, at_once=1),
    Load(
        "agents, a minute gate",
        log_normal(3.0, 0.5),
        limit=8,
        gates=GateSettings(requests_per_minute=24, margin_s=0.0),
    ),
    Load("agents, limit halved", MIXED, limit=8, agents=24, limit_later=4),
    Load("bursts, mixed calls", MIXED, pause_s=100.0, bursts=True),
    Load("bursts, 16 permits", MIXED, limit=16, agents=40, pause_s=85.0, bursts=True),
)


class Error(NamedTuple):
    """The error of a prediction: relative to the true wait, and in times between two grants."""

    relative: float
    turns: float


@dataclass
class Call:
    record: ScheduledCall
    agent: int
    seconds: float
    predictions: list[tuple[float, float]] = field(default_factory=list)


class Simulation:
    """One run; ``errors`` are those of all predictions."""

    def __init__(self, load: Load, seed: int) -> None:
        self.errors: list[Error] = []
        self.unpredicted = 0
        self._load = load
        self._chance = random.Random(seed)
        settings = CapacitySettings(load.limit, queue=10_000, gates=load.gates)
        self._dispatcher: Dispatcher[ScheduledCall] = Dispatcher(Account(settings))
        self._calls: dict[int, Call] = {}
        self._awaited: dict[int, int] = {}
        # The broker learns the usual length of answers.
        lengths = [load.service(self._chance) for _ in range(1_000)]
        self._usual_tokens = TOKENS_PER_S * sum(lengths) / len(lengths)
        self._numbers = count(1)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._wake_at = math.inf

    def run(self) -> Simulation:
        for number in range(self._load.agents):
            self._arrive_later(number, 0.0)
        self._at(WARM_UP_S, self._predict)
        if self._load.limit_later is not None:
            change = SetLimit(self._load.limit_later)
            self._at(LASTS_S / 2, lambda now: void(apply_change(self._dispatcher, change, "", now)))
        while self._events and self._events[0][0] <= LASTS_S:
            now, _, happen = heapq.heappop(self._events)
            happen(now)
            self._pump(now)
        return self

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen))

    def _arrive_later(self, agent: int, now: float) -> None:
        pause_s = self._load.pause_s
        if now and pause_s == math.inf:
            return
        pause = self._chance.expovariate(1 / min(pause_s, 30.0 if not now else pause_s))
        self._at(now + pause, lambda then: self._arrive(agent, then))

    def _arrive(self, agent: int, now: float) -> None:
        at_once = self._load.at_once
        number = self._chance.randint(1, 2 * at_once - 1) if at_once > 1 else 1
        self._awaited[agent] = number
        for _ in range(number):
            pool = self._dispatcher.pools[0]
            tenant = TenantName(f"t{agent % self._load.tenants}")
            record = ScheduledCall(
                flow=pool.queue.flow(SessionId(f"s{agent}"), tenant),
                request=RequestKey(str(next(self._numbers))),
                pool=pool,
                prompt_tokens=200.0,
                completion_tokens=self._usual_tokens,
                cost=200.0 + COMPLETION_WEIGHT * self._usual_tokens,
                admitted_at=now,
                if_busy=IfBusy.WAIT,
            )
            self._calls[id(record)] = Call(record, agent, self._load.service(self._chance))
            if self._dispatcher.admit(record, now) == "granted":
                self._start(record, now)
        if self._load.bursts:
            self._arrive_later(agent, now)

    def _pump(self, now: float) -> None:
        for record in self._dispatcher.pump(now):
            self._start(record, now)
        wake_at = self._dispatcher.wake_at(now)
        if wake_at < math.inf:
            self._at(max(wake_at, now + 1e-6), lambda _: None)

    def _start(self, record: ScheduledCall, now: float) -> None:
        call = self._calls.pop(id(record))
        for at, predicted_s in call.predictions:
            if now - at > 0.0:
                error_s = predicted_s - (now - at)
                self.errors.append(Error(error_s / (now - at), error_s / self._turn_s()))
        self._at(now + call.seconds, lambda then: self._end(call, then))

    def _turn_s(self) -> float:
        """The mean time between two grants."""
        pool = self._dispatcher.pools[0]
        return (pool.service_time.mean_s or 1.0) / max(1, pool.ledger.limit)

    def _end(self, call: Call, now: float) -> None:
        self._dispatcher.release(call.record.permit)
        tokens = TOKENS_PER_S * call.seconds
        cost = 200.0 + COMPLETION_WEIGHT * tokens
        self._dispatcher.settlement.completed(
            call.record, 200.0 + tokens, cost, now, now - call.record.granted_at
        )
        self._awaited[call.agent] -= 1
        if not self._awaited[call.agent] and not self._load.bursts:
            self._arrive_later(call.agent, now)

    def _predict(self, now: float) -> None:
        self._at(now + EVERY_S, self._predict)
        for _, wait_s, record in self._dispatcher.waits.in_line(self._dispatcher.pools[0], now):
            if wait_s is None:
                self.unpredicted += 1
            else:
                self._calls[id(record)].predictions.append((now, wait_s))


def void(_: object) -> None:
    """Ignore a result."""


def within(errors: list[Error]) -> float:
    """The part of the predictions that were right within the tolerance."""
    return sum(abs(each.relative) <= TOLERANCE for each in errors) / len(errors)


def within_a_turn(errors: list[Error]) -> float:
    """Likewise, but the time between two grants is tolerated as well."""
    right = (abs(each.relative) <= TOLERANCE or abs(each.turns) <= 1.0 for each in errors)
    return sum(right) / len(errors)


def median(errors: list[Error]) -> float:
    """Half of the predictions were later than that, relative to the true wait."""
    return sorted(each.relative for each in errors)[len(errors) // 2]


def row(name: str, errors: list[Error]) -> str:
    shares = f"{within(errors):>13.0%}{within_a_turn(errors):>13.0%}{median(errors):>14.0%}"
    return f"{name:<24}{len(errors):>12}{shares}"


def main(seeds: int = 5) -> int:
    """Print a row for each load; 1 if fewer predictions come true than do at present."""
    print(
        f"{'load':<24}{'predictions':>12}{'within 25 %':>13}{'or a turn':>13}{'median error':>14}"
    )
    everything: list[Error] = []
    for load in LOADS:
        errors = [each for seed in range(seeds) for each in Simulation(load, seed).run().errors]
        everything += errors
        print(row(load.name, errors))
    print(row("all", everything))
    return 0 if within(everything) >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
