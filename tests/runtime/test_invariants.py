"""Whatever happens in whatever order: no message is lost, doubled, or out of order."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.runtime import (
    Down,
    Exit,
    LoopActor,
    LoopFuture,
    LoopRef,
    Offer,
    PathRef,
)
from tests.runtime.probes import Asked, ManualSystem, actor_of

PATHS = ("/a", "/b", "/c")


class Told:
    """A numbered message; ``does`` is what its handler does."""

    def __init__(self, number: int, does: str = "") -> None:
        self.number = number
        self.does = does


class Terminal(Told, Asked):
    """One that must not be refused."""


class Handler(LoopActor):
    mailbox_limit = 4

    def __init__(self, handled: list[tuple[str, int]]) -> None:
        super().__init__()
        self._handled = handled

    def on_receive(self, message: Told) -> int:
        self._handled.append((self.path, message.number))
        if message.does == "crash":
            raise ValueError("crash")
        if message.does == "stop":
            self.stop()
        return message.number


class Boss(LoopActor):
    """Supervises and watches, and remembers what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.exits: list[Exit] = []
        self.downs: list[Down] = []

    def on_receive(self, message: Any) -> None:
        match message:
            case Exit():
                self.exits.append(message)
            case Down():
                self.downs.append(message)
            case LoopRef():
                self.watch(message)


STEPS = (
    ["tell", "tell_system", "offer", "ask", "terminal", "crash", "stop", "halt", "drain"]
    + ["spawn"] * 3
    + ["run"] * 2
)


class History:
    """Carries out steps on a system and remembers all that was sent, and what came of it."""

    def __init__(self, seed: int, throughput: int) -> None:
        self.system = ManualSystem(throughput=throughput, dead_letter_capacity=10_000)
        chance = random.Random(seed)
        self.system.scheduler.pick = lambda ready: chance.randrange(len(ready))
        self.handled: list[tuple[str, int]] = []
        self.boss_ref = self.system.spawn(Boss, path="/boss")
        self.boss = actor_of(self.boss_ref)
        self.asked: dict[int, LoopFuture[Any]] = {}
        self.told: set[int] = set()
        self.in_user_lane: set[int] = set()
        self.refused: set[int] = set()
        self.spawned: list[tuple[str, int]] = []

    def do(self, number: int, step: str, path: str) -> None:
        target = PathRef(self.system, path)
        match step:
            case "spawn":
                self._spawn(path)
            case "run":
                self.system.run()
            case "halt" | "drain":
                self._end(path, step)
            case "ask":
                self.asked[number] = target.ask(Told(number), block=False)
            case "tell_system":
                self.told.add(number)
                target.tell_system(Told(number))
            case "offer":
                self._note_user(number)
                if target.offer(Told(number)) is not Offer.ACCEPTED:
                    self.refused.add(number)
            case "terminal":
                self._note_user(number)
                target.tell(Terminal(number))
            case _:
                self._note_user(number)
                target.tell(Told(number, does=step))

    def end(self) -> None:
        self.system.run()
        self.system.begin_stop()
        self.system.run()

    def buried(self) -> int:
        """How many of the messages told became dead letters."""
        kinds = [letter.message_type for letter in self.system.dead_letters.recent()]
        return kinds.count("Told") + kinds.count("Terminal")

    def _note_user(self, number: int) -> None:
        self.told.add(number)
        self.in_user_lane.add(number)

    def _spawn(self, path: str) -> None:
        if self.system.resolve(path) is None:
            ref = self.system.spawn(Handler, self.handled, path=path, supervisor=self.boss_ref)
            self.spawned.append((path, ref.incarnation))
            self.boss_ref.tell(ref)

    def _end(self, path: str, how: str) -> None:
        ref = self.system.resolve(path)
        if ref is None:
            return
        if how == "drain":
            ref.drain()
        else:
            ref.stop(block=False)


@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(PATHS)), max_size=80),
    seed=st.integers(),
    throughput=st.integers(1, 8),
)
def test_each_message_is_handled_once_or_accounted_for(
    steps: list[tuple[str, str]], seed: int, throughput: int
) -> None:
    history = History(seed, throughput)
    for number, (step, path) in enumerate(steps):
        history.do(number, step, path)
    history.end()

    handled = [number for _, number in history.handled]
    assert len(handled) == len(set(handled))
    told_and_handled = history.told.intersection(handled)
    assert len(told_and_handled) + history.buried() + len(history.refused) == len(history.told)
    assert history.refused.isdisjoint(handled)

    for path in PATHS:
        in_order = [
            number
            for where, number in history.handled
            if where == path and number in history.in_user_lane
        ]
        assert in_order == sorted(in_order)

    for number, answer in history.asked.items():
        assert answer.done()
        assert (answer._error is None) == (number in handled)

    spawned = sorted(history.spawned)
    assert sorted((told.path, told.incarnation) for told in history.boss.exits) == spawned
    assert sorted((told.path, told.incarnation) for told in history.boss.downs) == spawned
