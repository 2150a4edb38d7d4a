"""Whatever happens in whatever order: no message is lost, doubled, or out of order."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.runtime.kernel.pace import Pace
from exai_actors.runtime.kernel.ref import Ref
from exai_actors.runtime.kernel.requests import request_stop
from exai_actors.runtime.kernel.signals import Down, Exit
from tests.runtime.kernel.probes import Answer, ManualSystem, Recorder, Unrefusable, ask

PATHS = ("/a", "/b", "/c")


class Message:
    """A numbered message; ``does`` names what its handler does besides."""

    def __init__(self, number: int, does: str = "") -> None:
        self.number = number
        self.does = does


class Terminal(Message, Unrefusable):
    pass


class Handler(Recorder):
    """Records each message with its path, and takes some time for it."""

    handled: list[tuple[str, int]]
    system: ManualSystem

    def on_receive(self, message: Message, /) -> int:
        self.handled.append((self.ref.path, message.number))
        match message.does:
            case "crash":
                raise ValueError("crash")
            case "stop itself":
                request_stop(self.cell)
            case "tell itself":
                self.ref.tell(Message(-message.number))
            case "be slow":
                self.system.manual.pass_time(0.06)
            case _:
                self.system.manual.pass_time(0.0001)
        return message.number


class Boss(Recorder):
    """Supervises and watches."""

    def on_receive(self, message: Any, /) -> None:
        if isinstance(message, Ref):
            self.watch(message)
        else:
            super().on_receive(message)


TELLS = ["tell", "crash", "stop itself", "tell itself", "be slow", "terminal"]
STEPS = [*TELLS, "tell", "tell_system", "offer", "ask", "stop", *["spawn"] * 3, *["run"] * 2]
Steps = list[tuple[str, str]]
any_steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(PATHS)), max_size=80)


class History:
    """Carries out steps on a system, and records all sent messages and what came of them."""

    def __init__(self, steps: Steps, seed: int, batch_messages: int, *, fast_path: bool = True):
        self.system = ManualSystem(
            pace=Pace(batch_messages=batch_messages), dead_letter_capacity=10_000
        )
        if not fast_path:
            self.system.scheduler._special = EveryClass()  # type: ignore[assignment]
        chance = random.Random(seed)
        self.system.scheduler.pick = lambda ready: chance.randrange(len(ready))
        self.handled: list[tuple[str, int]] = []
        self.boss = self.system.spawn(Boss, "/boss")
        self.answers: dict[int, Answer] = {}
        self.sent: set[int] = set()
        self.in_user_lane: set[int] = set()
        self.refused: set[int] = set()
        self.spawned: list[tuple[str, int]] = []
        self.statistics: list[Any] = []
        for number, (step, path) in enumerate(steps, 1):
            self._do(number, step, path)
            self.statistics.append(self.system.statistics())
        self.system.run()
        self.system.begin_shutdown(10.0, lambda alive: None)
        self.system.run()

    def _do(self, number: int, step: str, path: str) -> None:
        ref = self.system.resolve(path)
        if step == "run":
            self.system.run()
        elif step == "spawn":
            if ref is None:
                self._spawn(path)
        elif ref is None:
            pass
        elif step == "stop":
            request_stop(ref._cell)
        elif step == "ask":
            self.answers[number] = ask(ref, Message(number))
        else:
            self.sent.add(number)
            if step == "tell_system":
                ref.tell_system(Message(number))
                return
            self.in_user_lane.add(number)
            if step == "terminal":
                ref.tell(Terminal(number))
            elif step != "offer":
                ref.tell(Message(number, step))
            elif ref.offer(Message(number)) != "accepted":
                self.refused.add(number)

    def _spawn(self, path: str) -> None:
        actor = self.system.spawn(
            Handler,
            path,
            limit=4,
            supervisor=self.boss.ref,
            handled=self.handled,
            system=self.system,
        )
        self.spawned.append((path, actor.ref.incarnation))
        self.boss.ref.tell(actor.ref)

    def dead_letters(self) -> int:
        kinds = [letter.message_type for letter in self.system.dead_letters.recent()]
        return kinds.count("Message") + kinds.count("Terminal")


class EveryClass:
    """Contains every class, so that no message is plain enough for the fast path."""

    def __contains__(self, kind: object) -> bool:
        return True


@given(steps=any_steps, seed=st.integers(), batch_messages=st.integers(1, 8))
def test_each_message_is_handled_once_or_accounted_for(
    steps: Steps, seed: int, batch_messages: int
) -> None:
    history = History(steps, seed, batch_messages)

    handled = [number for _, number in history.handled]
    assert len(handled) == len(set(handled))
    # A handler that tells itself something sends one more, with the same number negated.
    resent = {-number for number in handled if number > 0 and steps[number - 1][0] == "tell itself"}
    sent = history.sent | resent
    assert len(sent.intersection(handled)) + history.dead_letters() + len(history.refused) == len(
        sent
    )
    assert history.refused.isdisjoint(handled)

    for path in PATHS:
        in_order = [
            number
            for where, number in history.handled
            if where == path and number in history.in_user_lane
        ]
        assert in_order == sorted(in_order)

    for number, answer in history.answers.items():
        assert answer.kind is not None
        assert (answer.kind == "value") == (number in handled)

    spawned = sorted(history.spawned)
    for kind in (Exit, Down):
        got = [message for message in history.boss.seen if isinstance(message, kind)]
        assert sorted((each.path, each.incarnation) for each in got) == spawned


@given(steps=any_steps, seed=st.integers(), batch_messages=st.integers(1, 8))
def test_the_fast_path_does_the_same_as_the_general_path(
    steps: Steps, seed: int, batch_messages: int
) -> None:
    fast = History(steps, seed, batch_messages)
    general = History(steps, seed, batch_messages, fast_path=False)
    assert fast.handled == general.handled
    assert fast.statistics == general.statistics
    assert fast.system.published == general.system.published
    assert fast.system.dead_letters.recent() == general.system.dead_letters.recent()
    assert [(each.kind, repr(each.content)) for each in fast.answers.values()] == [
        (each.kind, repr(each.content)) for each in general.answers.values()
    ]
    assert fast.system.manual.now() == general.system.manual.now()
