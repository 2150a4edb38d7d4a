"""Operators act at random under load: each request has exactly one outcome, and nothing is left."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings, RetrySettings
from exai_actors.testing.tree import ManualClient
from tests.actors.left_over import left_in_provider
from tests.console.operator_desk import Console, OperatorDesk

ON_KIMI = (
    "provider.pause",
    "provider.resume",
    "provider.drain",
    "provider.lift_hold",
    "provider.reset_circuit",
    "actor.suspend",
    "actor.resume",
    "actor.restart",
)
ON_ROWS = {
    "request.cancel": "requests",
    "request.front": "requests",
    "request.hold": "requests",
    "request.release": "requests",
    "request.trace": "requests",
    "session.end": "sessions",
    "connection.disconnect": "connections",
}


class Storm:
    """Clients that send, services that answer, and an operator, in an order drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        retry = RetrySettings(attempts=2, reserve=100)
        self.desk = OperatorDesk(capacity=CapacitySettings(2, queue=20, retry=retry))
        self.clients: list[ManualClient] = []
        self.sent: Counter[tuple[int, str]] = Counter()
        self.outcomes: Counter[tuple[int, str]] = Counter()
        self.effects: Counter[bool] = Counter()
        self.console: Console = self.desk.console()

    def collect(self) -> None:
        self.desk.tree.settle()
        for number, client in enumerate(self.clients):
            self.note(number, client.outbox.take())

    def note(self, number: int, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            if frame["op"] == "call_tool_res":
                self.outcomes[number, frame["request_id"]] += 1

    def send(self) -> None:
        living = [number for number, each in enumerate(self.clients) if each.outbox.closed is None]
        if len(living) < 4:
            self.clients.append(self.desk.tree.client())
            return
        number = self.draw.choice(living)
        name = f"r-{len(self.sent)}"
        self.sent[number, name] += 1
        client = self.clients[number]
        deadline_ms = self.draw.choice([5_000, 60_000])
        self.note(number, client.call(name, name, deadline_ms=deadline_ms))

    def serve(self) -> None:
        running = [call for up in self.desk.tree.upstreams.values() for call in up.running]
        if running:
            call = self.draw.choice(running)
            if call.abort_asked:
                call.close(cut_off=self.draw.random() < 0.5)
            elif self.draw.random() < 0.8:
                call.complete()
            else:
                call.fail(self.draw.choice([FailureKind.SERVER_ERROR, FailureKind.RATE_LIMITED]))

    def operate(self) -> None:
        action = self.draw.choice([*ON_KIMI, *ON_ROWS])
        if action in ON_ROWS:
            table = ON_ROWS[action]
            keys = [keyed[0] for keyed in self.desk.consoles.sources.fresh(table)]
            if not keys:
                return
            target = self.draw.choice(keys)
        else:
            target = "/providers/kimi" if action.startswith("actor") else "kimi"
        self.act(action, target)

    def act(self, action: str, target: str) -> None:
        answers = self.console.send({"op": "act", "action": action, "targets": [target]})
        if not answers:
            # A suspended provider does not reply; the change is made when it is resumed.
            self.desk.tree.advance(5.0)
            answers = self.console.received()
        (answer,) = answers
        self.effects[answer["effects"][0]["ok"]] += 1

    def close_sockets(self) -> None:
        for client in self.clients:
            if client.outbox.closed is not None and client.ref.is_alive():
                client.vanish()

    def end(self) -> None:
        """Open everything, and let all requests end."""
        for action in ("actor.resume", "provider.resume", "provider.lift_hold"):
            target = "/providers/kimi" if action.startswith("actor") else "kimi"
            self.act(action, target)
        for _ in range(200):
            self.desk.tree.advance(0.5)
            self.collect()
            for upstream in self.desk.tree.upstreams.values():
                for call in upstream.running:
                    if call.abort_asked:
                        call.close(cut_off=False)
                    else:
                        call.complete()
        self.collect()


@pytest.mark.parametrize("seed", range(12))
def test_each_request_has_one_outcome_whatever_operators_do(seed: int) -> None:
    storm = Storm(seed)
    steps = [storm.send] * 5 + [storm.serve] * 3 + [storm.operate] * 3
    for _ in range(150):
        storm.draw.choice(steps)()
        storm.collect()
        storm.close_sockets()
        storm.desk.tree.advance(storm.draw.choice([0.0, 0.0, 0.1, 1.0]))
    storm.end()
    assert storm.effects[True] > 3
    assert not [each for each, count in storm.outcomes.items() if count != 1]
    # Only the requests of clients that were disconnected, and could not be told, have none.
    missing = set(storm.sent) - set(storm.outcomes)
    open_clients = {
        number for number, each in enumerate(storm.clients) if each.outbox.closed is None
    }
    assert not [each for each in missing if each[0] in open_clients]
    statistics = storm.desk.tree.statistics()
    assert statistics.is_conserved
    assert (statistics.in_flight, statistics.queued, statistics.violations) == (0, 0, 0)
    assert left_in_provider(storm.desk.tree, sessions_ended=False) == []
