"""Whatever happens between any two pieces: one outcome, no gaps, nothing after the final frame."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from exai_actors.actors.connection import piece_writer
from tests.actors.streaming import Streams

SEEDS = 30
STEPS = 60
WHO = ("ann", "ann's other", "bob")
# More within half a minute would end a session or close a provider.
MOST_CRASHES = 3

EVENTS: dict[str, Callable[[Streams], object]] = {
    "cancel": lambda each: each.send("ann", {"op": "cancel", "request_id": "a"}),
    "cancel of another waiter": lambda each: each.send(
        "ann's other", {"op": "cancel", "request_id": "a"}
    ),
    "slow consumer": lambda each: each.outbox("ann", is_high=True),
    "slow consumer has caught up": lambda each: catch_up(each),
    "reader lost": lambda each: each.vanish("ann"),
    "other waiter lost": lambda each: each.vanish("ann's other"),
    "new waiter": lambda each: each.ask("ann's third", "a", model="any"),
    "equal call of another": lambda each: each.ask("bob", "b", prompt="a"),
    "complete": lambda each: each.complete(each.running[0]),
    "failure": lambda each: each.fail(each.running[0]),
    "deadline": lambda each: each.tree.advance(1000.0),
    "provider crashes": lambda each: each.crash("/providers/kimi"),
    "session crashes": lambda each: each.crash("/sessions/1"),
    "connection crashes": lambda each: each.crash_connection("ann"),
    "guardian crashes": lambda each: each.crash("/broker"),
    "root crashes": lambda each: each.crash("/"),
    "provider restarted": lambda each: each.tree.supervisors.restart("/providers/kimi"),
    "session restarted": lambda each: each.tree.supervisors.restart("/sessions/1"),
    "session suspended": lambda each: each.tree.system.suspend("/sessions/1"),
    "drain": lambda each: each.tree.drain(),
}


def catch_up(streams: Streams) -> None:
    streams.outbox("ann", is_high=True)
    streams.settle()
    streams.piece(streams.running[0])
    streams.outbox("ann", is_high=False)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of slow consumers pause early."""
    monkeypatch.setattr(piece_writer, "HELD_BACK_CHARS", 10)


@pytest.mark.parametrize(("pieces", "between"), [(0, 0.0), (0, 1.0), (1, 1.0), (3, 1.0)])
@pytest.mark.parametrize("event", EVENTS)
def test_an_event_between_two_pieces(event: str, pieces: int, between: float) -> None:
    streams = Streams(Random(pieces), between=between, coalesce=True)
    streams.ask("ann", "a", model="any")
    streams.settle()
    streams.ask("ann's other", "a", model="any")
    streams.settle()
    for _ in range(pieces):
        streams.piece(streams.running[0])
    EVENTS[event](streams)
    streams.settle()
    if streams.running:
        streams.piece(streams.running[0])
    streams.tree.system.resume("/sessions/1")
    streams.settle()
    streams.end()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_schedule(seed: int) -> None:
    Schedule(seed).run()


class Schedule:
    """Steps in an order that the seed decides."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        coalesce = self.random.random() < 0.5
        self.streams = Streams(self.random, between=0.3, coalesce=coalesce)
        self.asked: list[tuple[str, str, str]] = []
        self.crashes = 0

    def run(self) -> None:
        steps = [self.ask] * 4 + [self.repeat] * 2 + [self.speak] * 10 + [self.outbox] * 2
        steps += [self.cancel, self.vanish, self.crash, self.crash_connection, self.pass_time]
        for _ in range(STEPS):
            self.random.choice(steps)()
            if self.random.random() < 0.5:
                self.streams.settle()
        self.streams.end()

    def who(self) -> str:
        return self.random.choice(WHO)

    def ask(self) -> None:
        who, name = self.who(), f"r{len(self.asked)}"
        prompt = self.random.choice(["same", name])
        self.asked.append((session_of(who), name, prompt))
        more = {"deadline_ms": 5000} if self.random.random() < 0.2 else {}
        model, rpc = self.random.choice(["moon", "any"]), self.random.random() < 0.4
        self.streams.ask(who, name, rpc=rpc, prompt=prompt, model=model, **more)

    def repeat(self) -> None:
        who = self.who()
        known = [each for each in self.asked if each[0] == session_of(who)]
        if known:
            _, name, prompt = self.random.choice(known)
            if name not in self.streams.reader(who).asked:
                self.streams.ask(who, name, prompt=prompt)

    def cancel(self) -> None:
        if self.asked:
            name = self.random.choice(self.asked)[1]
            self.streams.send(self.who(), {"op": "cancel", "request_id": name})

    def speak(self) -> None:
        streams = self.streams
        if streams.running:
            call = self.random.choice(streams.running)
            if call.abort_asked:
                call.close(cut_off=False)
            else:
                self.random.choice([streams.piece] * 4 + [streams.complete, streams.fail])(call)

    def outbox(self) -> None:
        self.streams.outbox(self.who(), is_high=self.random.random() < 0.5)

    def vanish(self) -> None:
        self.streams.vanish(self.who())

    def crash(self) -> None:
        self.crashes += 1
        if self.crashes <= MOST_CRASHES:
            paths = ["/providers/kimi", "/providers/glm", "/sessions/1", "/sessions/2", "/broker"]
            self.streams.crash(self.random.choice(paths))

    def crash_connection(self) -> None:
        self.streams.crash_connection(self.who())

    def pass_time(self) -> None:
        self.streams.tree.advance(self.random.choice([0.1, 3.0, 11.0]))


def session_of(who: str) -> str:
    return who.partition("'")[0]
