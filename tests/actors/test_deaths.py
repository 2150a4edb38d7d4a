"""The death of an actor: what it had in hand ends once, and honestly."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from exai_actors.actors.session.actor import SessionActor
from exai_actors.core.calls import ChatCall, FailureKind
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.core.capacity.settings import CapacitySettings, RetrySettings
from exai_actors.core.capacity.token_estimates import TokenEstimator
from exai_actors.core.routing import RouteSettings
from exai_actors.ids import RequestKey, SessionId
from exai_actors.messages.connection import TextReceived
from exai_actors.messages.provider import CancelCall, UpstreamEnded
from exai_actors.messages.recipient import Offer
from exai_actors.messages.session import Attach
from exai_actors.runtime import LoopRef
from exai_actors.testing.manual_upstream import ManualUpstream
from exai_actors.testing.tree import ManualClient, ManualTree

HELLO = {"op": "hello", "session_id": "desk"}
INITIALIZE = {"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": {}}


def outcomes(client: ManualClient) -> dict[str, str]:
    """The code of each outcome by its request id; empty for an answer."""
    return codes(client.received())


def codes(frames: list[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for frame in frames:
        if frame["op"] in ("call_tool_res", "error"):
            assert frame["request_id"] not in found, "two outcomes"
            found[frame["request_id"]] = (frame.get("error") or {}).get("code", "")
    return found


def dies_at_attach(patch: pytest.MonkeyPatch, deaths: int) -> None:
    """Let so many incarnations of a session fail when a connection joins them."""
    receive, left = SessionActor.on_receive, [None] * deaths

    def failing(self: SessionActor, message: Any) -> None:
        if isinstance(message, Attach) and left:
            left.pop()
            raise RuntimeError("planted")
        receive(self, message)

    patch.setattr(SessionActor, "on_receive", failing)


@pytest.mark.parametrize("hello", [HELLO, {"op": "hello"}, INITIALIZE])
def test_a_hello_is_answered_by_another_incarnation_when_its_session_dies(
    hello: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_at_attach(monkeypatch, 1)
    tree = ManualTree()
    client = tree.connect()
    (ack,) = client.send(hello)
    assert ack.get("ok", "result" in ack)
    if hello is not INITIALIZE:
        client.call("a")
        tree.upstream.calls[0].complete()
        assert outcomes(client) == {"a": ""}
    assert tree.board.statistics().sessions == 1


@pytest.mark.parametrize("hello", [HELLO, INITIALIZE])
def test_a_first_call_ends_its_connection_when_the_session_dies_again_and_again(
    hello: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_at_attach(monkeypatch, 4)
    tree = ManualTree()
    client = tree.connect()
    client.send(hello)
    client.begin_session()
    tree.advance(2.0)
    assert client.outbox.closed == (1011, "internal error")
    client.vanish()
    assert tree.board.statistics().sessions == 0
    assert "a" not in codes(tree.client("desk").call("a"))


def test_a_hello_is_answered_by_the_next_incarnation_of_a_session_that_another_killed() -> None:
    tree = ManualTree()
    first = tree.client("desk")
    first.call("a")
    second = tree.connect()
    tree.actor("/sessions/1").tell("poison")
    (ack,) = second.send(HELLO)
    assert ack["ok"]
    assert outcomes(first) == {"a": "INTERNAL_ERROR"}
    assert first.outbox.closed is None


def test_a_session_that_cannot_be_constructed_ends_its_connection_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree()
    other = tree.client("other")

    def failing(*_: object, **__: object) -> None:
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(SessionActor, "__init__", failing)
        client = tree.client("desk")
        assert client.call("a") == []
    assert client.outbox.closed == (1011, "internal error")
    assert tree.gave_up == []
    other.call("a")
    tree.upstream.calls[0].complete()
    assert outcomes(other) == {"a": ""}
    assert tree.client("desk").outbox.closed is None


def kill_guardian(tree: ManualTree, times: int = 6) -> None:
    """Let it fail so often; the sixth time in a minute is once too often."""
    for _ in range(times):
        if tree.system.resolve("/broker") is None:
            tree.advance(1.0)
        tree.broker.tell("poison")
        tree.settle()


def test_every_accepted_request_has_an_outcome_when_the_guardian_is_given_up() -> None:
    tree = ManualTree(limit=1)
    clients = [tree.client(f"s{number}") for number in range(4)]
    for number, client in enumerate(clients):
        client.call(f"runs or waits {number}")
        client.call(f"streams or waits {number}", stream=True)
    kill_guardian(tree, 5)
    tree.advance(1.0)
    silent = tree.connect()
    assert all("call_tool_res" not in [f["op"] for f in each.received()] for each in clients)
    kill_guardian(tree, 1)
    for number, client in enumerate(clients):
        assert outcomes(client) == {
            f"runs or waits {number}": "INTERNAL_ERROR",
            f"streams or waits {number}": "INTERNAL_ERROR",
        }
    for client in (*clients, silent):
        assert client.outbox.closed == (1011, "the broker failed and has to be restarted")
    (report,) = tree.gave_up
    assert (report.path, report.restarts) == ("/broker", 5)
    first, *incidents = str(report).splitlines()
    assert first.startswith(
        "the broker gave up: /broker failed more than 5 times in 60 s, the last"
    )
    assert len(incidents) == 6
    for each in incidents:
        assert re.match(r"  \d+\.\d{3} s before: /broker failed with AssertionError at exai_", each)
    assert "poison" not in str(report)
    assert clients[0].received() == []
    assert tree.system.paths() == []


def test_a_connection_after_the_guardian_was_given_up_is_closed_honestly() -> None:
    tree = ManualTree()
    kill_guardian(tree)
    late = tree.connect()
    assert late.outbox.closed == (1011, "the broker failed and has to be restarted")


def test_a_connection_that_the_guardian_had_not_seen_yet_is_closed_too() -> None:
    tree = ManualTree()
    kill_guardian(tree, 5)
    tree.advance(1.0)
    tree.broker.tell("poison")
    late = tree.connect()
    assert late.outbox.closed == (1011, "the broker failed and has to be restarted")


def ask(
    client: ManualClient, name: str, prompt: str = "hi", *, settle: bool = True, **more: Any
) -> None:
    """Call without reading the answer."""
    arguments = {"prompt": prompt} | more.pop("arguments", {})
    frame = {"op": "call_tool", "request_id": name, "name": "chat", "arguments": arguments} | more
    client.ref.tell(TextReceived(orjson.dumps(frame)))
    if settle:
        client._tree.settle()


def kill(tree: ManualTree, provider: str = "kimi") -> None:
    """Let a provider's actor fail with nothing in hand, once it is alive."""
    if tree.system.resolve(f"/providers/{provider}") is None:
        tree.advance(1.0)
    tree.actor(f"/providers/{provider}").tell("an unknown message")
    tree.settle()


