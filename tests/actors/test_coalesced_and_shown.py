"""Requests of several sessions in one call, and what operators and clients see of calls."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import FailureKind, LimitHolder
from exai_actors.core.capacity.changes import DrainProvider, SetGates
from exai_actors.core.capacity.settings import CapacitySettings, GateSettings, RetrySettings
from exai_actors.messages.connection import OutboxHigh
from exai_actors.testing.tree import ManualClient, ManualTree
from exai_actors.wire.clients.close_reasons import CloseReason


def last(frames: list[dict[str, Any]]) -> dict[str, Any]:
    return frames[-1]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("dies", ["first", "second"])
def test_a_session_that_dies_leaves_its_coalesced_call_to_the_other(
    running: bool, dies: str
) -> None:
    tree = ManualTree(limit=1, capacity=CapacitySettings(limit=1, coalesce=True))
    if not running:
        tree.client("busy").call("occupies", "something else")
    clients = {"first": tree.client("first"), "second": tree.client("second")}
    for client in clients.values():
        client.call("mine", "the same")
    number = 2 if not running else 1
    place = number + list(clients).index(dies)
    tree.actor(f"/sessions/{place}").stop(block=False)
    tree.settle()
    if not running:
        tree.upstream.calls[0].complete()
        tree.settle()
    shared = tree.upstream.calls[-1]
    assert not shared.abort_asked
    shared.complete("still here")
    other = clients["second" if dies == "first" else "first"]
    assert last(other.received())["text"] == "still here"


def test_a_queued_call_that_changes_hands_keeps_its_place_in_a_full_queue() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, queue=1, coalesce=True))
    tree.client().call("occupies", "something else")
    first, second = tree.client(), tree.client()
    for client in (first, second):
        client.call("mine", "the same")
    first.send({"op": "cancel", "request_id": "mine"})
    tree.upstream.calls[0].complete()
    tree.settle()
    tree.upstream.calls[1].complete("in its place")
    assert last(second.received())["text"] == "in its place"


def test_each_request_of_a_refused_coalesced_call_counts_once() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, coalesce=True))
    tree.client().call("occupies", "something else")
    clients = [tree.client(), tree.client()]
    for client in clients:
        client.call("mine", "the same", deadline_ms=30_000)
    tree.upstream.calls[0].fail(FailureKind.QUOTA, retry_after=3600.0)
    tree.settle()
    assert tree.statistics().refused == len(clients)


def test_a_call_that_would_wait_in_its_session_is_refused_if_it_asks_for_that() -> None:
    tree = ManualTree(limit=9, session=SessionSettings(window=1))
    client = tree.client()
    client.call("runs")
    refused = last(client.call("impatient", if_busy="refuse"))["error"]
    assert refused["code"] == "OVER_CAPACITY"
    assert refused["details"]["retry_after"] == 1
    tree.upstream.calls[0].complete()
    tree.settle()
    client.call("later", if_busy="refuse")
    assert len(tree.upstream.calls) == 2


def test_the_old_envelope_applies_to_answers_of_calls() -> None:
    tree = ManualTree(connection=ConnectionSettings(envelope="ex-ai"))
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].complete("hello")
    [output] = last(client.received())["outputs"]
    assert orjson.loads(output["text"])["content"] == "hello"


def test_the_finish_reason_of_the_service_reaches_the_client() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].complete("cut", finish_reason="length")
    assert "length" in orjson.dumps(client.received()).decode()


def test_a_connection_that_fails_is_closed_with_its_reason() -> None:
    tree = ManualTree()
    client: ManualClient = tree.client()
    client.ref.tell(object())
    tree.settle()
    assert client.outbox.closed == CloseReason.INTERNAL.value


def test_a_client_that_leaves_before_it_has_a_session_disturbs_nothing() -> None:
    tree = ManualTree()
    client = tree.connect()
    client.event(OutboxHigh())
    client.vanish()
    assert tree.board.statistics().connections == 0
    tree.client().call("a")
    assert len(tree.upstream.calls) == 1


def test_a_provider_shows_its_queue_limit_and_what_is_held() -> None:
    tree = ManualTree(
        models=("moon", "sun"),
        capacity=CapacitySettings(limit=2, queue=7, retry=RetrySettings(attempts=1)),
    )
    client = tree.client()
    client.call("a", arguments={"model": "sun"})
    tree.upstream.calls[0].fail(
        FailureKind.RATE_LIMITED, retry_after=100.0, holder=LimitHolder.MODEL
    )
    client.received()
    tree.advance(40.0)
    statistics = tree.statistics()
    assert statistics.queue_limit == 7
    [held] = statistics.model_holds
    assert (held.model, held.because) == ("sun", "rate_limited")
    assert 60.0 <= held.held_for_s <= 66.0


def test_a_drained_provider_says_so_among_its_events() -> None:
    tree = ManualTree()
    tree.change(DrainProvider())
    assert [event.what for event in tree.statistics().events] == ["draining"]


def test_a_gate_of_tokens_may_be_larger_than_one_of_requests() -> None:
    tree = ManualTree()
    assert tree.change(SetGates(GateSettings(tokens_per_day=50_000_000))) is None
    assert tree.change(SetGates(GateSettings(requests_per_day=50_000_000))) is not None
