"""Suspended actors: nothing new begins, deadlines are met, and all goes on after the resumption."""

from __future__ import annotations

import pytest

from exai_actors.core.capacity.settings import CapacitySettings, GateSettings
from exai_actors.testing.tree import ManualTree
from tests.actors.test_deaths import ask, end_all, outcomes


def test_requests_in_the_mailbox_of_a_suspended_session_expire_there() -> None:
    tree = ManualTree()
    client = tree.client().begin_session()
    tree.system.suspend("/sessions/1")
    tree.settle()
    ask(client, "short", deadline_ms=1000)
    ask(client, "long", deadline_ms=60_000)
    client.send({"op": "call_tool", "request_id": "tool", "name": "version", "arguments": {}})
    tree.advance(1.0)
    assert outcomes(client) == {}
    tree.advance(0.5)
    assert outcomes(client) == {"short": "TIMEOUT"}
    assert tree.upstream.calls == []
    tree.system.resume("/sessions/1")
    tree.settle()
    assert outcomes(client) == {"tool": ""}
    assert end_all(tree, client) == [{"long": ""}]
    assert len(tree.upstream.calls) == 1


def test_requests_that_run_expire_while_their_session_is_suspended() -> None:
    tree = ManualTree()
    client = tree.client()
    ask(client, "a", deadline_ms=2000)
    tree.system.suspend("/sessions/1")
    tree.upstream.calls[0].complete("unread")
    tree.advance(2.0)
    assert outcomes(client) == {"a": "TIMEOUT"}
    tree.system.resume("/sessions/1")
    tree.settle()
    assert outcomes(client) == {}


def test_a_suspended_provider_starts_no_call_and_its_requests_expire() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    ask(client, "runs")
    tree.system.suspend("/providers/kimi")
    tree.settle()
    ask(client, "short", deadline_ms=1000)
    ask(client, "long")
    tree.upstream.calls[0].complete("in time")
    tree.advance(40.0)
    assert outcomes(client) == {"short": "TIMEOUT"}
    assert len(tree.upstream.calls) == 1
    tree.system.resume("/providers/kimi")
    assert end_all(tree, client) == [{"runs": "", "long": ""}]


def test_a_gate_that_opens_starts_no_call_of_a_suspended_provider() -> None:
    gates = GateSettings(requests_per_minute=1, margin_s=0.0)
    tree = ManualTree(capacity=CapacitySettings(limit=5, gates=gates))
    client, other = tree.client(), tree.client()
    ask(client, "a")
    ask(client, "waits for the gate")
    ask(other, "gone")
    tree.system.suspend("/providers/kimi")
    tree.settle()
    tree.supervisors.restart("/sessions/2")
    tree.advance(120.0)
    assert len(tree.upstream.calls) == 1
    tree.system.resume("/providers/kimi")
    tree.settle()
    assert [call.prompt for call in tree.upstream.calls] == ["hi", "hi"]
    assert "waits for the gate" in end_all(tree, client, other)[0]


@pytest.mark.parametrize("path", ["/providers/kimi", "/sessions/1"])
def test_a_stream_flows_past_a_suspended_actor(path: str) -> None:
    tree = ManualTree()
    client = tree.client()
    ask(client, "a", stream=True)
    (call,) = tree.upstream.calls
    client.received()
    tree.system.suspend(path)
    tree.settle()
    call.chunk("one")
    assert [frame["chunk"] for frame in client.received()] == ["one"]
    call.complete("one")
    assert client.received() == []
    tree.system.resume(path)
    assert end_all(tree, client) == [{"a": ""}]


def test_a_provider_that_fails_while_it_is_suspended_stays_suspended() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1))
    client = tree.client()
    tree.system.suspend("/providers/kimi")
    ask(client, "a")
    tree.actor("/providers/kimi").tell_system("an unknown message")
    tree.settle()
    assert tree.upstream.calls == []
    tree.system.resume("/providers/kimi")
    assert end_all(tree, client) == [{"a": ""}]


def test_a_suspended_tree_comes_back_with_everything_that_waited() -> None:
    tree = ManualTree(limit=4)
    clients = [tree.client() for _ in range(3)]
    tree.system.suspend("/", subtree=True)
    tree.settle()
    for number, client in enumerate(clients):
        ask(client, f"r{number}")
    newcomer = tree.connect()
    assert newcomer.send({"op": "hello"}) == []
    tree.advance(1.0)
    tree.system.resume("/", subtree=True)
    tree.settle()
    (ack,) = newcomer.received()
    assert ack["ok"]
    assert end_all(tree, *clients) == [{f"r{number}": ""} for number in range(3)]


def test_a_suspended_actor_is_stopped_and_restarted_as_any_other() -> None:
    tree = ManualTree()
    client = tree.client()
    ask(client, "a")
    tree.system.suspend("/sessions/1")
    tree.settle()
    tree.supervisors.restart("/sessions/1")
    tree.settle()
    assert outcomes(client) == {"a": "INTERNAL_ERROR"}
    ask(client, "b")
    assert outcomes(client) == {}
    tree.system.resume("/sessions/1")
    tree.settle()
    for call in tree.upstream.running:
        if call.abort_asked:
            call.close(cut_off=False)
    assert end_all(tree, client) == [{"b": ""}]