def end_all(tree: ManualTree, *clients: ManualClient) -> list[dict[str, str]]:
    """End all calls, also those that are being aborted, and return the outcomes of each client."""
    found: list[dict[str, str]] = [outcomes(client) for client in clients]
    for _ in range(100):
        for call in tree.upstream.running:
            if call.abort_asked:
                call.close(cut_off=False)
            else:
                call.complete(f"answer to {call.prompt}")
        tree.advance(1.0)
        for each, client in zip(found, clients, strict=True):
            more = outcomes(client)
            assert not each.keys() & more.keys(), "two outcomes"
            each.update(more)
    return found


def test_what_only_queued_is_served_by_the_next_incarnation_in_the_same_order() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=2))
    ann, bob = tree.client("ann"), tree.client("bob")
    for number in range(2):
        ask(ann, f"runs {number}", f"runs {number}")
    for number in range(3):
        ask(ann, f"a{number}", f"a{number}", priority=int(number == 2))
        ask(bob, f"b{number}", f"b{number}")
    kill(tree)
    assert tree.statistics().queued == 6
    of_ann, of_bob = end_all(tree, ann, bob)
    lost = dict.fromkeys(("runs 0", "runs 1"), "SERVICE_UNAVAILABLE")
    assert of_ann == lost | dict.fromkeys(("a0", "a1", "a2"), "")
    assert of_bob == dict.fromkeys(("b0", "b1", "b2"), "")
    served = [call.prompt for call in tree.upstream.calls[2:]]
    assert [name for name in served if name[0] == "a"] == ["a2", "a0", "a1"]
    assert [name for name in served if name[0] == "b"] == ["b0", "b1", "b2"]
    assert set(served[:2]) == {"a2", "b0"}
    assert tree.statistics().anomalies == 0


def test_what_was_in_the_mailbox_is_served_by_the_next_incarnation() -> None:
    tree = ManualTree(limit=1)
    ann, bob = tree.client("ann"), tree.client("bob")
    ask(ann, "runs")
    provider = tree.actor("/providers/kimi")
    # Behind more messages than the provider handles in a row.
    for _ in range(200):
        provider.tell(CancelCall(RequestKey("unknown"), SessionId("nothing")))
    provider.tell("an unknown message")
    ask(bob, "b")
    assert end_all(tree, ann, bob) == [{"runs": "SERVICE_UNAVAILABLE"}, {"b": ""}]


