"""Failures at random messages of every kind of actor, under load, on the manual driver."""

from __future__ import annotations

from collections import Counter
from itertools import count
from random import Random
from typing import Any

import pytest

from exai_actors.actors.broker import BrokerActor
from exai_actors.actors.connection.pending_calls import PendingCalls
from exai_actors.actors.http_exchange.actor import HttpExchangeActor
from exai_actors.actors.nurseries import RestartSettings
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.supervision.specs import OwnBudget
from exai_actors.runtime import LoopActor, SupervisorActor
from exai_actors.testing.tree import ManualClient, ManualTree
from tests.actors.relaying import Exchange, begin, finish
from tools.failure_injector import KINDS, When, failing

LIMIT = 3
# A few hundred failures a minute would rightly end the tree.
RESTARTS = RestartSettings(
    provider=OwnBudget(10_000, 1.0), session=OwnBudget(10_000, 1.0), root_intensity=10_000
)
SELDOM_USED = BrokerActor, HttpExchangeActor, SupervisorActor
TREE_KINDS = [kind for kind in KINDS if kind.__name__ != "ConsoleActor"]


class Fate:
    """Decides which messages are fatal: each with the probability ``rate``, of one kind or any."""

    def __init__(self, seed: int, only: str | None = None) -> None:
        self.rate = 0.0
        self._random = Random(seed)
        self._only = only

    def choose(self, actor: LoopActor, _: Any) -> When | None:
        if self._only not in (None, type(actor).__name__) or self._random.random() >= self.rate:
            return None
        return self._random.choice(("before", "after"))


def has_closed(client: ManualClient) -> bool:
    """Whether the broker has closed this connection."""
    return client.outbox.closed is not None


class Load:
    """Clients that call all the time, and account for each request."""

    def __init__(self, seed: int, fate: Fate) -> None:
        self.random = Random(seed)
        self.fate = fate
        self.tree = ManualTree(
            limit=LIMIT, session=SessionSettings(window=4), restarts=RESTARTS, resume_s=10**6
        )
        self.names = count()
        self.clients: dict[str, ManualClient] = {}
        self.open: dict[str, set[str]] = {}
        self.ended: Counter[str] = Counter()
        self.lost = 0
        self.exchanges: list[Exchange] = []

    def step(self) -> None:
        """One of the things that happen all the time."""
        if self.random.random() < 0.2:
            self._ask_over_http()
        name = self.random.choice(["ann", "bob", "bob-2"])
        client = self.clients.get(name)
        if client is None or has_closed(client):
            self._connect(name)
        elif self.random.random() < 0.1:
            client.vanish()
            del self.clients[name]
            self.lost += len(self.open.pop(name))
        elif self.random.random() < 0.6:
            self._call(name, client)
        else:
            self._answer()
        self.tree.advance(self.random.choice((0.0, 0.05, 0.5)))
        self.read()

    def _connect(self, name: str) -> None:
        # The requests of a broken connection end with it.
        self.lost += len(self.open.pop(name, ()))
        self.clients.pop(name, None)
        client = self.tree.connect()
        hello = {"op": "hello", "session_id": "session of " + name.split("-", maxsplit=1)[0]}
        frames = client.send(hello)
        if not frames:
            # It waits for a part that is being restarted.
            self.tree.advance(4.0)
            frames = client.received()
        if any(frame.get("ok") for frame in frames):
            self.clients[name], self.open[name] = client, set()
        else:
            assert has_closed(client), "a hello has no answer"

    def _call(self, name: str, client: ManualClient) -> None:
        request = f"r{next(self.names)}"
        self.open[name].add(request)
        more = {"stream": True} if self.random.random() < 0.3 else {}
        frames = client.call(request, request, **more)
        self._read(name, frames)

    def _ask_over_http(self) -> None:
        body = f'{{"model":"moon","n":{next(self.names)}}}'.encode()
        exchange = Exchange(self.tree, body, session=self.random.choice(["ann", "bob"]))
        self.exchanges.append(exchange)
        if self.random.random() < 0.2 and not exchange.responder.ended:
            exchange.leave()

    def _answer(self) -> None:
        for call in self.tree.upstream.running[: self.random.randint(1, LIMIT)]:
            if call.abort_asked:
                call.close(cut_off=False)
            elif call.is_relayed:
                begin(call, b"all")
                finish(call)
            else:
                call.complete(f"answer to {call.prompt}")

    def read(self) -> None:
        self.tree.settle()
        assert len(self.tree.upstream.running) <= LIMIT
        for name, client in self.clients.items():
            self._read(name, client.received())

    def _read(self, name: str, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            if frame["op"] in ("call_tool_res", "error"):
                request = frame["request_id"]
                assert request in self.open[name], f"{request} has two outcomes"
                self.open[name].discard(request)
                self.ended[(frame.get("error") or {}).get("code", "completed")] += 1
                if frame.get("error") is None:
                    assert frame["text"] == f"answer to {request}"

    def finish(self) -> None:
        """Without further failures, let every request end."""
        self.fate.rate = 0.0
        for _ in range(200):
            self.tree.advance(1.0)
            self._answer()
            self.read()
            living = {n for n, client in self.clients.items() if not has_closed(client)}
            if not any(self.open[name] for name in living) and self._exchanges_have_ended():
                return
        pytest.fail(f"requests without an outcome: {self.open}")

    def _exchanges_have_ended(self) -> bool:
        for exchange in self.exchanges:
            if exchange.responder.ended == "clean" and exchange.responder.status == 200:
                # An error after the beginning is an event, and no answer.
                body = exchange.responder.body
                assert body.endswith(b"all") or b'data: {"error":' in body
        return all(exchange.responder.ended for exchange in self.exchanges)

    def full_use(self) -> None:
        """The service gets as many calls as it allows, once more."""
        client = self.tree.client("session of another")
        for number in range(LIMIT + 2):
            client.call(f"again {number}")
        self.tree.settle()
        assert len(self.tree.upstream.running) == LIMIT
        assert self.tree.statistics().anomalies == 0


@pytest.mark.parametrize("seed", range(6))
def test_failures_anywhere_leave_no_request_without_an_outcome(seed: int) -> None:
    fate = Fate(seed)
    with failing(fate.choose, TREE_KINDS) as failures:
        load = Load(seed, fate)
        for _ in range(20):
            load.step()
        fate.rate = 0.02
        for _ in range(150):
            load.step()
        load.finish()
        load.full_use()
    assert load.ended["completed"] > 5
    assert load.tree.gave_up == []
    assert sum(failures.values()) > 10


@pytest.mark.parametrize("kind", TREE_KINDS, ids=lambda kind: kind.__name__)
def test_failures_of_one_kind_leave_no_request_without_an_outcome(kind: type[LoopActor]) -> None:
    fate = Fate(7, kind.__name__)
    with failing(fate.choose, TREE_KINDS) as failures:
        load = Load(7, fate)
        fate.rate = 0.25 if kind in SELDOM_USED else 0.04
        for _ in range(200):
            load.step()
        load.finish()
        load.full_use()
    assert set(failures) == {kind.__name__}
    assert failures[kind.__name__] > 5
    assert load.ended["completed"] > 5
    assert load.tree.gave_up == []


def test_the_account_finds_a_request_that_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PendingCalls, "finish_sent", lambda *_: None)
    fate = Fate(3, "SessionActor")
    with failing(fate.choose, TREE_KINDS):
        load = Load(3, fate)
        fate.rate = 0.05
        for _ in range(100):
            load.step()
        with pytest.raises(pytest.fail.Exception, match="without an outcome"):
            load.finish()
