"""A request that its service did not work on is sent once more, and the rate gates count both."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.core.capacity.settlement import MAX_RESENDS
from exai_actors.testing.tree import ManualTree


def tree_with(**capacity: Any) -> ManualTree:
    return ManualTree(capacity=CapacitySettings(**{"limit": 1} | capacity))


def resend(tree: ManualTree, index: int = -1) -> None:
    """End a call as one does that ran into a connection which its service had closed."""
    tree.upstream.calls[index].fail(FailureKind.TRUNCATED, "closed the connection", resend=True)
    tree.settle()


def outcomes(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame for frame in frames if frame["op"] == "call_tool_res"]


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_request_is_sent_again_at_that_instant_on_a_fresh_connection(attempts: int) -> None:
    tree = tree_with(retry=RetrySettings(attempts=attempts))
    client = tree.client()
    client.call("a")
    resend(tree)
    first, second = tree.upstream.calls
    assert (first.fresh, second.fresh) == (False, True)
    second.complete("fine")
    assert [frame["text"] for frame in outcomes(client.received())] == ["fine"]
    assert tree.statistics().in_flight == 0


def test_a_resend_does_not_use_up_an_attempt() -> None:
    tree = tree_with(retry=RetrySettings(attempts=2, reserve=10))
    client = tree.client()
    client.call("a")
    resend(tree)
    for _ in range(2):
        tree.upstream.calls[-1].fail(FailureKind.SERVER_ERROR)
        tree.advance(30.0)
    assert len(tree.upstream.calls) == 3
    assert len(outcomes(client.received())) == 1


def test_the_number_of_resends_is_bounded() -> None:
    tree = tree_with()
    client = tree.client()
    client.call("a")
    for _ in range(MAX_RESENDS + 1):
        resend(tree)
    (outcome,) = outcomes(client.received())
    assert outcome["error"]["code"] == "PROVIDER_ERROR"
    assert len(tree.upstream.calls) == MAX_RESENDS + 1


def test_both_requests_count_at_the_gates_and_tokens_once() -> None:
    tree = tree_with(gates=GateSettings(requests_per_minute=9, tokens_per_minute=90_000))
    tree.client().call("a", "word " * 400)
    before = {gate.name: gate.used for gate in tree.statistics().gates}
    resend(tree)
    after = {gate.name: gate.used for gate in tree.statistics().gates}
    assert (before["requests_per_minute"], after["requests_per_minute"]) == (1, 2)
    assert after["tokens_per_minute"] == pytest.approx(before["tokens_per_minute"])


def test_a_resend_waits_for_a_gate_that_is_shut() -> None:
    tree = tree_with(gates=GateSettings(requests_per_minute=1, margin_s=0.0))
    client = tree.client()
    client.call("a")
    resend(tree)
    tree.advance(59.0)
    assert len(tree.upstream.calls) == 1
    tree.advance(1.1)
    assert len(tree.upstream.calls) == 2
    tree.upstream.calls[-1].complete("fine")
    assert len(outcomes(client.received())) == 1


def test_a_client_that_does_not_wait_gets_the_failure_where_a_gate_is_shut() -> None:
    tree = tree_with(gates=GateSettings(requests_per_minute=1, margin_s=0.0))
    client = tree.client()
    client.call("a", if_busy="refuse")
    resend(tree)
    (outcome,) = outcomes(client.received())
    assert "closed the connection" in outcome["error"]["message"]
    assert len(tree.upstream.calls) == 1


def test_a_client_that_does_not_wait_gets_a_resend_where_nothing_is_shut() -> None:
    tree = tree_with()
    tree.client().call("a", if_busy="refuse")
    resend(tree)
    assert len(tree.upstream.calls) == 2


def test_a_resend_goes_before_the_waiting_calls_of_its_session() -> None:
    tree = tree_with()
    client = tree.client()
    client.call("a", "first")
    client.call("b", "second")
    resend(tree)
    assert [call.prompt for call in tree.upstream.calls] == ["first", "first"]


def test_closed_connections_do_not_open_the_circuit() -> None:
    tree = tree_with(limit=9, circuit=CircuitSettings(failures_in_a_row=3))
    client = tree.client()
    for number in range(6):
        client.call(f"{number}")
        resend(tree)
        tree.upstream.calls[-1].complete("fine")
    assert len(outcomes(client.received())) >= 1
    assert tree.statistics().circuit == "closed"


def test_a_probe_of_the_circuit_that_is_sent_again_probes_again() -> None:
    circuit = CircuitSettings(failures_in_a_row=1, open_s=5.0)
    tree = tree_with(circuit=circuit, retry=RetrySettings(attempts=1))
    client = tree.client()
    client.call("a")
    tree.upstream.calls[-1].fail(FailureKind.SERVER_ERROR)
    tree.advance(20.0)
    client.call("b")
    resend(tree)
    assert len(tree.upstream.calls) == 3
    tree.upstream.calls[-1].complete("fine")
    tree.settle()
    assert tree.statistics().circuit == "closed"


def test_a_cancelled_request_is_not_sent_again() -> None:
    tree = tree_with()
    client = tree.client()
    client.call("a")
    client.send({"op": "cancel", "request_id": "a"})
    resend(tree)
    assert len(tree.upstream.calls) == 1
    assert tree.statistics().in_flight == 0


def test_a_request_whose_deadline_has_passed_is_not_sent_again() -> None:
    tree = tree_with()
    client = tree.client()
    client.call("a", deadline_ms=1000)
    tree.advance(1.5)
    resend(tree)
    assert len(tree.upstream.calls) == 1
