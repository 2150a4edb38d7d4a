"""Whatever clients, providers and time do: each call is answered exactly once, with its own answer.

The model counts the calls and the answers of each connection. In the end no actor holds anything
about a request or a client that is gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pykka import ActorRegistry

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.nurseries import RestartSettings
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.connections import SessionConnections
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import FailureKind, Outcome
from exai_actors.core.capacity.settings import CapacitySettings, CircuitSettings
from exai_actors.core.routing import RouteSettings
from exai_actors.core.session.requests import SessionRequests
from exai_actors.ids import ProviderName
from exai_actors.messages.connection import OutboxHigh, OutboxLow, SocketEvent
from exai_actors.runtime.pykka_api.registry import RefDict
from exai_actors.testing.manual_upstream import ManualCall
from exai_actors.testing.tree import ManualClient, ManualTree
from tests.leftovers import leftovers

LIMIT = 2
ROUTE = RouteSettings("any", ("kimi/moon", "glm/star"), ("overloaded", "server_error", "busy"))
CLIENTS = st.sampled_from(["ann", "ann's other", "bob"])
PROVIDERS = st.sampled_from(["kimi", "glm"])
RESUME_S = 10.0
SESSIONS = {"ann": "session-ann", "ann's other": "session-ann", "bob": "session-bob"}
# Held for as long as the session lives: bounded by number, size or age, or by the configuration.
OF_A_SESSION = {
    "_connections._by_id",
    "_conversations.kept",
    "_kept.outcomes.kept",
    "_local_tools._events",
    "_providers",
}
TREE = {"/", "/providers", "/sessions", "/connections", "/consoles", "/broker"}
# One more within a minute would end the tree.
MOST_CRASHES = 5
# Held for as long as the process lives, likewise.
OF_A_PROVIDER = re.compile(r"\b(_account|_estimator|_budget|_by_model|circuit|gates)\b")


class EveryCallIsAnsweredOnce(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # The process has one registry: it would keep every tree's actors alive.
        self._refs = ActorRegistry._actor_refs
        ActorRegistry._actor_refs = RefDict()  # type: ignore[assignment]
        self.tree = ManualTree(
            capacity=CapacitySettings(
                limit=LIMIT, queue=4, circuit=CircuitSettings(failures_in_a_row=1000, calls=1000)
            ),
            session=SessionSettings(window=3, queue=3),
            connection=ConnectionSettings(slow_consumer_s=10**9),
            routes=(ROUTE,),
            finish_on_disconnect=("glm",),
            resume_s=RESUME_S,
        )
        self.clients: dict[str, ManualClient] = {}
        self.call_: dict[str, Counter[str]] = {}
        self.answered: dict[str, Counter[str]] = {}
        self.prompts: dict[tuple[str, str], tuple[str, str]] = {}
        self.names = count()
        self.crashes = 0

    def teardown(self) -> None:
        try:
            self._let_everything_end()
            self._let_all_clients_leave()
        finally:
            ActorRegistry._actor_refs = self._refs

    @rule(
        who=CLIENTS,
        model=st.sampled_from(["moon", "star", "any"]),
        key=st.sampled_from([None, None, "k1", "k2"]),
        more=st.sampled_from([{}, {"if_busy": "refuse"}, {"deadline_ms": 5000}, {"stream": True}]),
    )
    def ask(self, who: str, model: str, key: str | None, more: dict[str, Any]) -> None:
        request = f"r{next(self.names)}"
        prompt = f"{key} of {SESSIONS[who]}" if key else request
        self.prompts[SESSIONS[who], request] = prompt, "moon" if key else model
        frame = more | ({"idempotency_key": key} if key else {})
        self._ask(who, request, prompt, "moon" if key else model, frame)

    @precondition(lambda self: self.prompts)
    @rule(who=CLIENTS, data=st.data())
    def repeat(self, who: str, data: st.DataObject) -> None:
        mine = [name for name in self.prompts if name[0] == SESSIONS[who]]
        if mine:
            session, request = data.draw(st.sampled_from(mine))
            self._ask(who, request, *self.prompts[session, request], {})

    @precondition(lambda self: self.prompts)
    @rule(who=CLIENTS, data=st.data())
    def cancel(self, who: str, data: st.DataObject) -> None:
        session, request = data.draw(st.sampled_from(sorted(self.prompts)))
        if session == SESSIONS[who]:
            frame = {"op": "cancel", "request_id": request}
            self._read(who, self._client(who).send(frame))

    @rule(provider=PROVIDERS, how=st.sampled_from(["answer", "fail", "piece", "again"]))
    def provider_speaks(self, provider: str, how: str) -> None:
        calls = self.tree.upstreams[ProviderName(provider)].calls
        running = [call for call in calls if not call.ended]
        if how == "again" and calls and calls[-1].ended:
            calls[-1].end_again()
        elif running:
            self._speak(running[0], how)
        self._read_all()

    @rule(
        provider=PROVIDERS,
        kind=st.sampled_from([FailureKind.OVERLOADED, FailureKind.RATE_LIMITED]),
    )
    def provider_refuses(self, provider: str, kind: FailureKind) -> None:
        running = self.tree.upstreams[ProviderName(provider)].running
        if running and not running[0].abort_asked:
            running[0].fail(kind, retry_after=2.0)
        self._read_all()

    @rule(provider=PROVIDERS)
    def provider_crashes(self, provider: str) -> None:
        ref = self.tree.directory.providers[ProviderName(provider)].resolve()
        # After more than five in 30 s the broker closes it for a while.
        if ref is not None:
            ref.tell(object())
        self._read_all()

    @rule(
        place=st.sampled_from(
            [
                "/sessions/1",
                "/sessions/2",
                "/broker",
                "/",
                "/providers",
                "/sessions",
                "/connections",
            ]
        ),
        seconds=st.sampled_from([0.0, 5.0]),
    )
    def another_actor_crashes(self, place: str, seconds: float) -> None:
        ref = self.tree.system.resolve(place)
        if ref is not None and self.crashes < MOST_CRASHES:
            self.crashes += not place.startswith("/sessions/")
            ref.tell_system("an unknown message")
        self.time_passes(seconds)

    @rule(who=CLIENTS)
    def vanish(self, who: str) -> None:
        if who in self.clients:
            self.clients.pop(who).vanish()
            del self.call_[who], self.answered[who]
        self._read_all()

    @rule(who=CLIENTS, event=st.sampled_from([OutboxHigh(), OutboxLow()]))
    def outbox_passes_a_mark(self, who: str, event: SocketEvent) -> None:
        self._read(who, self._client(who).event(event))

    @rule(who=CLIENTS)
    def session_expires_and_lives_again(self, who: str) -> None:
        for other in tuple(self.clients):
            if SESSIONS[other] == SESSIONS[who]:
                self.vanish(other)
        self.time_passes(RESUME_S)
        self._client(who)

    @rule(seconds=st.sampled_from([0.3, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.tree.advance(seconds)
        self._read_all()

    @invariant()
    def no_call_has_more_answers_than_frames(self) -> None:
        for who, answered in self.answered.items():
            assert not answered - self.call_[who], f"{who} has answers too many"

    @invariant()
    def no_provider_has_more_calls_than_it_allows(self) -> None:
        for upstream in self.tree.upstreams.values():
            assert len(upstream.running) <= LIMIT

    def _ask(self, who: str, request: str, prompt: str, model: str, more: dict[str, Any]) -> None:
        client = self._client(who)
        # Repeated on the same connection while it is in flight, it has one answer for both.
        self.call_[who][request] += self.call_[who][request] == self.answered[who][request]
        arguments = {"prompt": prompt, "model": model}
        self._read(who, client.call(request, prompt, arguments=arguments, **more))
        self._read_all()

    def _speak(self, call: ManualCall, how: str) -> None:
        if call.abort_asked:
            call.close()
        elif how == "piece":
            call.chunk("piece ")
        elif how == "fail":
            call.fail()
        else:
            call.complete(f"answer to {call.prompt}")

    def _client(self, who: str) -> ManualClient:
        if who not in self.clients:
            # A hello waits for a session or guardian that is being restarted.
            self.time_passes(1.0)
            self.clients[who] = self.tree.client(SESSIONS[who])
            self.call_[who], self.answered[who] = Counter(), Counter()
        return self.clients[who]

    def _read_all(self) -> None:
        self.tree.settle()
        for who, client in self.clients.items():
            self._read(who, client.received())

    def _read(self, who: str, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            if frame["op"] in ("call_tool_res", "error"):
                request = frame["request_id"]
                self.answered[who][request] += 1
                if frame["op"] == "call_tool_res" and frame.get("error") is None:
                    assert frame["text"] == f"answer to {self.prompts[SESSIONS[who], request][0]}"

    def _let_everything_end(self) -> None:
        for _ in range(200):
            running = [call for each in self.tree.upstreams.values() for call in each.running]
            for call in running:
                self._speak(call, "answer")
            self.tree.advance(0.0 if running else 5.0)
            self._read_all()
            if self.answered == self.call_ and not running and self._is_idle():
                break
        assert self.answered == self.call_
        assert self._is_idle()

    def _let_all_clients_leave(self) -> None:
        for client in self.clients.values():
            client.event(OutboxLow())
        for path in self.tree.system.paths():
            if path.startswith("/connections/"):
                assert self._leftovers(path) == set()
            elif path.startswith("/sessions/"):
                assert not self._leftovers(path) - OF_A_SESSION, self._leftovers(path)
        for who in tuple(self.clients):
            self.vanish(who)
        self.time_passes(max(RESUME_S, RestartSettings().provider.closed_s))
        providers = [f"/providers/{name}" for name in self.tree.upstreams]
        assert set(self.tree.system.paths()) == {*TREE, *providers}
        assert leftovers(self._actor("/broker")) == {}
        for path in providers:
            held = {name for name in self._leftovers(path) if not OF_A_PROVIDER.search(name)}
            if self.tree.actor(path).incarnation > 1:
                # The one entry that stands for the adopted calls of all earlier incarnations.
                held = {name for name in held if not name.endswith(".queue._tenants")}
            assert held == set()

    def _leftovers(self, path: str) -> set[str]:
        return set(leftovers(self._actor(path)))

    def _actor(self, path: str) -> object:
        return self.tree.actor(path)._actor_weakref()

    def _is_idle(self) -> bool:
        providers = self.tree.board.statistics().providers
        return not any(each.in_flight or each.queued for each in providers)


EveryCallIsAnsweredOnce.TestCase.settings = settings(stateful_step_count=40)
TestEveryCallIsAnsweredOnce = EveryCallIsAnsweredOnce.TestCase


def answers_only_the_first(patch: pytest.MonkeyPatch) -> None:
    ended = SessionConnections.ended

    def once(self: SessionConnections, active: Any, outcome: Any) -> None:
        del active.waiters[1:]
        ended(self, active, outcome)

    patch.setattr(SessionConnections, "ended", once)


def forgets_joined_requests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SessionConnections, "repeated", lambda *_: None)


def loses_re_routed_requests(patch: pytest.MonkeyPatch) -> None:
    run_again = SessionRequests.run_again

    def lost(self: SessionRequests, active: Any) -> None:
        run_again(self, active)
        del self._active[active.run]

    patch.setattr(SessionRequests, "run_again", lost)


def loses_returned_requests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SessionActor, "_await_provider", lambda *_, **__: None)


def takes_returned_requests_for_lost(patch: pytest.MonkeyPatch) -> None:
    returned = SessionActor._returned

    def both(self: SessionActor, active: Any, error: Any) -> None:
        self._connections.ended(active, Outcome("failed"))
        returned(self, active, error)

    patch.setattr(SessionActor, "_returned", both)


@pytest.mark.without_coverage
# A search of thousands of examples, which a busy machine slows down.
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "breaking",
    [
        answers_only_the_first,
        forgets_joined_requests,
        loses_re_routed_requests,
        loses_returned_requests,
        takes_returned_requests_for_lost,
    ],
)
def test_the_machine_notices_a_broken_session(
    breaking: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch)
    quickly = settings(
        max_examples=10_000,
        stateful_step_count=80,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
    )
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(EveryCallIsAnsweredOnce, settings=quickly)
