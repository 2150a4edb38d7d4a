"""The death of an actor: what it had in hand ends once, and honestly."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.actors.session.actor import SessionActor
from exai_actors.messages.session import Attach
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
def test_a_hello_is_refused_when_its_session_dies_again(
    hello: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_at_attach(monkeypatch, 2)
    tree = ManualTree()
    client = tree.connect()
    (refusal,) = client.send(hello)
    error = refusal["error"]
    assert error == "internal_error" or error["data"]["code"] == "INTERNAL_ERROR"
    assert client.outbox.closed == (1011, "internal error")
    client.vanish()
    assert tree.board.statistics().sessions == 0
    assert "a" not in codes(tree.client("desk").call("a"))


def test_a_hello_waits_for_no_session_that_another_connection_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree()
    first = tree.client("desk")
    first.call("a")
    second = tree.connect()
    tree.actor("/sessions/1").tell("poison")
    (ack,) = second.send(HELLO)
    assert ack["ok"]
    assert outcomes(first) == {"a": "INTERNAL_ERROR"}
    assert first.outbox.closed == (1011, "internal error")


def test_a_session_that_cannot_be_constructed_refuses_its_client_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree()
    other = tree.client("other")

    def failing(*_: object, **__: object) -> None:
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(SessionActor, "__init__", failing)
        (refusal,) = tree.connect().send(HELLO)
    assert refusal["error"] == "internal_error"
    assert tree.gave_up == []
    other.call("a")
    tree.upstream.calls[0].complete()
    assert outcomes(other) == {"a": ""}
    assert tree.client("desk").outbox.closed is None


def test_every_accepted_request_has_an_outcome_when_the_guardian_dies() -> None:
    tree = ManualTree(limit=1)
    clients = [tree.client(f"s{number}") for number in range(4)]
    for number, client in enumerate(clients):
        client.call(f"runs or waits {number}")
        client.call(f"streams or waits {number}", stream=True)
    silent = tree.connect()
    tree.broker.tell("poison")
    for number, client in enumerate(clients):
        assert outcomes(client) == {
            f"runs or waits {number}": "INTERNAL_ERROR",
            f"streams or waits {number}": "INTERNAL_ERROR",
        }
    for client in (*clients, silent):
        assert client.outbox.closed == (1011, "the broker failed and has to be restarted")
    assert len(tree.gave_up) == 1
    tree.upstream.calls[0].complete("too late")
    assert clients[0].received() == []


def test_a_connection_after_the_guardians_death_is_closed_honestly() -> None:
    tree = ManualTree()
    tree.broker.tell("poison")
    tree.settle()
    late = tree.connect()
    assert late.outbox.closed == (1011, "the broker failed and has to be restarted")


def test_a_connection_that_the_guardian_had_not_seen_yet_is_closed_too() -> None:
    tree = ManualTree()
    tree.broker.tell("poison")
    late = tree.connect()
    assert late.outbox.closed == (1011, "the broker failed and has to be restarted")