def test_a_call_that_waits_for_its_retry_survives_too() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, retry=RetrySettings(base_s=30.0)))
    client = tree.client()
    ask(client, "a")
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    tree.settle()
    kill(tree)
    assert end_all(tree, client) == [{"a": ""}]


def test_requests_that_joined_a_queued_call_survive_with_it() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, coalesce=True))
    ann, bob = tree.client("ann"), tree.client("bob")
    ask(ann, "runs", "other")
    ask(ann, "a", "same")
    ask(bob, "b", "same")
    kill(tree)
    assert end_all(tree, ann, bob) == [{"runs": "SERVICE_UNAVAILABLE", "a": ""}, {"b": ""}]
    assert [call.prompt for call in tree.upstream.calls] == ["other", "same"]


@pytest.mark.parametrize("how", ["cancel", "vanish", "expire"])
def test_a_request_that_ends_between_two_incarnations_is_not_called(how: str) -> None:
    tree = ManualTree(limit=1)
    ann, bob = tree.client("ann"), tree.client("bob")
    ask(ann, "runs")
    ask(bob, "b", deadline_ms=1000)
    tree.actor("/providers/kimi").tell("an unknown message")
    if how == "cancel":
        bob.send({"op": "cancel", "request_id": "b"})
    elif how == "vanish":
        bob.vanish()
    else:
        tree.advance(1.0)
    expected = {"cancel": {}, "vanish": {}, "expire": {"b": "TIMEOUT"}}[how]
    assert outcomes(bob) == expected
    assert end_all(tree, ann) == [{"runs": "SERVICE_UNAVAILABLE"}]
    assert len(tree.upstream.calls) == 1


def test_a_new_request_between_two_incarnations_waits_for_the_next() -> None:
    tree = ManualTree(limit=1)
    ann = tree.client("ann")
    tree.actor("/providers/kimi").tell("an unknown message")
    ask(ann, "a", settle=False)
    assert end_all(tree, ann) == [{"a": ""}]


def test_requests_survive_several_deaths_in_a_row_but_not_the_closing() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    for _ in range(5):
        kill(tree)
    assert outcomes(client) == {"runs": "SERVICE_UNAVAILABLE"}
    kill(tree)
    assert outcomes(client) == {"waits": "SERVICE_UNAVAILABLE"}
    assert tree.statistics().mode == "closed"


def test_a_request_of_a_closed_provider_follows_its_route() -> None:
    tree = ManualTree(
        limit=1, routes=(RouteSettings("any", ("kimi/moon", "glm/star"), ("unreachable",)),)
    )
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits", arguments={"model": "any"})
    for _ in range(6):
        kill(tree)
    assert outcomes(client) == {"runs": "SERVICE_UNAVAILABLE"}
    ask(client, "new", arguments={"model": "any"})
    calls = tree.upstreams[next(name for name in tree.upstreams if name == "glm")].calls
    for call in calls:
        call.complete()
        tree.settle()
    assert outcomes(client) == {"waits": "", "new": ""}


def takes_none_of(patch: pytest.MonkeyPatch, path: str, kind: type) -> None:
    """Let the mailbox of an actor be full for messages of this kind."""
    offer = LoopRef.offer

    def refusing(self: LoopRef[Any], message: Any) -> Offer:
        full = self.path == path and isinstance(message, kind)
        return "full" if full else offer(self, message)

    patch.setattr(LoopRef, "offer", refusing)


Plant = Callable[[pytest.MonkeyPatch], None]


def fails_to_estimate(patch: pytest.MonkeyPatch) -> None:
    estimate = TokenEstimator.estimate

    def failing(self: TokenEstimator, call: ChatCall, length: float) -> Any:
        if call.messages[-1].content == "poison":
            raise RuntimeError("planted")
        return estimate(self, call, length)

    patch.setattr(TokenEstimator, "estimate", failing)


def fails_to_queue(patch: pytest.MonkeyPatch) -> None:
    put = FairQueue.put

    def failing(self: Any, flow: Any, request: Any, value: Any, *more: Any, **named: Any) -> bool:
        if value.run.call.messages[-1].content == "poison":
            raise RuntimeError("planted")
        return put(self, flow, request, value, *more, **named)

    patch.setattr(FairQueue, "put", failing)


def fails_to_start(patch: pytest.MonkeyPatch) -> None:
    start = ManualUpstream.start

    def failing(self: ManualUpstream, permit: Any, call: ChatCall, *more: Any, **named: Any) -> Any:
        if call.messages[-1].content == "poison":
            raise RuntimeError("planted")
        return start(self, permit, call, *more, **named)

    patch.setattr(ManualUpstream, "start", failing)


