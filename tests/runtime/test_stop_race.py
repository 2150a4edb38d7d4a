"""Actors stopped while threads send to them: nothing is lost, nobody is left waiting."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pykka import ActorDeadError

from exai_actors.runtime import LoopActor, LoopFuture, LoopRef, MailboxFull, Offer
from tests.runtime.probes import ManualSystem

SENDS = 100_000
THREADS = 2


class Echo(LoopActor):
    handled = 0

    def on_receive(self, message: Any) -> Any:
        Echo.handled += 1
        return message


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Have threads take turns as often as possible, which makes races likely."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Race:
    """Threads that each send so many messages to the actor of the day."""

    def __init__(self, send: Callable[[LoopRef[Echo]], object], target: LoopRef[Echo]) -> None:
        self.target = target
        self._send = send
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def __enter__(self) -> Race:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def on(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        for _ in range(SENDS // THREADS):
            self._send(self.target)


def spawn_and_stop_while_others_send(send: Callable[[LoopRef[Echo]], object]) -> ManualSystem:
    system = ManualSystem()
    with Race(send, system.spawn(Echo, path="/race-0", mailbox_limit=50)) as race:
        number = 0
        while race.on():
            number += 1
            race.target.stop(block=False)
            system.run()
            race.target = system.spawn(Echo, path=f"/race-{number}", mailbox_limit=50)
            system.run()
    system.begin_stop()
    system.run()
    return system


@pytest.mark.without_coverage
@pytest.mark.usefixtures("eager_switching")
def test_of_a_hundred_thousand_asks_in_a_stop_race_every_one_is_answered() -> None:
    asked: list[LoopFuture[Any]] = []
    spawn_and_stop_while_others_send(
        lambda target: asked.append(target.ask("race", block=False)),
    )
    assert len(asked) == SENDS
    assert [future for future in asked if not future.done()] == []
    outcomes = {type(future._error) for future in asked}
    assert outcomes <= {type(None), ActorDeadError, MailboxFull}
    assert ActorDeadError in outcomes


@pytest.mark.usefixtures("eager_switching")
def test_every_accepted_message_is_handled_or_a_dead_letter_and_no_other_is() -> None:
    offers: list[Offer] = []
    Echo.handled = 0
    system = spawn_and_stop_while_others_send(lambda target: offers.append(target.offer("race")))
    assert len(offers) == SENDS
    assert offers.count(Offer.ACCEPTED) == Echo.handled + len(system.dead_letters)
    assert offers.count(Offer.CLOSED) > 0


@pytest.mark.usefixtures("eager_switching")
def test_no_message_told_by_threads_is_left_behind_in_a_sleeping_mailbox() -> None:
    system = ManualSystem()
    Echo.handled = 0
    target = system.spawn(Echo, path="/race", mailbox_limit=SENDS)
    with Race(lambda target: target.tell("race"), target) as race:
        while race.on():
            system.run()
    system.run()
    assert Echo.handled == SENDS
    system.begin_stop()
    system.run()
