"""How well the predicted starts of waiting requests come true, at a simulated provider.

Sessions of several tenants send requests to one dispatcher, the real one, in virtual time; every
few seconds the prediction of each waiting request is noted and compared with the time that it then
really takes. ``python tools/predict_starts.py`` prints, for each kind of load, the part of the
predictions that are right within 25 %. It takes half a minute.

No prediction can be better than the lengths of calls and the next requests are known. With
``--bound``, a second column shows how much better it could be: at some moments an oracle, which
knows the true distributions of lengths and arrivals and the state of each agent, plays the future
many times with other chances and predicts, for each waiting request, the wait that is right within
25 % in most of them. It takes some minutes.
"""

from __future__ import annotations

import argparse
import heapq
import math
import pickle
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

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

BOUND_EVERY_S = 100.0
FUTURES = 100
MAX_TRIES = 200


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths of calls; ``spread`` is the standard deviation divided by the mean."""

    mean_s: float
    spread: float = 0.0

    def draw(self, chance: random.Random) -> float:
        sigma = math.sqrt(math.log(1 + self.spread**2))
        return chance.lognormvariate(math.log(self.mean_s) - sigma**2 / 2, sigma)

    def draw_longer(self, chance: random.Random, than_s: float) -> float:
        """The length of a call that has not ended after ``than_s``."""
        drawn = (self.draw(chance) for _ in range(MAX_TRIES))
        return next((each for each in drawn if each > than_s), than_s * 1.1)


@dataclass(frozen=True)
class Load:
    """``agents`` send ``at_once`` requests, wait for all answers, and think for ``pause_s`` on
    average before they send the next ones. With ``pause_s`` inf, that is all. Those of ``bursts``
    do not wait for answers, but send all the time.
    """

    name: str
    lengths: Lengths
    limit: int = 4
    agents: int = 12
    tenants: int = 3
    at_once: int = 4
    pause_s: float = 20.0
    bursts: bool = False
    gates: GateSettings = field(default_factory=GateSettings)
    limit_later: int | None = None


MIXED = Lengths(8.0, 0.5)

LOADS = (
    Load("a backlog", MIXED, agents=10, at_once=30, pause_s=math.inf),
    Load("agents, equal calls", Lengths(8.0)),
    Load("agents, like calls", Lengths(8.0, 0.25)),
    Load("agents, mixed calls", MIXED),
    Load("agents, wild calls", Lengths(8.0, 1.0)),
    Load("agents, one permit", MIXED, limit=1),
    Load("many agents, 16 permits", MIXED, limit=16, agents=60),
    Load("agents of one tenant", MIXED, tenants=1),
    Load("agents, one call each", MIXED, agents=40, at_once=1),
    Load(
        "agents, a minute gate",
        Lengths(3.0, 0.5),
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


class Call(ScheduledCall, eq=False, kw_only=True):
    """``predictions`` are those of the broker and those of the oracle: instant and wait."""

    agent: int
    seconds: float
    predictions: tuple[list[tuple[float, float]], list[tuple[float, float]]]


class Simulation:
    """One run; ``errors`` are those of all predictions, ``bound`` those of the oracle, if it is
    asked, and ``compared`` those of the broker at the same moments.
    """

    def __init__(self, load: Load, seed: int, *, asks_oracle: bool = False) -> None:
        self.errors: list[Error] = []
        self.compared: list[Error] = []
        self.bound: list[Error] = []
        self.unpredicted = 0
        self._load = load
        self._chance = random.Random(seed)
        settings = CapacitySettings(load.limit, queue=10_000, gates=load.gates)
        self._dispatcher: Dispatcher[Call] = Dispatcher(Account(settings))
        self._awaited: dict[int, int] = {}
        self._running: dict[RequestKey, Call] = {}
        # The broker learns the usual length of answers.
        lengths = [load.lengths.draw(self._chance) for _ in range(1_000)]
        self._usual_tokens = TOKENS_PER_S * sum(lengths) / len(lengths)
        self._numbers = count(1)
        self._events: list[tuple[float, int, str, Any]] = []
        self._order = count()
        self._started: dict[RequestKey, float] = {}
        for number in range(load.agents):
            self._arrive_later(number, 0.0)
        self._at(WARM_UP_S, "predict")
        if asks_oracle:
            self._at(WARM_UP_S, "ask_oracle")
        if load.limit_later is not None:
            self._at(LASTS_S / 2, "change_limit", load.limit_later)

    def __getstate__(self) -> dict[str, Any]:
        """What the future depends on."""
        return self.__dict__ | {"errors": [], "compared": [], "bound": []}

    def run(self, until: float = LASTS_S) -> Simulation:
        while self._events and self._events[0][0] <= until:
            self._step()
        return self

    def _step(self) -> None:
        now, _, name, argument = heapq.heappop(self._events)
        match name:
            case "arrive":
                self._arrive(argument, now)
            case "end":
                self._end(argument, now)
            case "predict":
                self._predict(now)
            case "ask_oracle":
                self._ask_oracle(now)
            case "change_limit":
                apply_change(self._dispatcher, SetLimit(argument), "", now)
        self._pump(now)

    def _at(self, when: float, name: str, argument: Any = None) -> None:
        heapq.heappush(self._events, (when, next(self._order), name, argument))

    def _arrive_later(self, agent: int, now: float) -> None:
        pause_s = self._load.pause_s
        if now and pause_s == math.inf:
            return
        pause = self._chance.expovariate(1 / min(pause_s, 30.0 if not now else pause_s))
        self._at(now + pause, "arrive", agent)

    def _arrive(self, agent: int, now: float) -> None:
        at_once = self._load.at_once
        number = self._chance.randint(1, 2 * at_once - 1) if at_once > 1 else 1
        self._awaited[agent] = number
        for _ in range(number):
            pool = self._dispatcher.pools[0]
            tenant = TenantName(f"t{agent % self._load.tenants}")
            call = Call(
                flow=pool.queue.flow(SessionId(f"s{agent}"), tenant),
                request=RequestKey(str(next(self._numbers))),
                pool=pool,
                prompt_tokens=200.0,
                completion_tokens=self._usual_tokens,
                cost=200.0 + COMPLETION_WEIGHT * self._usual_tokens,
                admitted_at=now,
                if_busy=IfBusy.WAIT,
                agent=agent,
                seconds=self._load.lengths.draw(self._chance),
                predictions=([], []),
            )
            if self._dispatcher.admit(call, now) == "granted":
                self._start(call, now)
        if self._load.bursts:
            self._arrive_later(agent, now)

    def _pump(self, now: float) -> None:
        for call in self._dispatcher.pump(now):
            self._start(call, now)
        wake_at = self._dispatcher.wake_at(now)
        if wake_at < math.inf:
            self._at(max(wake_at, now + 1e-6), "pump")

    def _start(self, call: Call, now: float) -> None:
        self._running[call.request] = call
        self._started[call.request] = now
        predicted, by_oracle = call.predictions
        errors = {at: self._error(wait_s, now - at) for at, wait_s in predicted if now > at}
        self.errors += errors.values()
        for at, wait_s in by_oracle:
            if at in errors:
                self.compared.append(errors[at])
                self.bound.append(self._error(wait_s, now - at))
        self._at(now + call.seconds, "end", call)

    def _error(self, predicted_s: float, wait_s: float) -> Error:
        error_s = predicted_s - wait_s
        return Error(error_s / wait_s, error_s / self._turn_s())

    def _turn_s(self) -> float:
        """The mean time between two grants."""
        pool = self._dispatcher.pools[0]
        return (pool.service_time.mean_s or 1.0) / max(1, pool.ledger.limit)

    def _end(self, call: Call, now: float) -> None:
        del self._running[call.request]
        self._dispatcher.release(call.permit)
        tokens = TOKENS_PER_S * call.seconds
        cost = 200.0 + COMPLETION_WEIGHT * tokens
        self._dispatcher.settlement.completed(call, 200.0 + tokens, cost, now, call.seconds)
        self._awaited[call.agent] -= 1
        if not self._awaited[call.agent] and not self._load.bursts:
            self._arrive_later(call.agent, now)

    def _predict(self, now: float) -> None:
        self._at(now + EVERY_S, "predict")
        for _, wait_s, call in self._dispatcher.waits.in_line(self._dispatcher.pools[0], now):
            if wait_s is None:
                self.unpredicted += 1
            else:
                call.predictions[0].append((now, wait_s))

    def _ask_oracle(self, now: float) -> None:
        """Predict all waiting requests from futures with other chances than the real one."""
        waiting = list(self._dispatcher.pools[0].queue)
        state = pickle.dumps(self)
        self._at(now + BOUND_EVERY_S, "ask_oracle")
        waits: dict[RequestKey, list[float]] = {call.request: [] for call in waiting}
        for number in range(FUTURES):
            future: Simulation = pickle.loads(state)
            for request, started_at in future.play(waits, number, now).items():
                waits[request].append(started_at - now)
        for call in waiting:
            call.predictions[1].append((now, best_guess(waits[call.request])))

    def play(self, awaited: Iterable[RequestKey], number: int, now: float) -> Starts:
        """When these requests start in a future of which only the distributions are known."""
        chance = self._chance = random.Random(f"future {number} at {now}")
        lengths = self._load.lengths
        self._started = {}
        events, self._events = self._events, []
        for when, _, name, argument in events:
            if name == "arrive":
                # The rest of an exponential time is as long as the whole.
                self._arrive_later(argument, now)
            elif name == "end":
                argument.seconds = lengths.draw_longer(chance, now - argument.granted_at)
                self._at(argument.granted_at + argument.seconds, "end", argument)
            elif name not in {"predict", "ask_oracle"}:
                self._at(when, name, argument)
        for call in self._dispatcher.pools[0].queue:
            call.seconds = lengths.draw(chance)
        left = set(awaited)
        while left:
            self._step()
            left -= self._started.keys()
        return {request: self._started[request] for request in awaited}


Starts = dict[RequestKey, float]


def best_guess(waits: list[float]) -> float:
    """The prediction that is right within the tolerance for most of these true waits."""
    least, most = 1 / (1 + TOLERANCE), 1 / (1 - TOLERANCE)
    ordered = sorted(waits)
    best, guess, end = -1, 0.0, 0
    # A guess is right for waits from guess * least to guess * most.
    for begin, wait in enumerate(ordered):
        while end < len(ordered) and ordered[end] <= wait / least * most:
            end += 1
        if end - begin > best:
            best = end - begin
            # In the middle of what it has to cover.
            guess = math.sqrt(wait * max(ordered[end - 1], 1e-9)) * math.sqrt(1 - TOLERANCE**2)
    return guess


class Simulations:
    """The errors of several runs."""

    def __init__(self) -> None:
        self.errors: list[Error] = []
        self.compared: list[Error] = []
        self.bound: list[Error] = []

    def add(self, more: Simulation | Simulations) -> None:
        self.errors += more.errors
        self.compared += more.compared
        self.bound += more.bound


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


def row(name: str, errors: list[Error], compared: list[Error], bound: list[Error]) -> str:
    shares = f"{within(errors):>13.0%}{within_a_turn(errors):>13.0%}{median(errors):>14.0%}"
    if bound:
        shares += f"{within(compared):>13.0%}{within(bound):>10.0%}"
    return f"{name:<24}{len(errors):>12}{shares}"


def main(seeds: int = 5) -> int:
    """Print a row for each load; 1 if fewer predictions come true than do at present."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bound", action="store_true", help="how many could come true, too")
    asks_oracle: bool = parser.parse_args().bound
    head = (
        f"{'load':<24}{'predictions':>12}{'within 25 %':>13}{'or a turn':>13}{'median error':>14}"
    )
    print(head + (f"{'some of them':>13}{'oracle':>10}" if asks_oracle else ""))
    everything = Simulations()
    for load in LOADS:
        found = Simulations()
        for seed in range(1 if asks_oracle else seeds):
            found.add(Simulation(load, seed, asks_oracle=asks_oracle).run())
        everything.add(found)
        print(row(load.name, found.errors, found.compared, found.bound), flush=True)
    print(row("all", everything.errors, everything.compared, everything.bound))
    return 0 if within(everything.errors) >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