def fails_to_grant(patch: pytest.MonkeyPatch) -> None:
    grant = Dispatcher._grant

    def failing(self: Any, call: Any, now: float) -> bool:
        granted = grant(self, call, now)
        if granted and call.run.call.messages[-1].content == "poison":
            raise RuntimeError("planted")
        return granted

    patch.setattr(Dispatcher, "_grant", failing)


@pytest.mark.parametrize(
    "plant", [fails_to_estimate, fails_to_queue, fails_to_start, fails_to_grant]
)
@pytest.mark.parametrize("alone", [True, False])
def test_poison_kills_twice_and_is_refused_from_then_on(
    plant: Plant, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    tree = ManualTree(limit=1)
    good, bad = tree.client("good"), tree.client("bad")
    expected = {}
    if not alone or plant is fails_to_queue:
        ask(good, "runs")
        expected["runs"] = "SERVICE_UNAVAILABLE"
        if plant in (fails_to_start, fails_to_grant):
            # It dies when the poison's turn comes, and that call has ended by then.
            expected["runs"] = ""
    ask(bad, "x", "poison")
    for number in range(5):
        ask(good, f"g{number}")
        expected[f"g{number}"] = ""
    (of_good,) = end_all(tree, good)
    (refusal,) = [frame for frame in bad.received() if "ok" in frame]
    assert (refusal["request_id"], refusal["error"]["code"]) == ("x", "INTERNAL_ERROR")
    assert "do not repeat it unchanged" in refusal["error"]["message"]
    assert of_good == expected
    assert tree.actor("/sessions/2").incarnation == 1, "only the provider fails"
    incarnation = tree.statistics().incarnation
    assert incarnation == 3
    for number in range(10):
        (answer,) = [frame for frame in bad.call(f"again {number}", "poison") if "ok" in frame]
        assert answer["error"]["code"] == "INTERNAL_ERROR"
        assert "do not repeat it unchanged" in answer["error"]["message"]
        assert "retry_after" not in answer["error"]["details"]
    ask(good, "still served")
    assert end_all(tree, good) == [{"still served": ""}]
    assert tree.statistics().incarnation == incarnation


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_had_arrived_is_passed_on(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("planted")

    tree = ManualTree(limit=3)
    client = tree.client()
    for name in "abc":
        ask(client, name, name, stream=stream)
    first, second, third = tree.upstream.calls
    client.received()
    monkeypatch.setattr(TokenEstimator, "learn", failing)
    if stream:
        first.chunk("one")
    first.complete("one")
    if stream:
        second.chunk("two")
    second.complete("two")
    frames = client.received()
    assert codes(frames) == {"a": "", "b": "", "c": "SERVICE_UNAVAILABLE"}
    texts = {each["request_id"]: each["text"] for each in frames if each.get("text")}
    assert texts == {"a": "one", "b": "two"}
    pieces = [each["request_id"] for each in frames if each["op"] == "stream_chunk"]
    assert pieces == (["a", "b"] if stream else [])
    assert third.abort_asked


def test_a_provider_that_cannot_give_back_fails_its_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("planted")

    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    monkeypatch.setattr(FairQueue, "in_service_order", failing)
    kill(tree)
    assert outcomes(client) == dict.fromkeys(("runs", "waits"), "SERVICE_UNAVAILABLE")


def test_a_provider_that_is_stopped_gives_nothing_back() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    tree.actor("/providers/kimi").stop(block=False)
    tree.settle()
    assert outcomes(client) == dict.fromkeys(("runs", "waits"), "SERVICE_UNAVAILABLE")


def test_an_end_that_comes_again_accuses_no_other_call(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "a", "innocent")
    (call,) = tree.upstream.calls
    call.complete("done")
    assert outcomes(client) == {"a": ""}
    for _ in range(2):
        tree.actor("/providers/kimi").tell(UpstreamEnded(call.permit, None))  # type: ignore[arg-type]
        kill(tree)
    ask(client, "b", "innocent")
    assert end_all(tree, client) == [{"b": ""}]


def test_suspicion_and_verdict_lapse(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fails_to_estimate(patch)
        tree = ManualTree(limit=1)
        client = tree.client()
        ask(client, "a", "poison")
        assert outcomes(client) == {"a": "INTERNAL_ERROR"}
    tree.advance(1.0)
    ask(client, "b", "poison")
    assert outcomes(client) == {"b": "INTERNAL_ERROR"}
    tree.advance(600.0)
    ask(client, "c", "poison")
    assert end_all(tree, client) == [{"c": ""}]
