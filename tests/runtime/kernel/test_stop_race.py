"""Actors stopped while threads send to them, as fast as both can."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from exai_actors.runtime.kernel.ref import Ref
from tests.runtime.kernel.probes import Answer, Doing, ManualSystem, ask

SENDS = 50_000
THREADS = 2

# Slow under a tracer, on lines that other tests reach too.
pytestmark = pytest.mark.without_coverage


@pytest.fixture(autouse=True)
def eager_switching() -> Iterator[None]:
    """Have threads take turns as often as possible, which makes races likely."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Race:
    """Threads send to an actor that is stopped and replaced again and again."""

    def __init__(self, system: ManualSystem, send: Callable[[Ref], object]) -> None:
        self.handled = 0
        self._system = system
        self._send = send
        self._target = self._spawn(0)
        threads = [threading.Thread(target=self._send_all) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        number = 0
        while any(thread.is_alive() for thread in threads):
            number += 1
            system.stop(self._target)
            self._target = self._spawn(number)
            system.run()
        system.stop(self._target)

    def _spawn(self, number: int) -> Ref:
        return self._system.spawn(Doing, f"/race-{number}", limit=50, do_receive=self._handle).ref

    def _handle(self, _message: object) -> None:
        self.handled += 1

    def _send_all(self) -> None:
        for _ in range(SENDS // THREADS):
            self._send(self._target)


def test_every_request_in_a_stop_race_is_answered_once(system: ManualSystem) -> None:
    answers: list[Answer] = []
    race = Race(system, lambda target: answers.append(ask(target, "race")))
    kinds = [answer.kind for answer in answers]
    assert len(kinds) == SENDS
    assert set(kinds) <= {"value", "error", "dead"}
    assert kinds.count("value") == race.handled
    assert kinds.count("dead") > 0
